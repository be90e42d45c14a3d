"""The training loop: exact resume, processes, parts, checkpoints, refusals."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stand_ins
import torch
from conftest import DriftingDiscs
from peers.tiny_training import TinyTraining
from safetensors.torch import load_file

from bench.data.interface import ClipRef, DataSet
from bench.data.loader import epoch_seed
from bench.data.registry import prepare_dataset
from bench.distributed import BARRIER_TIMEOUT
from bench.flow.registry import DEFAULT
from bench.tracks import TrackRule, tracks_of
from bench.train import make_fabric, train
from bench.training.engine import Average
from bench.training.feed import TrainingData, open_training_data
from bench.training.journal import read_journal
from bench.training.plan import DataPlan, Plan, make_plan
from methods.interface import Poke
from methods.training import TRAININGS
from methods.weights_file import load_weights
from metrics.errors import DataError, MethodError, TrainingError

BASE = (f"data.flow={DEFAULT}", "loop.validate_every=0", "loop.log_every=1", "loop.checkpoint_every=5")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)


def plan(*pairs: str, recipe: str | None = None) -> Plan:
    return make_plan("tiny", recipe, [*BASE, *pairs])


def data() -> TrainingData:
    return TrainingData(DriftingDiscs(18, length=11), DriftingDiscs(6, length=11, name="held-out"))


def run(out: Path, *pairs: str, **options: Any) -> Path:
    return train(plan(*pairs), out, data=data(), **options).checkpoint


def state(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {**load_file(checkpoint / "state.safetensors"), **load_file(checkpoint / "model.safetensors")}


def assert_same(first: Path, second: Path, **tolerance: float) -> None:
    one, other = state(first), state(second)
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=tolerance.get("atol", 0), msg=key)


def interrupt_at(step: int, number: int) -> Any:
    def report(done: int, total: int, text: str) -> None:
        if done == step:
            os.kill(os.getpid(), number)

    return report


@pytest.mark.parametrize("step", [1, 6, 11])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, step: int) -> None:
    whole = run(tmp_path / "whole", "loop.ema=0.9")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", "loop.ema=0.9", report=interrupt_at(step, signal.SIGINT))
    assert (tmp_path / "cut/checkpoints" / f"step-{step:08d}").is_dir()
    assert_same(whole, run(tmp_path / "cut", "loop.ema=0.9"))
    numbers = [[e["iteration"] for e in read_journal(tmp_path / name / "log.jsonl")] for name in ("whole", "cut")]
    assert numbers[0] == numbers[1] == list(range(1, 13))


def test_going_on_from_an_older_checkpoint_repeats_the_steps_after_it(tmp_path: Path) -> None:
    whole = run(tmp_path / "run")
    shutil.copytree(whole, tmp_path / "kept")
    shutil.rmtree(whole)
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000010"]
    assert_same(run(tmp_path / "run"), tmp_path / "kept")


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(tmp_path / "run")
    shutil.copytree(whole, tmp_path / "kept")
    damage(whole)
    assert_same(run(tmp_path / "run"), tmp_path / "kept")
    assert "step-00000012 is damaged (state.safetensors has another sha256" in caplog.text


def damage(checkpoint: Path) -> None:
    with (checkpoint / "state.safetensors").open("r+b") as stream:
        stream.seek(-3, os.SEEK_END)
        stream.write(b"\xff")


def test_a_damaged_checkpoint_takes_no_place_of_a_good_one(tmp_path: Path) -> None:
    whole, cut = run(tmp_path / "whole"), tmp_path / "cut"
    pairs = ("loop.keep=1", "loop.checkpoint_every=10")
    with pytest.raises(KeyboardInterrupt):
        run(cut, *pairs, report=interrupt_at(10, signal.SIGINT))
    damage(cut / "checkpoints/step-00000010")
    with pytest.raises(KeyboardInterrupt):
        run(cut, *pairs, report=interrupt_at(7, signal.SIGINT))
    assert sorted(p.name for p in (cut / "checkpoints").iterdir()) == ["step-00000007", "step-00000010"]
    again = run(cut, *pairs)
    assert [p.name for p in (cut / "checkpoints").iterdir()] == ["step-00000012"]
    assert_same(whole, again)


def test_a_damaged_checkpoint_between_good_ones_does_not_count(tmp_path: Path) -> None:
    pairs = ("loop.keep=3", "loop.checkpoint_every=4")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *pairs, report=interrupt_at(9, signal.SIGINT))
    damage(tmp_path / "checkpoints/step-00000008")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *pairs, report=interrupt_at(10, signal.SIGINT))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [f"step-{n:08d}" for n in (4, 8, 9, 10)]


def test_parts_add_up_to_the_whole_batch(tmp_path: Path) -> None:
    one, two = (run(tmp_path / str(n), "loop.steps=4", f"loop.accumulate={n}") for n in (1, 2))
    assert_same(one, two, atol=1e-6)


def in_two_processes(*arguments: str) -> None:
    tests = Path(__file__).parent.parent
    script = tests / "peers" / "train_in_processes.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr


def test_two_processes_equal_one(tmp_path: Path) -> None:
    pairs = ("loop.steps=4", "model.max_norm=0.05")
    whole = run(tmp_path / "one", *pairs)
    in_two_processes("tiny", "small", str(tmp_path / "two"), *BASE, *pairs)
    assert_same(whole, tmp_path / "two/checkpoints/step-00000004", atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_the_poking_model_as_one_does(tmp_path: Path) -> None:
    """With all losses on. Gradients are compared, of which Adam's first moment is a tenth: its first step moves each
    weight by the sign of the gradient, whatever its size, and so turns rounding into steps. The rate is next to
    nothing, so that this does not reach the losses that follow."""
    pairs = [*BASE, "loop.steps=1", "loop.batch_size=4", "loop.ema=none", "data.size=64"]
    pairs += ["model.gan_start=0", "model.perceptual_layers=2", "model.perceptual_frames=4"]
    pairs += ["model.learning_rate=1e-9", "model.poke_encoder=plus"]
    discs = TrainingData(DriftingDiscs(18, size=64, length=11), None)
    one = train(make_plan("poking", "small-gan", pairs), tmp_path / "one", data=discs).checkpoint
    in_two_processes("poking", "small-gan", str(tmp_path / "two"), *pairs)
    first, second = state(one), state(tmp_path / "two/checkpoints/step-00000001")
    compared = [key for key in first if key.endswith("exp_avg")]
    assert len({key.split("/")[1] for key in compared}) == 4
    for key in compared:
        # Norms in a row, and the penalty on gradients, amplify the rounding of float32 to this; a wrong average would
        # be off by a factor. What is zero but for rounding, such as biases before a norm, is compared absolutely.
        assert (first[key] - second[key]).norm() < 1e-2 * first[key].norm() + 1e-6, key
    static = [key for key in compared if key.split("/")[1] == "static"]
    assert all((first[key] - second[key]).norm() < 1e-4 * first[key].norm() + 1e-7 for key in static)


def test_gradients_reach_the_parameters_of_their_optimiser_only(tmp_path: Path) -> None:
    trained = train(plan("loop.steps=1"), tmp_path, data=data()).training
    # The predictor's loss runs through the critic, whose gradients must be those of its own step still.
    critic = TinyTraining(trained.config, 0).networks["critic"]
    moved = [
        p.detach() - q.detach()
        for p, q in zip(trained.networks["critic"].parameters(), critic.parameters(), strict=True)
    ]
    for parameter, step in zip(trained.networks["critic"].parameters(), moved, strict=True):
        torch.testing.assert_close(step, -trained.config.lr * parameter.grad)


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'predictor' is not finite at or before iteration 7.*step-00000005"):
        run(tmp_path, "model.break_at=7")
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    assert all(value.isfinite().all() for value in state(tmp_path / "checkpoints/step-00000005").values())


@pytest.mark.parametrize(
    ("step", "pairs", "message"),
    [
        (9, (), "a weight is not finite at or before iteration 9, with finite losses"),
        (9, ("loop.ema=0.9",), "a weight is not finite"),
        (11, (), "a weight is not finite"),
        (9, ("model.max_norm=1.0",), "the gradient of 'predictor' is not finite at or before iteration 9"),
    ],
)
def test_weights_that_are_not_finite_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, pairs: tuple[str, ...], message: str
) -> None:
    class Steep(TinyTraining):
        """At one step the loss is finite and its gradient is not; the step is one of those after which one writes."""

        def step(self, parts: Any, engine: Any) -> dict[str, torch.Tensor]:
            found = super().step(parts, engine)
            if engine.iteration == step:
                weights = next(self.networks["predictor"].parameters())
                engine.minimise("predictor", [(weights.sum() * 0).sqrt()], self.config.max_norm)
            return found

    monkeypatch.setitem(TRAININGS._loaded, "tiny", Steep)
    good = f"step-{step // 5 * 5:08d}"
    with pytest.raises(TrainingError, match=rf"{message}.*{good}"):
        run(tmp_path, *pairs)
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert kept[-1].name == good
    assert all(value.isfinite().all() for path in kept for value in state(path).values())


def test_validation_keeps_the_best_and_writes_pictures(tmp_path: Path) -> None:
    pairs = ("loop.validate_every=4", 'loop.validation_metrics=["psnr", "ssim"]', "loop.best=psnr", "loop.ema=0.5")
    done = train(plan(*pairs), tmp_path, data=data())
    entries = [e for e in read_journal(tmp_path / "log.jsonl") if e["kind"] == "validation"]
    assert [e["iteration"] for e in entries] == [4, 8, 12]
    assert done.values == {"psnr": entries[-1]["psnr"], "ssim": entries[-1]["ssim"]}
    best = json.loads((tmp_path / "checkpoints/best/state.json").read_text())
    top = max(entries, key=lambda e: e["psnr"])
    assert (best["iteration"], best["best"]) == (top["iteration"], top["psnr"])
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_average_is_the_recursion(tmp_path: Path) -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    average = Average(module, 0.75)
    value = expected = module.weight.item()
    for n in range(30):
        with torch.no_grad():
            module.weight.fill_(float(n))
        average.update(n)
        decay = min(0.75, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(average.tensors["weight"]) == pytest.approx(expected, rel=1e-6)
    assert value != expected
    average.swap()
    assert module.weight.item() == pytest.approx(expected, rel=1e-6)
    average.swap()
    assert module.weight.item() == 29


def test_the_model_file_says_what_it_is(tmp_path: Path) -> None:
    found = load_weights(run(tmp_path) / "model.safetensors", "tiny")
    assert found.config == {"width": 4, "lr": 0.01, "noise": 0.05, "max_norm": None, "break_at": None}
    assert (found.facts["recipe"], found.facts["steps"]) == ("small", 12)
    with pytest.raises(MethodError, match="expected weights of 'poking', found 'tiny'"):
        load_weights(found.path, "poking")


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run(tmp_path, "loop.checkpoint_every=2", "loop.keep=3")
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [f"step-{n:08d}" for n in (8, 10, 12)]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("loop.batchsize=3",), r"did you mean loop.batch_size\?"),
        (("lr=3",), "expected SECTION.FIELD=VALUE with section model, data, loop"),
        (("loop.steps=0",), "steps: Input should be greater than or equal to 1"),
        (("model.width=wide",), "width: Input should be a valid integer"),
        (
            ("loop.validate_every=5", "loop.best=ssim"),
            "best: expected one of lpips_alex, fvd, psnr, found 'ssim'|expected one of",
        ),
        (("data.poke.foreground=partz",), "foreground"),
        (("data.validation_clips=1", "loop.validate_every=5"), "data.validation_clips: fvd needs at least 2, found 1"),
    ],
)
def test_a_plan_that_is_not_valid(pairs: tuple[str, ...], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        plan(*pairs)


@pytest.mark.parametrize("method", sorted(TRAININGS))
def test_a_small_recipe_is_the_default(method: str) -> None:
    made = make_plan(method)
    assert made.recipe == {"hao": "small-128"}.get(method, "small")
    assert made == make_plan(method, made.recipe)


@pytest.mark.parametrize(
    ("method", "pair", "field"),
    [
        ("poking", "model.betas=[1.5, 2]", "betas"),
        ("poking", "model.betas=[0.9, 1.0]", "betas"),
        ("savp", "model.beta1=1.5", "beta1"),
        ("savp", "model.beta2=-0.1", "beta2"),
    ],
)
def test_decays_that_adam_does_not_take_are_refused(method: str, pair: str, field: str) -> None:
    with pytest.raises(TrainingError, match=rf"{field}.*(less than 1|greater than or equal to 0)"):
        make_plan(method, pairs=[pair])


def test_one_clip_is_enough_for_metrics_of_frames() -> None:
    assert plan("data.validation_clips=1").data.validation_clips == 1  # there is no validation
    pairs = ("loop.validate_every=5", 'loop.validation_metrics=["psnr"]', "loop.best=psnr")
    assert plan("data.validation_clips=1", *pairs).loop.best == "psnr"


def test_recipes_and_overrides() -> None:
    found = plan("model.lr=0.5", "data.augmentation.hue=[0.0, 0.1]", "data.poke.background=0.25", recipe="clipped")
    assert (found.recipe, found.model["lr"], found.model["max_norm"]) == ("clipped", 0.5, 0.1)
    assert found.data.augmentation is not None
    assert found.data.augmentation.hue == (0.0, 0.1)
    assert found.data.poke.background == 0.25
    with pytest.raises(TrainingError, match=r"no recipe 'smal'; did you mean 'small'\?"):
        plan(recipe="smal")


def test_a_configuration_that_does_not_fit_the_data_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="expected at most 64 px, found 128"):
        run(tmp_path / "out", "data.size=128")
    assert not (tmp_path / "out").exists()


def test_a_training_without_a_predictor_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nameless(TinyTraining):
        def __init__(self, config: Any, seed: int) -> None:
            super().__init__(config, seed)
            self.networks = {"generator": self.networks["predictor"], "critic": self.networks["critic"]}

    monkeypatch.setitem(TRAININGS._loaded, "tiny", Nameless)
    with pytest.raises(MethodError, match=r"tiny: expected a network called 'predictor'.*found generator, critic"):
        run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_plan_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(TrainingError, match=r"model: |lr: 0\.01 there, 0\.5 here"):
        run(tmp_path, "model.lr=0.5")
    run(tmp_path, "loop.log_every=3", "loop.keep=1")


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="take a multiple of 3"):
        run(tmp_path, "loop.accumulate=3")


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.training.checkpoints as module

    real, calls = module.save_file, []

    def full(*arguments: Any, **keywords: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments, **keywords)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(
        TrainingError, match=r"step-00000010 cannot be written \(No space left on device\).*step-00000005"
    ):
        run(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]


def test_sources_are_held_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.training.feed as module

    discs = DriftingDiscs(20)
    monkeypatch.setattr(module, "open_dataset", lambda *_, **__: discs)
    found = open_training_data(DataPlan(dataset="discs", validation_clips=7))
    assert found.validation is not None
    held, kept = found.validation.clips(), found.training.clips()
    assert len(held) == 7
    assert not {ref.source for ref in held} & {ref.source for ref in kept}
    # Three clips a source: three sources give nine clips, two of which are in neither.
    assert len(kept) in (11, 12)
    assert open_training_data(DataPlan(dataset="discs", validation_clips=7)).validation.clips() == held
    with pytest.raises(TrainingError, match="leaves nothing to learn from"):
        open_training_data(DataPlan(dataset="discs", validation_clips=20))


def test_held_clips_are_spread_over_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.training.feed as module

    discs = DriftingDiscs(100)
    monkeypatch.setattr(module, "open_dataset", lambda *_, **__: discs)
    discs._refs = [ClipRef(f"{video}@{start:06d}", video) for video in "abc" for start in range(1000)]
    held = open_training_data(DataPlan(dataset="discs", validation_clips=4)).validation.clips()
    [video] = {ref.source for ref in held}
    assert [ref.clip_id for ref in held] == [f"{video}@{start:06d}" for start in (125, 375, 625, 875)]
    # Where each source has one clip, they are as many sources, in the order of their lots.
    discs._refs = [ClipRef(f"{number}@000000", f"{number}") for number in range(100)]
    held = open_training_data(DataPlan(dataset="discs", validation_clips=4)).validation.clips()
    assert [ref.source for ref in held] == sorted(sorted(map(str, range(100)), key=module._lot)[:4])


@pytest.mark.parametrize("clips", [2, 3, 5])
def test_of_videos_that_are_tested_the_ends_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: int
) -> None:
    monkeypatch.setenv("POKEBENCH_CACHE", str(tmp_path / "cache"))
    prepare_dataset("poking-plants", stand_ins.plants(tmp_path / "raw"), size=32, workers=1, allow_partial=True)
    plan = DataPlan(dataset="poking-plants", size=32, horizon=4, validation_clips=clips)
    found = open_training_data(plan)
    assert found.validation is not None

    def frames(data: DataSet) -> dict[str, set[int]]:
        seen: dict[str, set[int]] = {}
        for ref in data.clips():
            video, _, start = ref.clip_id.partition("@")
            seen.setdefault(video, set()).update(range(int(start), int(start) + 5))
        return seen

    held, kept = frames(found.validation), frames(found.training)
    # 40, 50 and 60 frames: of 32, 40 and 48 for training the last is never used.
    ends = {"VID_0_0": 31, "VID_0_1": 39, "VID_12_0": 47}
    assert len(found.validation.clips()) == clips
    assert len(held) == min(clips, 3)
    assert sum(map(len, held.values())) == 5 * clips  # none overlap
    for video, end in ends.items():
        whole = set(range(end))
        assert held.get(video, set()) | kept[video] == whole
        assert not held.get(video, set()) & kept[video]
        assert kept[video] == set(range(len(kept[video])))
    with pytest.raises(TrainingError, match="leaves nothing to learn from"):
        open_training_data(plan.model_copy(update={"validation_clips": 100}))


def test_a_training_on_tracks_is_given_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks of a clip reach the step, moved as its picture was; validation gives them to the method."""
    seen = []

    class OnTracks(TinyTraining):
        inputs = frozenset({"tracks"})

        def step(self, parts: Any, engine: Any) -> dict[str, torch.Tensor]:
            seen.extend(zip(parts[0].clip_ids, parts[0].tracks, strict=True))
            poke = Poke(parts[0].tracks[:, 0, 0], parts[0].tracks[:, 0, -1] - parts[0].tracks[:, 0, 0])
            return super().step([replace(parts[0], poke=poke)], engine)

        def method(self) -> Any:
            method = super().method()
            predict = method.predict

            def from_tracks(conditioning: Any, samples: int, seed: int) -> torch.Tensor:
                assert conditioning.tracks.shape == (len(conditioning.clip_ids), 3, 11, 2)
                poke = Poke(conditioning.tracks[:, 0, 0], conditioning.tracks[:, 0, -1])
                return predict(replace(conditioning, poke=poke), samples, seed)

            method.predict = from_tracks
            return method

    monkeypatch.setitem(TRAININGS._loaded, "tiny", OnTracks)
    pairs = ["loop.steps=3", "data.tracks.source=flow", "data.tracks.count=3", "loop.validate_every=3"]
    pairs += ['loop.validation_metrics=["psnr"]', "loop.best=psnr"]
    discs = data()
    train(plan(*pairs), tmp_path / "plain", data=discs)
    assert len(seen) == 12
    clip = discs.training.load(seen[0][0])
    rule = TrackRule(count=3)
    torch.testing.assert_close(seen[0][1], tracks_of([clip], rule, epoch_seed(0, 0), 1)[0])
    first = dict(seen)
    seen.clear()
    train(plan(*pairs, "data.augmentation.colour=0", "data.augmentation.geometry=1"), tmp_path / "moved", data=discs)
    assert all((first[clip_id] - found).abs().max() > 0.1 for clip_id, found in seen)


