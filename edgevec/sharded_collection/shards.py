"""One shard: made of a block of records, written under the name of its content, opened and checked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Progress, Storage
from ..collection import Collection
from ..collection.part_files import GRAPH, change_part, write_part
from ..collection.parts import Part, facts_of, key_of
from ..collection.validation import Id
from ..encoders import TextEncoder
from ..errors import CorruptCollectionError, DataNotFoundError, EdgevecError, ShardNotFoundError, about_file
from ..files import refused
from ..sharded.folders import Folder, sha256_of
from ..sharded.manifest import FORMAT_OF_COLLECTION
from ..sharded.shards import finished
from .manifest import CollectionSettings, CollectionShard
from .source import Block

__all__ = ["Made", "OpenPart", "fetched", "open_shard", "rewrite_shard", "write_shard"]

_HEX = 32


@dataclass(frozen=True)
class Made:
    """A shard that was written, and its parameters."""

    shard: CollectionShard
    settings: CollectionSettings

    @property
    def file(self) -> str:
        return self.shard.file

    @property
    def count(self) -> int:
        return self.shard.count


def write_shard(
    folder: Folder,
    block: Block,
    settings: dict[str, Any],
    encoder: TextEncoder | None = None,
    progress: Progress | None = None,
) -> Made:
    """Build the collection of a block and put its files into the folder, unless they are there already.

    Args:
        settings: parameters of a new collection
        encoder: makes the vectors that records lack. Its name is that of the collection.
    """
    key, name_of_encoder = _key(block, settings, encoder), encoder and encoder.name

    def left(name: str, copies: Path) -> Made | None:
        if name.endswith(GRAPH):
            return None
        try:
            made = _entry(fetched(folder, name, copies), key)
            return made if made.settings.encoder == name_of_encoder else None
        except (DataNotFoundError, CorruptCollectionError):
            return None  # one of its two files, or none that is whole

    return finished(folder, key, left) or _built(folder, block, settings, encoder, key, progress)


def _built(
    folder: Folder,
    block: Block,
    settings: dict[str, Any],
    encoder: TextEncoder | None,
    key: str,
    progress: Progress | None,
) -> Made:
    with _new_files(folder) as new:
        write_part(new, block.tables, encoder, progress=progress, **settings)
        return _adopted(folder, new, key)


def rewrite_shard(folder: Folder, each: OpenPart, change: Callable[[Collection], object]) -> Made:
    """Put a shard with other records into the folder: a copy of one, of which at least one record is left.

    Args:
        change: change(collection), what is done to the copy
    """
    with _new_files(folder) as new:
        for end in ("", GRAPH):
            shutil.copyfile(f"{each.path}{end}", f"{new}{end}")
        _check_files(new, each.shard, folder.where(each.shard.file), verify=True)
        with change_part(new) as made:
            change(made)
        return _adopted(folder, new, None)


@contextmanager
def _new_files(folder: Folder) -> Iterator[Path]:
    """The path of a new collection; after an error nothing is left of it."""
    with folder.scratch() as scratch:
        new = Path(scratch, "new.edgevec")
        try:
            yield new
        except EdgevecError:
            raise
        except OSError as error:
            raise refused(error, error.filename or new) from error


def _adopted(folder: Folder, new: Path, key: str | None) -> Made:
    made = _entry(new, key)
    # The first file is named by the content of both: where it is, the other one is.
    folder.adopt(Path(f"{new}{GRAPH}"), made.file + GRAPH)
    folder.adopt(new, made.file)
    return made


def _key(block: Block, settings: dict[str, Any], encoder: TextEncoder | None) -> str:
    """The checksum of what a shard is made of, which is in the name of its file."""
    digest = hashlib.sha256(json.dumps([FORMAT_OF_COLLECTION, 1, sorted(settings.items()), block.count]).encode())
    for line in _content(block, encoder):
        digest.update(line)
    return digest.hexdigest()[:_HEX]


def _content(block: Block, encoder: TextEncoder | None) -> Iterator[bytes]:
    """However the source has divided it into tables."""
    for ids, table in block.tables:
        for record in zip(ids, table.metadata, table.documents, strict=True):
            yield json.dumps(record).encode()
    for _, table in block.tables:
        if isinstance(table.vectors, np.ndarray):
            yield np.ascontiguousarray(table.vectors, "<f4").tobytes()
            continue
        for vector in table.vectors:
            if vector is not None:
                yield np.asarray(vector, "<f4").tobytes()
            elif encoder is not None and encoder.name is not None:
                yield encoder.name.encode()
            else:
                yield os.urandom(_HEX)  # nobody knows what made its vectors


def _entry(path: Path, key: str | None) -> Made:
    facts, graph = facts_of(path), Path(f"{path}{GRAPH}")
    sha256, of_graph = sha256_of(path), sha256_of(graph)
    shard = CollectionShard(
        CollectionShard.name_of(key, sha256, of_graph),
        facts.records,
        facts.first_id,
        facts.last_id,
        path.stat().st_size,
        sha256,
        graph.stat().st_size,
        of_graph,
    )
    settings: dict[str, Any] = {each.name: facts.settings.get(each.name) for each in fields(CollectionSettings)}
    return Made(shard, CollectionSettings(**settings))


def fetched(folder: Folder, name: str, copies: Path) -> Path:
    """The two files of a shard as files of this machine. DataNotFoundError where one is not there.

    Args:
        copies: a folder for copies of files that are not on this machine
    """
    path = folder.fetch(name, copies)
    folder.fetch(name + GRAPH, copies)
    return path


def _check_files(path: Path, shard: CollectionShard, where: str, *, verify: bool) -> None:
    """CorruptCollectionError for other files than the manifest has. where: what messages call the first of them"""
    for end, size, sha256 in (("", shard.bytes, shard.sha256), (GRAPH, shard.graph_bytes, shard.graph_sha256)):
        file = Path(f"{path}{end}")
        if (found := file.stat().st_size) != size:
            raise CorruptCollectionError(f"{where}{end}: a shard of {found:,} bytes where the manifest has {size:,}")
        if verify and sha256_of(file) != sha256:
            raise CorruptCollectionError(f"{where}{end}: a shard of another checksum than the manifest has")


class OpenPart:
    """A shard that is held."""

    def __init__(self, shard: CollectionShard, path: Path, part: Part) -> None:
        self.shard, self.path, self.part = shard, path, part

    def known(self, ids: Sequence[Id]) -> list[Id]:
        """Those of these ids that it holds.

        Args:
            ids: as they are sorted by key_of()
        """
        first = bisect_left(ids, key_of(self.shard.first_id), key=key_of)
        last = bisect_right(ids, key_of(self.shard.last_id), key=key_of)
        return self.part.known(ids[first:last]) if first < last else []

    def verify(self, where: str) -> None:
        """CorruptCollectionError where its bytes are not those that were written.

        Args:
            where: its file, for the message
        """
        _check_files(self.path, self.shard, where, verify=True)

    def close(self) -> None:
        self.part.close()


def open_shard(
    folder: Folder,
    shard: CollectionShard,
    settings: CollectionSettings,
    copies: Path,
    *,
    verify: bool,
    encoder: TextEncoder | None,
    mmap: bool,
    storage: Storage,
    condition_memory: int,
) -> OpenPart:
    """Open a shard and see that it is what the manifest says.

    Raises:
        ShardNotFoundError: one of its files is not there
        CorruptCollectionError: it is of another size, checksum, dim or metric, or holds something else
    """
    where = folder.where(shard.file)
    try:
        path = fetched(folder, shard.file, copies)
        _check_files(path, shard, where, verify=verify)
        part = Part(path, encoder=encoder, mmap=mmap, storage=storage, condition_memory=condition_memory)
    except FileNotFoundError as error:  # also of a file that was there a moment ago
        raise about_file(ShardNotFoundError(f"{error.filename}: a shard that is not there"), where) from error
    try:
        collection = part.collection
        wanted = {**asdict(settings), "count": shard.count}
        for name, value in wanted.items():
            held = len(collection) if name == "count" else getattr(collection, name)
            if held != value:
                raise CorruptCollectionError(f"{where}: a shard of {name} {held} where the manifest has {value}")
    except BaseException:
        part.close()
        raise
    return OpenPart(shard, path, part)
