"""Result records on disk: atomic writes, checksums, and the parts of an unfinished evaluation."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from bench.locks import locked
from bench.record import ArrayFile, Arrays, LoadedRecord, Record
from bench.record_versions import upgraded
from metrics.cache import atomic_path, hash_of, sha256_of
from metrics.errors import PokeBenchError, RecordError
from metrics.parsing import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunKey:
    """What makes two evaluations the same one: method, protocol, data.

    Attributes:
        method: the method's card as a JSON-able value; a new revision or other weights make a new key.
        protocol_hash: see `Protocol.hash`.
        dataset: name of the data set.
        content_hash: hash of the data set's content.
    """

    method: Mapping[str, Any]
    protocol_hash: str
    dataset: str
    content_hash: str

    @property
    def hash(self) -> str:
        return hash_of([self.method, self.protocol_hash, self.content_hash])[:16]

    @property
    def folder(self) -> Path:
        """Folder of the finished record, relative to the store."""
        group = f"{slug(self.dataset)}-{self.content_hash[:8]}-{self.protocol_hash}"
        return Path(group) / f"{slug(str(self.method['name']))}-r{slug(str(self.method['revision']))}-{self.hash[:6]}"


def slug(text: str) -> str:
    """`text` with everything but letters, digits, ".", "_" and "-" replaced by "_"."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_") or "unnamed"


class Store:
    """A folder of records.

    Layout: `DATA-CONTENT-PROTOCOL/METHOD-rREVISION-KEY/record.json` beside the arrays that it names, and
    `.partial/KEY/*.safetensors`, one file for each batch of an unfinished evaluation. `.partial/KEY.lock` says who
    evaluates it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    # Finished records

    def find(self, key: RunKey) -> LoadedRecord | None:
        """The finished record of `key`; None when there is none."""
        path = self.root / key.folder / "record.json"
        return load_record(path) if path.is_file() else None

    def records(self) -> Iterator[LoadedRecord]:
        """All finished records, in the order of their paths.

        Raises:
            RecordError: one of them is damaged, or of a newer schema version.
        """
        for path in sorted(self.root.glob("*/*/record.json")):
            yield load_record(path)

    def write(self, key: RunKey, facts: dict[str, Any], arrays: Arrays) -> LoadedRecord:
        """Writes a record: the arrays first, the record that names them last.

        Args:
            facts: the fields of `Record` but for `arrays`.

        Raises:
            RecordError: the disk is full or the folder cannot be written; what was there before stays.
        """
        folder = self.root / key.folder
        content = save({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())})
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(content).hexdigest()
            rows = folder / f"rows-{digest[:12]}.safetensors"
            with atomic_path(rows) as temporary:
                temporary.write_bytes(content)
            record = Record(**facts, arrays=ArrayFile(file=rows.name, sha256=digest))
            with atomic_path(folder / "record.json") as temporary:
                temporary.write_text(record.model_dump_json(indent=1) + "\n")
            for old in (*folder.glob("rows-*.safetensors"), *folder.glob(".r*")):  # .r*: of a run that was killed
                if old != rows:
                    old.unlink(missing_ok=True)
        return LoadedRecord(record, arrays)

    # Parts of an unfinished evaluation

    def write_part(self, key: RunKey, clip_ids: list[str], arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Keeps the results of one batch.

        Raises:
            RecordError: the disk is full or the folder cannot be written; earlier parts stay.
        """
        folder = self._part_folder(key)
        head = {"clip_ids": json.dumps(clip_ids), "facts": json.dumps(facts)}
        head["checksum"] = _checksum(arrays, head)
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=head)
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / f"{hash_of(clip_ids)[:24]}.safetensors") as temporary:
                temporary.write_bytes(content)

    def parts(self, key: RunKey) -> dict[Path, tuple[list[str], Arrays, dict[str, Any]]]:
        """The sound parts of `key`: path -> (clip ids, arrays, facts). A damaged part is removed, with a notice."""
        found = {}
        for path in sorted(self._part_folder(key).glob("*.safetensors")):
            if path.name.startswith("."):  # left by a process that was killed while writing
                continue
            part = _read_part(path)
            if part is None:
                log.warning("%s is damaged; its clips will be computed again", path)
                _remove(path)
            else:
                found[path] = part
        return found

    def remove_parts(self, key: RunKey) -> None:
        """Removes the parts of `key`, once its record is written.

        Raises:
            RecordError: the folder cannot be written.
        """
        folder = self._part_folder(key)
        if folder.is_dir():
            with _writing(folder):
                for path in folder.iterdir():
                    path.unlink(missing_ok=True)
            _remove_empty(folder)
            _remove_empty(folder.parent)

    @contextmanager
    def alone(self, keys: Sequence[RunKey]) -> Iterator[None]:
        """Keeps other processes from computing the records of `keys`; waits, with a notice, while one does.

        Raises:
            RecordError: the folder cannot be written.
        """
        with ExitStack() as locks:
            for key in sorted(keys, key=lambda key: key.hash):  # in one order, so that no two wait for each other
                with _writing(self.root / ".partial"):
                    locks.enter_context(locked(self._lock(key), partial(_wait, str(key.method["name"]))))
            yield
        if keys:
            _remove_empty(self.root / ".partial")

    def unfinished(self, key: RunKey) -> bool:
        """Whether there is anything of an evaluation of `key` that has not ended properly, or runs now."""
        return self._part_folder(key).is_dir() or self._lock(key).exists()

    def _lock(self, key: RunKey) -> Path:
        return self.root / ".partial" / f"{key.hash}.lock"

    def _part_folder(self, key: RunKey) -> Path:
        return self.root / ".partial" / key.hash


def load_record(path: Path) -> LoadedRecord:
    """Reads and checks a record.json, of any schema version up to the present one, and the arrays beside it.

    Raises:
        RecordError: not a record, of a newer schema version, or the arrays are missing or damaged.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is not a record: {error}. Remove its folder and evaluate again.") from error
    try:
        facts = Record(**upgraded(content))
    except ValidationError as error:
        raise RecordError(f"{path} is not a valid record: {error}") from error
    except PokeBenchError as error:
        raise RecordError(f"{path}: {error}") from error
    rows = path.parent / facts.arrays.file
    cure = "Restore it, or remove the folder and evaluate again."
    try:
        found = sha256_of(rows) if rows.is_file() else "no file"
        if found != facts.arrays.sha256:
            raise RecordError(f"{rows}: expected sha256 {facts.arrays.sha256}, found {found}. {cure}")
        arrays = load_file(rows)
    except (OSError, SafetensorError, ValueError) as error:
        raise RecordError(f"{rows} cannot be read ({error}). {cure}") from error
    return LoadedRecord(facts, arrays)


def _read_part(path: Path) -> tuple[list[str], Arrays, dict[str, Any]] | None:
    try:
        with safe_open(path, framework="numpy") as stream:
            head = dict(stream.metadata() or {})
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError):
        return None
    if head.pop("checksum", "") != _checksum(arrays, head):
        return None
    return json.loads(head["clip_ids"]), arrays, json.loads(head["facts"])


def _remove(path: Path) -> None:
    """Removes what lies where a part belongs."""
    try:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(f"{path} is damaged and cannot be removed ({error.strerror or error}); remove it") from error


def _checksum(arrays: Arrays, head: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cure = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Make it writable"
        raise RecordError(
            f"results cannot be written to {folder} ({error.strerror or error}). {cure} and run the same command "
            "again: what was computed before is kept and used."
        ) from error


def _wait(name: str, holder: str) -> None:
    log.warning("%s is being evaluated into the same store by %s; waiting until it is done", name, holder)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
