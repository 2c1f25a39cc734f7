"""Rows in blocks of near ones, each to be a shard: spilled to files, clustered by a sample, and shared out.

The source is read once. What memory holds is the sample, one block, and of each row the number of its cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DuplicateIdError
from ..files import refused
from ..index import Index
from .clusters import as_points, find_centroids, nearest_centroids, pack
from .folders import Folder
from .manifest import Settings
from .shards import Block, rows_named
from .source import Piece, blocks_of

__all__ = ["clustered_blocks"]

_ROWS_AT_ONCE = 16384
_SAMPLE = 65536
"""Rows, at most; or those of one shard, if that is less, but not less than are read at once."""
_CLUSTERS = 16
"""For each shard, as long as the sample has enough rows of each."""
_ROWS_EACH = 32

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def clustered_blocks(
    folder: Folder,
    pieces: Iterable[Piece],
    settings: Settings,
    rows_per_shard: int,
    beat: Callable[[], None] | None = None,
) -> Generator[Block, None, None]:
    """All rows of the pieces, in as few blocks as hold them, of about one size, in each of which they are near.

    In a block they keep the order that they have in the source. The same rows give the same blocks. It is to be closed,
    as it has files.

    Args:
        folder: has a scratch folder for as much as the rows take
        beat: called now and then before the first block comes; what it raises ends the work

    Raises:
        NotFiniteError, ZeroVectorError: of a vector; the message names the row
        DuplicateIdError: an id comes twice
    """
    with folder.scratch() as scratch:
        spilled = _Spilled(Path(scratch), settings, rows_per_shard)
        for block in blocks_of(pieces, settings.dim, _ROWS_AT_ONCE):
            spilled.add(block)
            if beat is not None:
                beat()
        spilled.refuse_repeated()
        yield from spilled.blocks(beat)


class _Spilled:
    """The rows, in files of a scratch folder: first as they come, in parts, and then by shard."""

    def __init__(self, scratch: Path, settings: Settings, rows_per_shard: int) -> None:
        self._scratch, self._settings, self._most = scratch, settings, rows_per_shard
        self._rng = np.random.default_rng(settings.seed)
        room = max(_ROWS_AT_ONCE, min(rows_per_shard, _SAMPLE))
        self._sample = np.empty((room, settings.dim), np.float32)
        self._parts = self._total = 0
        self._rising, self._last = True, -(2**63)

    def add(self, block: Block) -> None:
        with rows_named(block.start), Index(self._settings.dim, self._settings.metric) as nothing:
            nothing.search(block.rows, 1)  # which sees whether such vectors can be had
        with _told(self._scratch):
            block.rows.tofile(self._rows_of(self._parts))
            block.ids.tofile(self._ids_of(self._parts))
        # Each row so far is as likely to be in the sample (Vitter's algorithm R, 1985).
        at = np.arange(self._total, self._total + len(block.ids))
        at[at >= len(self._sample)] = self._rng.integers(at[at >= len(self._sample)] + 1)
        drawn = at < len(self._sample)
        self._sample[at[drawn]] = block.rows[drawn]
        self._parts += 1
        self._total += len(block.ids)
        self._rising &= bool(block.ids[0] > self._last and (np.diff(block.ids) > 0).all())
        self._last = int(block.ids[-1])

    def refuse_repeated(self) -> None:
        """DuplicateIdError for an id that comes twice. Ids that rise, as numbers of rows do, are not read again."""
        if self._rising:
            return
        ids = np.concatenate([self._read(self._ids_of(part), np.int64) for part in range(self._parts)])
        ids.sort()
        twice = ids[1:][ids[1:] == ids[:-1]]
        if len(twice):
            raise DuplicateIdError(f"the same id twice: id {twice[0]}")

    def blocks(self, beat: Callable[[], None] | None) -> Iterator[Block]:
        shards = -(-self._total // self._most)
        for _ in self._share_out(shards):
            if beat is not None:
                beat()
        for shard in range(shards):
            rows = self._read(self._rows_of(shard, ".shard"), np.float32).reshape(-1, self._settings.dim)
            ids = self._read(self._ids_of(shard, ".shard"), np.int64)
            self._remove(shard, ".shard")
            yield Block(rows, ids)

    def _share_out(self, shards: int) -> Iterator[None]:
        """Write the rows anew, by shard. Parts go as soon as they are written, so that disk has all rows once."""
        metric = self._settings.metric
        sample = self._sample[: self._total]
        count = max(1, min(_CLUSTERS * shards, len(sample) // _ROWS_EACH)) if shards > 1 else 1
        centroids = find_centroids(sample, count, metric, self._rng)
        self._sample = np.empty((0, 0), np.float32)
        yield
        of_each = []
        for part in range(self._parts):
            nearest = nearest_centroids(as_points(self._rows(part), metric), centroids)
            of_each.append(nearest.astype(np.uint16))
            yield
        counts = sum((np.bincount(labels, minlength=len(centroids)) for labels in of_each), np.zeros(1, np.int64))
        packed = pack(centroids, counts, shards, self._most)
        # If all rows were sorted by cluster, these would be the first ones of each shard's share of a cluster.
        starts = np.cumsum([0, *(rows for _, _, rows in packed[:-1])])
        shard_of = np.array([shard for _, shard, _ in packed])
        place = np.cumsum(counts) - counts
        for part, labels in enumerate(of_each):
            order = np.argsort(labels, kind="stable")
            few = np.bincount(labels, minlength=len(centroids))
            at = np.repeat(place - (np.cumsum(few) - few), few) + np.arange(len(labels))
            place += few
            numbers = np.empty(len(labels), np.int64)
            numbers[order] = shard_of[np.searchsorted(starts, at, "right") - 1]
            rows, ids = self._rows(part), self._read(self._ids_of(part), np.int64)
            for shard in np.unique(numbers).tolist():
                here = numbers == shard
                self._append(self._rows_of(shard, ".shard"), rows[here])
                self._append(self._ids_of(shard, ".shard"), ids[here])
            self._remove(part)
            yield

    def _rows(self, part: int) -> Floats:
        return self._read(self._rows_of(part), np.float32).reshape(-1, self._settings.dim)

    def _rows_of(self, number: int, kind: str = "") -> Path:
        return self._scratch / f"{number}{kind}.rows"

    def _ids_of(self, number: int, kind: str = "") -> Path:
        return self._scratch / f"{number}{kind}.ids"

    def _read(self, path: Path, dtype: type) -> npt.NDArray[Any]:
        with _told(path):
            return np.fromfile(path, dtype)

    def _append(self, path: Path, array: npt.NDArray[Any]) -> None:
        with _told(path), path.open("ab") as stream:
            stream.write(array.data)

    def _remove(self, number: int, kind: str = "") -> None:
        with _told(self._scratch):
            self._rows_of(number, kind).unlink()
            self._ids_of(number, kind).unlink()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system refuses as a StorageError."""
    try:
        yield
    except OSError as error:
        raise refused(error, path) from error
