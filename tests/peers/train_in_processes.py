"""Runs the tiny training under torchrun; arguments: folder, then what the plan replaces."""

import sys
from pathlib import Path

from conftest import DriftingDiscs
from peers.tiny_training import TinyTraining

from bench.train import make_fabric, train
from bench.training.feed import TrainingData
from bench.training.plan import make_plan
from methods.training import TRAININGS

if __name__ == "__main__":
    TRAININGS.register("tiny", TinyTraining)
    plan = make_plan("tiny", None, sys.argv[2:])
    data = TrainingData(DriftingDiscs(18, length=11), None)
    train(plan, Path(sys.argv[1]), data=data, fabric=make_fabric("fp32", "cpu"))
