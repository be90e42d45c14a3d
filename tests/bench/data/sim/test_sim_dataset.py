"""The simulated world as a data set of the harness."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.data.interface import DataSet, Settings
from bench.data.registry import DATASETS
from bench.data.sim import dataset
from bench.data.sim.dataset import SimDataSet, source
from bench.data.sim.generate import ensure_shards
from bench.data.sim.splits import SPLITS, Split
from metrics.errors import DataError

POKES = Split("sim-mini-pokes", "for tests", "pull", ("palm", "human"), 8, 1, 8)


@pytest.fixture(scope="module")
def natural(tiny_split: Split) -> SimDataSet:
    ensure_shards(tiny_split, 64, processes=1)
    return SimDataSet(tiny_split, Settings())


def test_it_is_a_data_set_of_the_harness(natural: SimDataSet) -> None:
    assert isinstance(natural, DataSet)
    refs = natural.clips()
    assert len(refs) == 6
    assert len({ref.clip_id for ref in refs}) == 6
    assert len({ref.source for ref in refs}) == 3
    assert refs[2].clip_id == "sim-tiny-00001-human@000"
    assert "6 clips of 3 scenes, 64 px, 12 frames at 10 fps" in natural.describe()
    assert natural.skipped == ()


def test_clips_are_whole(natural: SimDataSet) -> None:
    for ref in natural.clips():
        clip = natural.load(ref.clip_id)
        assert (clip.clip_id, clip.source) == (ref.clip_id, ref.source)
        assert clip.frames.shape == (12, 3, 64, 64)
        assert clip.frames.dtype == torch.uint8
        assert clip.frame_rate == 10
        assert clip.flow is not None
        assert clip.flow.shape == (2, 64, 64)
        assert clip.flow.dtype == torch.float32
        assert clip.parts is not None
        assert clip.parts.dtype == torch.uint8
        assert clip.tracks is not None
        assert clip.tracks.shape == (32, 12, 2)
        assert clip.poke is None


def test_eleven_frames_leave_out_the_first(tiny_split: Split, natural: SimDataSet) -> None:
    short = SimDataSet(tiny_split, Settings(length=11))
    name = natural.clips()[0].clip_id
    one, other = natural.load(name), short.load(name)
    assert (natural.context, short.context) == (2, 1)
    assert torch.equal(one.frames[1:], other.frames)
    assert one.tracks is not None
    assert other.tracks is not None
    assert torch.equal(one.tracks[:, 1:], other.tracks)
    assert one.flow is not None
    assert other.flow is not None
    assert torch.equal(one.flow, other.flow)
    assert natural.content_hash != short.content_hash


def test_still_ground_is_hidden_where_moving_pixels_end_up(natural: SimDataSet) -> None:
    """Nearly: surfaces that x0 does not show come out as well."""
    apart = []
    for ref in natural.clips():
        clip = natural.load(ref.clip_id)
        assert clip.flow is not None
        assert clip.visible is not None
        still = clip.flow.eq(0).all(0)
        rows, columns = torch.nonzero(~still, as_tuple=True)
        ends = torch.stack([columns + clip.flow[0, rows, columns], rows + clip.flow[1, rows, columns]], 1)
        y, x = torch.nonzero(still & ~clip.visible, as_tuple=True)
        apart.append(torch.cdist(torch.stack([x, y], 1).float(), ends).amin(1))
    nearest = torch.cat(apart)
    assert len(nearest) > 50
    assert (nearest < 1.5).float().mean() > 0.95


def test_the_content_hash_names_the_content(tiny_split: Split, natural: SimDataSet) -> None:
    assert SimDataSet(tiny_split, Settings()).content_hash == natural.content_hash
    assert SimDataSet(tiny_split, Settings(max_clips=4)).content_hash != natural.content_hash
    assert len(natural.content_hash) == 64


def test_fewer_clips_come_from_as_many_scenes_as_possible(tiny_split: Split) -> None:
    some = SimDataSet(tiny_split, Settings(max_clips=3))
    assert len({ref.source for ref in some.clips()}) == 3
    left_out = next(
        tiny_split.clip_id(0, k) for k in range(2) if tiny_split.clip_id(0, k) not in {r.clip_id for r in some.clips()}
    )
    with pytest.raises(DataError, match="not among the 3 clips chosen"):
        some.load(left_out)


def test_true_pokes_come_with_the_clips() -> None:
    pokes = SimDataSet(POKES, Settings())
    modes = []
    for ref in pokes.clips():
        clip = pokes.load(ref.clip_id)
        poke = clip.poke
        assert poke is not None
        assert clip.flow is not None
        assert poke.location.shape == (1, 2)
        assert poke.displacement.dtype == torch.float32
        x, y = (int(v) for v in poke.location[0])
        true = pokes.simulated(ref.clip_id).poke
        assert true is not None
        modes.append(true.mode)
        if true.mode == "pull":
            assert torch.equal(poke.displacement[0], clip.flow[:, y, x])
        else:
            assert (clip.frames == clip.frames[0]).all()
    assert modes.count("background") == 1
    assert modes[-1] == "background"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 48}, "64 to 256 px"),
        ({"length": 16}, "its length is 12, or 11"),
        ({"frame_rate": 25.0}, "10 frames per second"),
        ({"stride": 2}, "10 frames per second"),
        ({"clips_per_source": 5}, "2 clips of each scene"),
    ],
)
def test_settings_that_do_not_suit_are_refused(tiny_split: Split, settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SimDataSet(tiny_split, Settings(**settings))


def test_an_unknown_clip_is_named(natural: SimDataSet) -> None:
    for name in ("nothing", "sim-tiny-00009-palm@000", "sim-tiny-00000-palm@000", "sim-tiny-00000-cactus@002"):
        with pytest.raises(DataError, match="sim-tiny has no clip"):
            natural.load(name)


def test_the_registry_knows_every_split() -> None:
    for name, split in SPLITS.items():
        test = name.removesuffix("-train")
        entry = DATASETS.get(test)
        assert entry is getattr(dataset, test.replace("-", "_").upper())
        assert entry.status().present
        assert str(split.clips) in entry.status().detail
        assert entry.splits == (("train", "test") if f"{test}-train" in SPLITS else ())
        for scene in (0, split.scenes - 1):
            last = split.clip_id(scene, split.clips_per_scene - 1)
            assert split.locate(last) == (scene, split.clips_per_scene - 1)


def test_train_and_test_open_by_name(monkeypatch: pytest.MonkeyPatch, tiny_split: Split) -> None:
    monkeypatch.setitem(SPLITS, "sim-tiny", tiny_split)
    monkeypatch.setitem(SPLITS, "sim-tiny-train", replace(tiny_split, name="sim-tiny-train", scenes=1))
    entry = source("sim-tiny")
    train, test = (entry.open(Settings(split=split), None) for split in ("train", None))
    assert (train.name, test.name) == ("sim-tiny/train", "sim-tiny/test")
    assert (len(train.clips()), len(test.clips())) == (2, 6)
    assert train.content_hash != test.content_hash


def test_train_and_test_share_no_scene() -> None:
    seeds = [split.source(scene) for split in SPLITS.values() for scene in range(split.scenes)]
    assert len(seeds) == len(set(seeds))


def test_the_warning_about_another_platform_is_kept(
    tiny_split: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dataset, "difference", lambda split, size, shards: "3 of 3 shards differ")
    assert SimDataSet(tiny_split, Settings()).notes == "3 of 3 shards differ"
    assert "3 of 3 shards differ" in caplog.text
