import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Convolved, DriftingDiscs

from bench.evaluate import check_fit, evaluate
from bench.evaluation.scoring import quantised
from bench.protocol import Protocol
from bench.store import Store
from methods.interface import MethodCard
from methods.registry import build_method
from metrics.errors import DataError, MethodError, ProtocolError, RecordError

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path, discs, protocol, *methods, **options):
    return evaluate(list(methods), discs, protocol, Store(tmp_path), **options)


def same_bits(first, second):
    assert first.facts.clip_ids == second.facts.clip_ids
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name


def test_rows_equal_the_metrics_called_by_hand(tmp_path, discs, protocol):
    from metrics import lpips, psnr, ssim

    [record] = run(tmp_path, discs, protocol, build_method("copy-last-frame"))
    clip = discs.load(record.facts.clip_ids[5])
    frames = clip.frames.float()[None] / 255
    target, pred = frames[:, 2:], frames[:, 1:2].expand(-1, 10, -1, -1, -1)
    for name, expected in (
        ("psnr", psnr(pred, target)),
        ("ssim", ssim(pred, target)),
        ("lpips_alex", lpips(pred, target)),
    ):
        assert record.frame_values(name)[5, 0] == pytest.approx(expected[0].numpy(), abs=1e-7)


def test_each_clip_is_read_once_for_all_methods_and_metrics(tmp_path, discs, protocol):
    run(tmp_path, discs, protocol, build_method("copy-last-frame"), build_method("noisy-truth"), Convolved())
    assert sorted(discs.loads) == [ref.clip_id for ref in discs.clips()]


def test_a_finished_record_is_not_computed_again(tmp_path, discs, protocol):
    [first] = run(tmp_path, discs, protocol, Convolved())
    again = Convolved()
    [second] = run(tmp_path, discs, protocol, again)
    assert again.calls == 0
    same_bits(first, second)


def test_another_revision_is_computed_anew(tmp_path, discs, protocol):
    from dataclasses import replace

    run(tmp_path, discs, protocol, Convolved())
    newer = Convolved()
    newer.card = replace(newer.card, revision="2")
    [record] = run(tmp_path, discs, protocol, newer)
    assert newer.calls > 0
    assert record.facts.method.revision == "2"


ALL_METRICS = ("fvd", "kvd", "psnr", "ssim", "lpips_alex")


@pytest.fixture(scope="module")
def eleven(tmp_path_factory):
    """All metrics on eleven clips, 32 px, two samples, batches of 8."""
    protocol = Protocol(dataset="discs", size=32, metrics=ALL_METRICS, min_clips=4, samples=2, horizon=9)
    data = DriftingDiscs(clips=11, length=11)
    return protocol, evaluate([Convolved()], data, protocol, Store(tmp_path_factory.mktemp("eleven")))[0]


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batch_size_and_clip_order_do_not_matter(tmp_path, eleven, batch_size):
    protocol, reference = eleven
    shuffled = DriftingDiscs(clips=11, length=11)
    shuffled._refs.reverse()
    [found] = run(tmp_path, shuffled, protocol, Convolved(), batch_size=batch_size)
    same_numbers(found, reference)


def same_numbers(found, reference):
    """Rows to 1e-6, set metrics to 1e-6 relative."""
    assert found.facts.clip_ids == reference.facts.clip_ids
    for name in ("psnr", "ssim", "lpips_alex"):
        assert found.frame_values(name) == pytest.approx(reference.frame_values(name), abs=1e-6)
    for name in ("fvd", "kvd"):
        assert found.facts.set_results[name].value == pytest.approx(reference.facts.set_results[name].value, rel=1e-6)