def test_mixed_precision_trains_near_full_precision(tmp_path: Path) -> None:
    full, half = (run(tmp_path / p, "loop.steps=3", f"loop.precision={p}") for p in ("fp32", "bf16"))
    first, second = (load_file(path / "model.safetensors") for path in (full, half))
    assert all(value.dtype == torch.float32 for value in second.values())
    apart = sum((first[key] - second[key]).abs().sum() for key in first)
    assert 0 < apart < 0.05 * sum(value.abs().sum() for value in first.values())


def test_half_precision_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loop\.precision=fp16 needs a GPU; use bf16 or fp32"):
        run(tmp_path, "loop.precision=fp16")


def test_half_precision_with_clipped_gradients_is_refused(tmp_path: Path) -> None:
    pairs = ("loop.precision=fp16", "model.filters=4")
    with pytest.raises(TrainingError, match=r"fp16 does not go with model\.max_norm=30000000\.0 in srvp; take bf16"):
        train(make_plan("srvp", "small", pairs), tmp_path / "out")
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        train(make_plan("srvp", "small", [*pairs, "model.max_norm=none"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_processes_wait_for_the_first_as_long_as_in_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Recorded:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        def launch(self) -> None:
            pass

    monkeypatch.setattr("lightning.fabric.Fabric", Recorded)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    make_fabric("fp32", "cpu")
    assert made[0]["strategy"]._timeout == BARRIER_TIMEOUT


def test_clips_shorter_than_the_horizon_are_refused(tmp_path: Path, moving_video: Any) -> None:
    import cv2

    for number in range(3):
        folder = tmp_path / "videos" / f"clip{number}"
        folder.mkdir(parents=True)
        for t, frame in enumerate(moving_video(7, 40, 40, dx=1, dy=0, seed=number)):
            cv2.imwrite(str(folder / f"{t:03d}.png"), frame)
    short = make_plan("tiny", None, [*BASE, "data.validation_clips=0"], str(tmp_path / "videos"))
    with pytest.raises(DataError, match="11"):
        train(short, tmp_path / "out")


def test_a_training_begins_from_given_weights(tmp_path: Path) -> None:
    first = run(tmp_path / "first", "loop.steps=5")
    made = make_plan("tiny", None, [*BASE, "loop.steps=6"], start=first / "model.safetensors")
    assert made.start is not None
    assert made.start.steps == 5
    fresh = made.model_copy(update={"start": None})
    assert made.identity != fresh.identity
    training = made.build()
    made.begin(training)
    for key, value in load_file(first / "model.safetensors").items():
        torch.testing.assert_close(training.networks["predictor"].state_dict()[key], value, rtol=0, atol=0)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "cut", data=data(), report=interrupt_at(2, signal.SIGINT))
    whole = train(made, tmp_path / "whole", data=data()).checkpoint
    assert_same(whole, train(made, tmp_path / "cut", data=data()).checkpoint)
    assert load_weights(whole / "model.safetensors", "tiny").facts["steps_before"] == 5
    with pytest.raises(TrainingError, match="start"):
        train(fresh, tmp_path / "whole", data=data())


def test_a_start_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "first", "loop.steps=5") / "model.safetensors"
    with pytest.raises(MethodError, match="there is no weights file"):
        make_plan("tiny", None, BASE, start=tmp_path / "nowhere.safetensors")
    with pytest.raises(MethodError, match="expected weights of 'poking', found 'tiny'"):
        make_plan("poking", "small", (), start=first)
    made = make_plan("tiny", None, [*BASE, "loop.steps=6"], start=first)
    shutil.copy(run(tmp_path / "other", "loop.steps=1") / "model.safetensors", first)
    with pytest.raises(TrainingError, match="has changed"):
        train(made, tmp_path / "out", data=data())


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ("loop.steps=7", "model.learning_rate=0.25", "loop.ema=0.5"),
        (
            "data.poke.foreground=parts",
            "data.clips=9",
            "data.frame_rate=5.0",
            'loop.validation_metrics=["psnr"]',
            "loop.best=psnr",
        ),
        ("loop.best=psnr", "data.augmentation.colour=0.5"),
    ],
)
def test_a_plan_tells_the_command_that_makes_it(pairs: tuple[str, ...]) -> None:
    made = make_plan("poking", "small-plus", pairs)
    program, verb, method, option, recipe, *rest = shlex.split(made.command)
    assert (program, verb, method, option, recipe) == ("bench", "train", "poking", "--recipe", "small-plus")
    assert rest[::2] == ["--set"] * (len(rest) // 2)
    assert len(rest) // 2 >= len(pairs)
    assert make_plan("poking", "small-plus", rest[1::2]) == made
