"""One shard: made of a block of records, written under the name of its content, opened and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Progress, Storage
from ..collection.parts import Part, facts_of, write_part
from ..encoders import TextEncoder
from ..errors import CorruptCollectionError, DataNotFoundError, ShardNotFoundError, about_file
from ..sharded.folders import Folder, sha256_of
from ..sharded.manifest import FORMAT_OF_COLLECTION
from ..sharded.shards import finished
from .manifest import GRAPH, CollectionSettings, CollectionShard
from .source import Block

__all__ = ["Made", "OpenPart", "fetched", "open_shard", "write_shard"]

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
    """
    key = _key(block, settings, encoder)

    def left(name: str, copies: Path) -> Made | None:
        if name.endswith(GRAPH):
            return None
        try:
            return _entry(fetched(folder, name, copies), key)
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
    with folder.scratch() as scratch:
        new = Path(scratch, "new.edgevec")
        write_part(new, block.tables, encoder, progress=progress, **settings)
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


def _entry(path: Path, key: str) -> Made:
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


class OpenPart:
    """A shard that is held."""

    def __init__(self, shard: CollectionShard, path: Path, part: Part) -> None:
        self.shard, self.path, self.part = shard, path, part

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
    except DataNotFoundError as error:
        raise about_file(ShardNotFoundError(f"{error.filename}: a shard that is not there"), where) from error
    for end, size, sha256 in (("", shard.bytes, shard.sha256), (GRAPH, shard.graph_bytes, shard.graph_sha256)):
        file = Path(f"{path}{end}")
        if (found := file.stat().st_size) != size:
            raise CorruptCollectionError(f"{where}{end}: a shard of {found:,} bytes where the manifest has {size:,}")
        if verify and sha256_of(file) != sha256:
            raise CorruptCollectionError(f"{where}{end}: a shard of another checksum than the manifest has")
    part = Part(path, encoder=encoder, mmap=mmap, storage=storage, condition_memory=condition_memory)
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