class Dies(Convolved):
    """Raises after some batches, as a killed process would stop."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def predict(self, conditioning, samples, seed):
        if self.calls == self.after:
            raise KeyboardInterrupt
        return super().predict(conditioning, samples, seed)


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_a_stopped_run_goes_on_bit_by_bit(tmp_path, discs, protocol, after):
    [whole] = run(tmp_path / "whole", discs, protocol, Convolved(), batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", discs, protocol, Dies(after), batch_size=4)
    rest = Convolved()
    [found] = run(tmp_path / "parts", discs, protocol, rest, batch_size=4)
    assert rest.calls == 5 - after
    same_bits(whole, found)
    assert not (tmp_path / "parts" / ".partial").exists()


def test_a_run_goes_on_with_another_batch_size(tmp_path, discs, protocol):
    [whole] = run(tmp_path / "whole", discs, protocol, Convolved(), batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", discs, protocol, Dies(3), batch_size=4)
    [found] = run(tmp_path / "parts", discs, protocol, Convolved(), batch_size=7)
    assert found.frame_values("psnr") == pytest.approx(whole.frame_values("psnr"), abs=1e-6)
    assert found.facts.provenance.batch_sizes == (4, 7)


SCRIPT = """
import os, sys
from pathlib import Path
from conftest import Convolved, DriftingDiscs
from bench.distributed import world
from bench.evaluate import evaluate
from bench.protocol import Protocol
from bench.store import Store

class Killed(Convolved):
    def predict(self, conditioning, samples, seed):
        if self.calls == int(os.environ.get("DIE_AFTER", "-1")):
            os.kill(os.getpid(), 9)
        return super().predict(conditioning, samples, seed)

protocol = Protocol(dataset="discs", size=32, metrics={metrics!r}, min_clips=4, samples=2, horizon=9)
with world() as peers:
    data = DriftingDiscs(clips=11, length=11)
    evaluate([Killed()], data, protocol, Store(Path({store!r})), batch_size=2, world=peers)
