"""Every kind of file that the program reads back: how a small one is made, and read."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults.damage import digest
from peers.tiny_training import TinyConfig, TinyTraining

from bench.checkpoint_card import CheckpointCard, card_faults, make_card, write_card
from bench.data.frames import Preparation
from bench.data.identity import ContentHashes, content_hash
from bench.data.interface import Settings
from bench.data.prepared import PreparedFrames, Source
from bench.data.prepared_folder import open_prepared_folder, prepare_folder
from bench.data.sim.shards import stored_shard, write_shard
from bench.data.sim.splits import Split
from bench.flow.store import read_flow, write_flow
from bench.heatmap.file import read_heatmaps, write_heatmaps
from bench.heatmap.maps import Heatmap
from bench.store import RunKey, Store, load_record
from bench.training.checkpoints import Checkpoints, Progress
from bench.training.journal import Journal, read_journal
from bench.training.plan import make_plan
from methods.weights_file import load_weights, save_weights
from metrics import weights
from metrics.errors import RecordError
from metrics.weight_sources import Source as WeightSource

GOLDEN = Path(__file__).parents[1] / "golden" / "records" / "2"
SPLIT = Split("tiny-sim", "for tests", "natural", ("ficus",), scenes=1, clips_per_scene=1, scenes_per_shard=1)
KEY = RunKey({"name": "m", "revision": "1", "weights": {}}, "p" * 12, "data", "c" * 64)
MADE_AGAIN = "made again"
"""What `read` says of a file that is passed over with a notice, and whose content is computed anew."""


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        make: writes it, and what belongs to it, into an empty folder.
        files: patterns of what is damaged.
        read: reads what was written; a digest of all that the program makes of it, or MADE_AGAIN.
        quiet: whether what is rebuilt needs no notice, because nothing was lost.
    """

    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], str]
    quiet: bool = False


def _record(folder: Path) -> None:
    shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
    facts = load_record(folder / "record.json").facts
    (folder / "record.json").write_text(facts.model_dump_json(indent=1) + "\n")  # as the store writes it today


def _read_record(folder: Path) -> str:
    loaded = load_record(folder / "record.json")
    return digest([loaded.facts.model_dump(), loaded.arrays])


def _part(folder: Path) -> None:
    Store(folder).write_part(KEY, ["a", "b"], {"frame/psnr": np.arange(6.0).reshape(2, 1, 3)}, {"seconds": 1.5})


def _read_part(folder: Path) -> str:
    found = list(Store(folder).parts(KEY).values())
    return digest(found) if found else MADE_AGAIN


def _flow(folder: Path) -> None:
    write_flow(folder / "0.flow", ["a", "b"], np.random.default_rng(0).random((2, 2, 8, 8), np.float32))


def _read_flow(folder: Path) -> str:
    found = read_flow(folder / "0.flow", ["a", "b"])
    return MADE_AGAIN if found is None else digest(np.asarray(found))


def _shard(folder: Path) -> None:
    write_shard(SPLIT, 64, 0, folder)


def _read_shard(folder: Path) -> str:
    found = stored_shard(SPLIT, 64, 0, folder)
    if found is None:
        return MADE_AGAIN
    (entry,) = found.entries
    clip = found.read(entry)
    return digest([found.content_sha256, clip.frames, clip.flow, clip.source, clip.kind, found.made_with])


def _frames(folder: Path, videos: int = 1) -> None:
    from PIL import Image

    for number in range(videos):
        video = folder / "raw" / f"v{number}"
        video.mkdir(parents=True)
        (video / "frame_rate.txt").write_text("12")
        drawn = np.random.default_rng(number).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        for index, frame in enumerate(drawn):
            Image.fromarray(frame).save(video / f"{index}.png")


def _source(folder: Path) -> Source:
    path = folder / "raw" / "v0"
    return Source("v0", path, content_hash(path), Preparation(16))


def _clips(folder: Path) -> None:
    _frames(folder)
    _read_clips(folder)


def _read_clips(folder: Path) -> str:
    frames, source = PreparedFrames(), _source(folder)
    return digest([np.asarray(frames.frames(source)), vars(frames.facts(source))])


def _identity(folder: Path) -> None:
    _frames(folder)
    _read_identity(folder)


def _read_identity(folder: Path) -> str:
    hashes = ContentHashes(folder / "raw")
    found = hashes.of(folder / "raw" / "v0")
    hashes.save()
    return found


def _prepared(folder: Path) -> None:
    _frames(folder, videos=2)
    prepare_folder(folder / "raw", size=16, workers=1)


def _read_prepared(folder: Path) -> str:
    found = []
    for split in ("train", "test"):
        data = open_prepared_folder(folder / "raw", Settings(size=16, length=4, split=split))
        found += [data.content_hash, *([vars(ref), vars(data.load(ref.clip_id))] for ref in data.clips())]
    return digest(found)


def _read_prepared_again(folder: Path) -> str:
    prepare_folder(folder / "raw", size=16, workers=1)
    return _read_prepared(folder)


