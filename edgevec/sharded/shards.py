"""One shard: made of a block of rows, written under the name of its content, opened and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .._types import Progress, Storage
from ..errors import (
    CorruptIndexError,
    DataNotFoundError,
    NotFiniteError,
    ParameterError,
    ShardNotFoundError,
    ZeroVectorError,
    about_file,
)
from ..index import Index
from .folders import Folder, sha256_of
from .follower import EntryT
from .manifest import Removed, Settings, Shard
from .routing import write_centroids

__all__ = [
    "Block",
    "OpenShard",
    "check_storage",
    "finished",
    "finished_shard",
    "held_ids",
    "open_shard",
    "read_removed",
    "rows_named",
    "write_shard",
]

_FEW = 256
"""For so many ids an index is asked, for more its ids are listed."""


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one shard.

    Attributes:
        rows: float32[n, dim]
        ids: int64[n]
        start: the row of the source that is the first of them, for errors
    """

    rows: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    start: int = 0


def write_shard(
    folder: Folder,
    block: Block,
    settings: Settings,
    *,
    cluster: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> Shard:
    """Build the index of a block and put its file into the folder, unless it is there already.

    Args:
        cluster: put a file of its centroids there, too
    """
    key = settings.key(block.rows, block.ids)
    shard = finished_shard(folder, block, key) or _built(folder, block, settings, key, threads, progress)
    return replace(shard, centroids=write_centroids(folder, block.rows, settings)) if cluster else shard


def _built(
    folder: Folder, block: Block, settings: Settings, key: str, threads: int, progress: Progress | None
) -> Shard:
    with Index(settings.dim, settings.metric, **settings.parameters()) as index:
        with rows_named(block.start):
            index.add(block.rows, block.ids, threads=threads, progress=progress)
        with folder.scratch() as scratch:
            new = Path(scratch, "new.ev")
            index.save(new)
            shard = _entry(new, key, block)
            folder.adopt(new, shard.file)
    return shard


def finished_shard(folder: Folder, block: Block, key: str) -> Shard | None:
    """The shard of a block that an earlier build has left in the folder, if its file is whole."""
    return finished(folder, key, lambda name, copies: _entry(folder.fetch(name, copies), key, block))


def finished(folder: Folder, key: str, entry_of: Callable[[str, Path], EntryT | None]) -> EntryT | None:
    """The entry of a file that an earlier build has left in the folder, if it is whole: if it has the name it came by.

    Args:
        key: the first part of its name
        entry_of: entry_of(name, copies), that of a file, None where there is none; `copies` is a folder
    """
    for name in folder.names():
        if name.startswith(f"{key}-"):
            with folder.scratch() as scratch:
                entry = entry_of(name, Path(scratch))
            if entry is not None and entry.file == name:
                return entry
    return None


def _entry(path: Path, key: str, block: Block) -> Shard:
    sha256 = sha256_of(path)
    first, last = int(block.ids.min()), int(block.ids.max())
    return Shard(Shard.name_of(key, sha256), len(block.ids), first, last, path.stat().st_size, sha256)


@contextmanager
def rows_named(start: int) -> Iterator[None]:
    """Errors name rows of the source, not of the block."""
    try:
        yield
    except (NotFiniteError, ZeroVectorError) as error:
        message = re.sub(r"\brow (\d+)", lambda found: f"row {start + int(found[1])}", str(error))
        raise type(error)(message) from None


class OpenShard:
    """A shard that is held, without the vectors that are removed."""

    def __init__(self, shard: Shard, index: Index, removed: npt.NDArray[np.int64]) -> None:
        self.shard = shard
        self.index = index
        self.removed = removed

    def close(self) -> None:
        self.index.close()

    def verify(self) -> None:
        """Raise now what remove() would: an index that was opened without a look at its bytes may be damaged."""
        try:
            self.index.remove(np.empty(0, np.int64))
        except CorruptIndexError as error:
            raise CorruptIndexError(f"{self.shard.file}: {error}") from None

    def remove(self, shard: Shard, removed: npt.NDArray[np.int64]) -> None:
        """Remove more of them. In a mapped index that changes the pages of this process alone."""
        self.index.remove(removed)
        self.shard, self.removed = shard, removed

    def held(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the ids are in it: bool[n]"""
        held = (ids >= self.shard.first_id) & (ids <= self.shard.last_id)
        asked = ids[held]
        if len(asked) <= _FEW:
            held[held] = [id in self.index for id in asked.tolist()]
        else:
            held[held] = np.isin(asked, held_ids(self.index))
        return held


def held_ids(index: Index) -> npt.NDArray[np.int64]:
    return np.fromiter(index, np.int64, len(index))


def check_storage(storage: Storage, settings: Settings, where: str) -> None:
    """ParameterError where there are no vectors beside codes to leave on disk."""
    if storage == "disk" and (settings.quantization == "none" or not settings.keep_vectors):
        why = 'quantization="none" has no codes' if settings.quantization == "none" else "its shards keep codes alone"
        raise ParameterError(f'{where}: storage="disk" is for vectors beside codes, and {why}')


def open_shard(
    folder: Folder,
    shard: Shard,
    settings: Settings,
    copies: Path,
    *,
    mmap: bool,
    verify: bool,
    storage: Storage = "memory",
) -> OpenShard:
    """Open a shard and see that it is what the manifest says.

    Args:
        copies: a folder for copies of files that are not on this machine
        storage: "disk": in place of mapping, as of Index.load()

    Raises:
        ShardNotFoundError: it is not there
        CorruptIndexError: it is of another size, checksum, dim or metric, or holds something else
    """
    where = folder.where(shard.file)
    try:
        path = folder.fetch(shard.file, copies)
        removed = read_removed(folder, shard)
    except DataNotFoundError as error:
        raise about_file(ShardNotFoundError(f"{error.filename}: a shard that is not there"), where) from error
    if (size := path.stat().st_size) != shard.bytes:
        raise CorruptIndexError(f"{where}: a shard of {size:,} bytes where the manifest has {shard.bytes:,}")
    if verify and sha256_of(path) != shard.sha256:
        raise CorruptIndexError(f"{where}: a shard of another checksum than the manifest has")
    index = Index.load(path, mmap=mmap and storage == "memory", verify=verify, storage=storage)
    try:
        for name, wanted, found in (
            ("dim", settings.dim, index.dim),
            ("metric", settings.metric, index.metric),
            ("quantization", settings.quantization, index.quantization),
            ("count", shard.count, len(index)),
        ):
            if found != wanted:
                raise CorruptIndexError(f"{where}: a shard of {name} {found} where the manifest has {wanted}")
        if len(removed) and index.remove(removed) != len(removed):
            raise CorruptIndexError(f"{where}: does not hold all ids that the manifest has removed from it")
    except BaseException:
        index.close()
        raise
    return OpenShard(shard, index, removed)


def read_removed(folder: Folder, shard: Shard) -> npt.NDArray[np.int64]:
    """The ids that are removed from a shard: int64[n], rising."""
    if shard.removed is None:
        return np.empty(0, np.int64)
    content = folder.read(shard.removed.file)
    where = folder.where(shard.removed.file)
    if len(content) != 8 * shard.removed.count:
        raise CorruptIndexError(f"{where}: {len(content):,} bytes where the manifest has {8 * shard.removed.count:,}")
    ids = np.frombuffer(content, "<i8").astype(np.int64)
    if Removed.of(ids)[0] != shard.removed:
        raise CorruptIndexError(f"{where}: of another checksum than the manifest has")
    return ids
