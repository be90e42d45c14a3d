"""Trains under torchrun; arguments: method, recipe, folder, then what the plan replaces."""

import sys
from pathlib import Path

from conftest import DriftingDiscs
from peers.tiny_training import TinyTraining

from bench.train import make_fabric, train
from bench.training.feed import TrainingData
from bench.training.plan import make_plan
from methods.training import TRAININGS

if __name__ == "__main__":
    method, recipe, folder, *pairs = sys.argv[1:]
    TRAININGS.register("tiny", TinyTraining)
    plan = make_plan(method, recipe, pairs)
    data = TrainingData(DriftingDiscs(18, size=plan.data.size, length=11), None)
    train(plan, Path(folder), data=data, fabric=make_fabric("fp32", "cpu"))