def _weights(folder: Path) -> None:
    content = pickle.dumps({"params": {"a": np.arange(6, dtype=np.float32)}}, protocol=3)
    content = content.replace(b"numpy._core", b"numpy.core")
    (folder / "tiny.ckpt").write_bytes(content)
    source = WeightSource("no-such-package", "0", "tiny.ckpt", len(content), hashlib.sha256(content).hexdigest())
    tensors = {"a": torch.arange(6.0)}
    weights.TABLE["tiny"] = weights.WeightFile(source, weights.content_hash(tensors), _converted)
    _read_weights(folder)


def _converted(tree: Any) -> dict[str, np.ndarray]:
    return {"a": tree["params"]["a"].copy()}


def _read_weights(folder: Path) -> str:
    return digest(weights.weights("tiny", folder))


def _checkpoints(folder: Path) -> tuple[Checkpoints, TinyTraining]:
    plan = make_plan("tiny", None, ["loop.validate_every=0"])
    return Checkpoints(folder, plan), TinyTraining(TinyConfig(), 0)


def _checkpoint(folder: Path) -> None:
    checkpoints, training = _checkpoints(folder)
    for network in training.networks.values():
        sum(p.sum() for p in network.parameters()).backward()
    for optimizer in training.optimizers.values():
        optimizer.step()
    for step in (1, 2):
        checkpoints.write(training, None, Progress(step, 1.0 * step, {"epoch": 0, "taken": step}), {"seed": 0}, 2)


def _read_checkpoint(folder: Path) -> str:
    checkpoints, training = _checkpoints(folder)
    newest = checkpoints.newest()
    if newest is None or newest.name != "step-00000002":
        return MADE_AGAIN  # from the one before, which the notice names
    progress = checkpoints.restore(newest, training, None)
    found = load_weights(newest / "model.safetensors", "tiny")
    states = [network.state_dict() for network in training.networks.values()]
    optimizers = [optimizer.state_dict()["state"] for optimizer in training.optimizers.values()]
    return digest([vars(progress), states, optimizers, found.tensors, found.config, found.facts])


def _published(folder: Path) -> None:
    facts = {
        **{"recipe": "small", "dataset": "d", "data": "0" * 64, "steps": 3, "steps_before": 0, "batch_size": 4},
        **{"seconds": 1.0, "seed": 0, "precision": "fp32", "commit": "c", "command": "bench train", "hardware": {}},
    }
    path = folder / "tiny.safetensors"
    save_weights(path, {"w": torch.arange(64.0).half()}, "tiny", TinyConfig(), facts)
    write_card(make_card(path), folder)


def _read_published(folder: Path) -> str:
    found = load_weights(folder / "tiny.safetensors", "tiny")
    faults = list(card_faults(folder))
    if faults:
        raise RecordError("; ".join(f"{folder / name}: {what}" for name, what in faults))
    card = CheckpointCard.model_validate_json((folder / "tiny.json").read_text())
    return digest([found.tensors, found.config, found.facts, card.model_dump()])


def _heatmap(folder: Path) -> None:
    drawn = torch.Generator().manual_seed(0)
    maps = {form: torch.rand(8, 8, generator=drawn, dtype=torch.float64) for form in ("paper", "complex")}
    one = Heatmap((1.0, 2.0), torch.rand(3, 2), maps, {"paper": maps["paper"]}, maps["paper"] > 0.5, maps["complex"])
    write_heatmaps(folder / "h.npz", torch.rand(3, 8, 8), [one], {"method": "m"})


def _read_heatmap(folder: Path) -> str:
    image, (one,), facts = read_heatmaps(folder / "h.npz")
    return digest([image, vars(one), facts])


def _journal(folder: Path) -> None:
    journal = Journal(folder)
    for step in range(6):
        journal.write(step, "train", {"loss": 1 / (step + 1)})
    journal.close()


def _read_journal(folder: Path) -> str:
    found = read_journal(folder / "log.jsonl")
    # The last line may have been cut off by a killed process; what is lost is written again.
    return digest(found) if len(found) == 6 else MADE_AGAIN


KINDS = {
    "record": Kind(_record, ("record.json", "rows-*.safetensors"), _read_record),
    "part of a run": Kind(_part, (".partial/*/*.safetensors",), _read_part),
    "cached flow": Kind(_flow, ("0.flow",), _read_flow),
    "simulated shard": Kind(_shard, ("0000.clips", "0000.json"), _read_shard),
    "decoded clips": Kind(_clips, ("cache/clips/*.rgb", "cache/clips/*.json"), _read_clips),
    "content hashes": Kind(_identity, ("cache/clips/identity/*.json",), _read_identity),
    "prepared data": Kind(_prepared, ("cache/data/*/16px/manifest.json", "cache/data/*/16px/v0.rgb"), _read_prepared),
    "prepared again": Kind(_prepared, ("cache/data/*/16px/v0.rgb", "cache/data/*/16px/v0.json"), _read_prepared_again),
    "metric weights": Kind(_weights, ("cache/weights/tiny.safetensors",), _read_weights),
    "training checkpoint": Kind(
        _checkpoint, ("step-00000002/*.safetensors", "step-00000002/state.json"), _read_checkpoint
    ),
    "published checkpoint": Kind(_published, ("tiny.safetensors", "tiny.json"), _read_published),
    "heatmap": Kind(_heatmap, ("h.npz",), _read_heatmap),
    "training log": Kind(_journal, ("log.jsonl",), _read_journal, quiet=True),
}