"""


def launch(tmp_path, store, metrics, *, die_after=None, launcher=()):
    """Runs SCRIPT in a process of its own and returns the exit status."""
    path = tmp_path / f"{store}.py"
    path.write_text(SCRIPT.format(metrics=metrics, store=str(tmp_path / store)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    if die_after is not None:
        environment["DIE_AFTER"] = str(die_after)
    command = [sys.executable, *launcher, str(path)]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode


def record_of(tmp_path, store):
    [record] = Store(tmp_path / store).records()
    return record


@pytest.mark.parametrize("metrics", [("psnr", "ssim"), pytest.param(ALL_METRICS, marks=pytest.mark.slow)])
def test_killed_at_five_points_and_resumed_bit_by_bit(tmp_path, metrics):
    assert launch(tmp_path, "whole", metrics) == 0
    for after in (0, 1, 2, 4, 5):
        assert launch(tmp_path, f"killed{after}", metrics, die_after=after) == -signal.SIGKILL
        assert launch(tmp_path, f"killed{after}", metrics) == 0
        same_bits(record_of(tmp_path, "whole"), record_of(tmp_path, f"killed{after}"))


def test_three_processes_give_the_numbers_of_one(tmp_path, eleven):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3")
    assert launch(tmp_path, "three", ALL_METRICS, launcher=launcher) == 0
    found = record_of(tmp_path, "three")
    assert found.facts.provenance.processes == (3,)
    same_numbers(found, eleven[1])


class Faulty(Convolved):
    """Spoils the prediction of one clip."""

    def __init__(self, spoil):
        super().__init__("faulty")
        self.spoil = spoil

    def predict(self, conditioning, samples, seed):
        pred = super().predict(conditioning, samples, seed)
        return self.spoil(pred) if "source004@000013" in conditioning.clip_ids else pred


def put(value):
    def spoil(pred):
        pred[1, 0, 2, 1, 3, 4] = value
        return pred

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (put(float("nan")), r"NaN or infinite values for 1 clips \(source004@000013\)"),
        (put(float("inf")), "NaN or infinite"),
        (put(1.5), r"values in \[.*1\.5\], expected \[0, 1\]"),
        (lambda pred: pred * 255, "expected"),
        (lambda pred: pred[:, :, :-1], r"expected shape \[B, S, T, 3, H, W\] = \[4, 1, 10, 3, 32, 32\]"),
        (lambda pred: pred[..., :16], "expected shape"),
        (lambda pred: (pred * 255).to(torch.uint8), "expected a float tensor, found a tensor of torch.uint8"),
        (lambda pred: pred.numpy(), "expected a float tensor, found ndarray"),
    ],
)
def test_a_bad_prediction_is_named_and_nothing_is_lost(tmp_path, discs, protocol, spoil, message):
    with pytest.raises(MethodError, match=message):
        run(tmp_path, discs, protocol, Convolved(), Faulty(spoil), batch_size=4)
    mended = Faulty(lambda pred: pred)
    [_, record] = run(tmp_path, discs, protocol, Convolved(), mended, batch_size=4)
    assert mended.calls == 2  # three of five batches were kept
    assert len(record.facts.clip_ids) == 20


def test_a_full_disk_stops_with_a_cure_and_the_next_run_goes_on(tmp_path, discs, protocol, monkeypatch):
    import errno

    [whole] = run(tmp_path / "whole", discs, protocol, Convolved(), batch_size=4)
    real, writes = Path.write_bytes, []

    def fills_up(path, content):
        writes.append(path)
        if len(writes) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    with pytest.raises(RecordError, match="Free some space"):
        run(tmp_path / "full", discs, protocol, Convolved(), batch_size=4)
    monkeypatch.undo()
    rest = Convolved()
    [found] = run(tmp_path / "full", discs, protocol, rest, batch_size=4)
    assert rest.calls == 3
    same_bits(whole, found)


def test_a_full_disk_at_the_record_itself_loses_no_batch(tmp_path, discs, protocol, monkeypatch):
    import errno

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)  # record.json is the only text file
    with pytest.raises(RecordError, match="Free some space"):
        run(tmp_path, discs, protocol, Convolved())
    monkeypatch.undo()
    rest = Convolved()
    run(tmp_path, discs, protocol, rest)
    assert rest.calls == 0


def test_the_same_method_twice_is_refused(tmp_path, discs, protocol):
    with pytest.raises(MethodError, match="given once"):
        run(tmp_path, discs, protocol, Convolved(), Convolved())


def of_seed(seed):
    from dataclasses import replace

    method = Convolved()
    method.card = replace(method.card, weights={"model.safetensors": f"{seed}" * 64})
    return method


def test_two_trainings_of_a_method_are_two_rows(tmp_path, discs, protocol):
    methods = [of_seed(1), of_seed(2)]
    records = run(tmp_path, discs, protocol, *methods)
    assert [record.facts.method.weights for record in records] == [method.card.weights for method in methods]
    assert all(method.calls for method in methods)
    same_bits(*records)
    again = [of_seed(2), of_seed(3)]
    run(tmp_path, discs, protocol, *again)
    assert not again[0].calls
    assert again[1].calls


def test_what_goes_wrong_with_a_training_names_its_weights(tmp_path, discs, protocol):
    broken = of_seed(2)
    broken.predict = lambda *_: 1 / 0
    with pytest.raises(MethodError, match=r"convolved \(model.safetensors, 222222\)"):
        run(tmp_path, discs, protocol, of_seed(1), broken)


def test_the_same_weights_twice_are_refused(tmp_path, discs, protocol):
    with pytest.raises(MethodError, match="given once"):
        run(tmp_path, discs, protocol, of_seed(1), of_seed(1))


def test_data_of_another_shape_is_refused(tmp_path, protocol):
    with pytest.raises(DataError, match=r"expected uint8 \[12, 3, 32, 32\]"):
        run(tmp_path, DriftingDiscs(size=40), protocol, Convolved())


def test_data_without_clips_is_refused(tmp_path, protocol):
    with pytest.raises(DataError, match="no clips"):
        run(tmp_path, DriftingDiscs(clips=0), protocol, Convolved())


@pytest.mark.parametrize(
    ("card", "message"),
    [({"min_context": 3}, "needs 3 context frames"), ({"sizes": frozenset({64})}, r"predicts \[64\] px"),
     ({"horizons": frozenset({16})}, r"predicts \[16\] frames")],
)  # fmt: skip
def test_a_method_that_does_not_fit_is_refused(protocol, card, message):
    with pytest.raises(MethodError, match=message):
        check_fit(MethodCard(name="m", title="M", revision="1", **card), protocol)


def test_frames_too_small_for_a_metric_are_refused_before_any_work(tmp_path, protocol):
    with pytest.raises(ProtocolError, match="lpips_alex needs frames of at least"):
        run(tmp_path, DriftingDiscs(size=16), protocol.model_copy(update={"size": 16}), Convolved())


def test_fvd_is_refused_with_the_reason_and_the_rows_are_kept(tmp_path, discs, protocol):
    few = protocol.model_copy(update={"metrics": ("fvd", "psnr"), "min_clips": 4})
    [record] = run(tmp_path / "few", DriftingDiscs(clips=3), few, build_method("copy-last-frame"))
    assert "needs 4 clips" in record.facts.set_results["fvd"].refused
    assert record.frame_values("psnr").shape == (3, 1, 10)
    short = protocol.model_copy(update={"metrics": ("fvd", "psnr"), "horizon": 8})
    [record] = run(tmp_path / "short", DriftingDiscs(length=10), short, build_method("copy-last-frame"))
    assert "needs 9 frames" in record.facts.set_results["fvd"].refused


def test_samples_are_independent_of_each_other_and_kept(tmp_path, discs, protocol):
    [record] = run(tmp_path, discs, protocol.model_copy(update={"samples": 3}), Convolved())
    values = record.frame_values("psnr")
    assert values.shape == (20, 3, 10)
    assert (np.ptp(values, axis=1) > 0).all()


def test_identical_frames_keep_infinite_psnr_in_the_rows(tmp_path, discs, protocol):
    exact = build_method("noisy-truth:sigma=0")
    [record] = run(tmp_path, discs, protocol, exact)
    assert np.isposinf(record.frame_values("psnr")).all()


def test_quantise_is_applied_to_predictions():
    grey = (torch.arange(256) / 255).float()
    assert torch.equal(quantised(grey, "round"), grey)
    assert torch.equal(quantised(grey, "truncate"), grey)
    slack = torch.tensor([-1e-6, 1 + 1e-6])  # what check_prediction lets through
    assert quantised(slack, "round").tolist() == quantised(slack, "truncate").tolist() == [0, 1]
    between = torch.tensor([10.6 / 255])
    assert quantised(between, "round") * 255 == pytest.approx(11)
    assert quantised(between, "truncate") * 255 == pytest.approx(10)
    assert quantised(between, "none") is between


def test_reference_methods_alone_see_the_truth(tmp_path, discs, protocol):
    class Spy(Convolved):
        def predict(self, conditioning, samples, seed):
            self.seen = conditioning
            return super().predict(conditioning, samples, seed)

    spy = Spy()
    run(tmp_path, discs, protocol, spy, build_method("noisy-truth"), batch_size=20)
    assert spy.seen.context.shape == (20, 2, 3, 32, 32)
    first = discs.load(spy.seen.clip_ids[0]).frames[:2].float() / 255
    assert torch.equal(spy.seen.context[0], first)


def test_missing_predictions_are_found_before_any_work(tmp_path, discs, protocol):
    folder = tmp_path / "mine"
    folder.mkdir()
    np.savez(folder / f"{discs.clips()[0].clip_id}.npz", video=np.zeros((10, 32, 32, 3), np.uint8))
    mine = build_method(f"predictions:folder={folder}")
    before = Convolved()
    with pytest.raises(MethodError, match="19 of 20"):
        run(tmp_path / "store", discs, protocol, before, mine)
    assert before.calls == 0


class Watchful(Convolved):
    """Notes under which arithmetic it is asked to predict."""

    def predict(self, conditioning, samples, seed):
        convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
        self.seen = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
        self.seen += (convolutions.fp32_precision, products.fp32_precision)
        with torch.autocast("cpu", torch.bfloat16):  # its own choice stands
            self.own = torch.is_autocast_enabled("cpu")
        return super().predict(conditioning, samples, seed)


def test_predictions_are_made_in_full_float32_whatever_the_user_has_set(tmp_path, discs, protocol):
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            run(tmp_path, discs, protocol, method := Watchful())
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert method.seen == (False, False, "ieee", "ieee")
    assert method.own


class Follows(Convolved):
    """Answers a poke by brightening the poked pixel in proportion to its length, so that a test can see it."""

    def __init__(self):
        super().__init__("follows")
        self.card = MethodCard(name="follows", title="Follows", revision="1", inputs=frozenset({"context", "poke"}))

    def prepare(self, device):
        """Nothing to load."""

    def predict(self, conditioning, samples, seed):
        self.seen = conditioning.poke
        pred = conditioning.x0[:, None, None].repeat(1, 1, conditioning.horizon, 1, 1, 1)
        for row, (x, y) in enumerate(conditioning.poke.location.long().tolist()):
            pred[row, ..., y, x] = (conditioning.poke.displacement[row].norm() / 32).clamp(max=1)
        return pred


def test_pokes_are_those_of_the_rule_and_stay_in_the_record(tmp_path, discs, protocol):
    from bench.flow.source import FlowSource
    from bench.pokes import PokeRule, pokes_for
    from bench.tables import build_table

    poked = protocol.model_copy(update={"poke": PokeRule(), "metrics": ("psnr",)})
    [record] = run(tmp_path, discs, poked, Follows(), batch_size=7)
    expected = pokes_for(discs, record.facts.clip_ids, FlowSource(discs, "dis", context=2), PokeRule(), 0)
    assert np.array_equal(record.arrays["poke/location"], expected.location.numpy())
    assert np.array_equal(record.arrays["poke/displacement"], expected.displacement.numpy())
    text = build_table("T", [record]).markdown()
    assert "2 frames + 1 poke" in text
    assert "Pokes: simulated from dis flow" in text


def test_a_poking_method_needs_a_protocol_with_pokes(tmp_path, discs, protocol):
    with pytest.raises(MethodError, match="takes a poke, the protocol gives none"):
        run(tmp_path, discs, protocol, Follows())


def test_tracks_are_those_of_the_rule_and_the_table_says_how_much_was_given(tmp_path, discs, protocol):
    from bench.tables import build_table
    from bench.tracks import TrackRule, tracks_of

    seen = {}

    class OnTracks(Follows):
        def __init__(self):
            super().__init__()
            inputs = frozenset({"context", "tracks"})
            self.card = MethodCard(name="on-tracks", title="On tracks", revision="1", inputs=inputs)

        def predict(self, conditioning, samples, seed):
            seen.update(zip(conditioning.clip_ids, conditioning.tracks, strict=True))
            return conditioning.x0[:, None, None].repeat(1, 1, conditioning.horizon, 1, 1, 1)

    tracked = protocol.model_copy(update={"tracks": TrackRule(count=3), "metrics": ("psnr",)})
    [record] = run(tmp_path, discs, tracked, OnTracks(), batch_size=7)
    clip_id = record.facts.clip_ids[4]
    wanted = tracks_of([discs.load(clip_id)], TrackRule(count=3), protocol.seed, protocol.context)[0]
    assert torch.equal(seen[clip_id], wanted)
    text = build_table("T", [record]).markdown()
    assert f"2 frames + 3 tracks x {protocol.horizon} frames" in text
    assert "Tracks: 3 points followed through dis flow, foreground none." in text
    with pytest.raises(MethodError, match="takes tracks, the protocol gives none"):
        run(tmp_path, discs, protocol, OnTracks())


def test_after_a_background_poke_nothing_is_to_move(tmp_path, discs, protocol):
    from bench.pokes import PokeRule

    still = protocol.model_copy(update={"poke": PokeRule(background=1.0), "metrics": ("psnr",)})
    [record] = run(tmp_path, discs, still, build_method("copy-last-frame"))
    assert np.isposinf(record.frame_values("psnr")).all()
