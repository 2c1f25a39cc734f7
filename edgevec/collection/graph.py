"""The index in memory, derived from the records."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import Progress, Storage
from ..errors import MemoryLimitError
from ..index import Index
from ..staging import Stage, set_path
from . import changes, schema
from .behind import Behind, add
from .ids import IdsByRow
from .on_disk import bytes_per_vector, is_mostly_waste
from .records import RowIds, vector_count, vector_pages, vectors_of
from .snapshot import Snapshot, UnusableError
from .validation import Id

__all__ = ["Graph", "Write"]

log = logging.getLogger("edgevec")

VECTORS_PER_ADD = 16_384
"""Vectors that are added to the index at a time, at most; and their bytes."""
_BYTES_PER_ADD = 2**25


class Write(NamedTuple):
    """What one call wrote: vectors [n, dim] in the stored dtype, or None when the rows were deleted."""

    rows: RowIds
    vectors: NDArray[Any] | None


class _Staged:
    """What a batch is about to change.

    Attributes:
        stage: None while no vector was ever stored.
        rows: All that it changes, in runs.
        removed: Those that have no vector any longer.
        seq: The last change.
        version: Of the records, once all is staged.
    """

    def __init__(self, stage: Stage | None, seq: int) -> None:
        self.stage = stage
        self.rows = self.removed = np.empty(0, np.int64)
        self.seq = seq
        self.version: int | None = None


VectorsOf = Callable[[RowIds, int], tuple[RowIds, NDArray[np.float32]]]
"""(run of rows, its start among all rows) -> those that have a vector, int64[n], and the vectors [n, dim]."""


def last_writes(writes: Sequence[Write], dim: int) -> tuple[RowIds, VectorsOf]:
    """The rows that were written, ascending, and a function for what was last written to them."""
    every = np.concatenate([write.rows for write in writes])
    owner = np.repeat(np.arange(len(writes)), [len(write.rows) for write in writes])
    place = np.concatenate([np.arange(len(write.rows)) for write in writes])
    rows, last = np.unique(every[::-1], return_index=True)
    owner, place = owner[::-1][last], place[::-1][last]
    has_vector = np.array([write.vectors is not None for write in writes])[owner]

    def vectors_at(run: RowIds, start: int) -> tuple[RowIds, NDArray[np.float32]]:
        at = start + np.flatnonzero(has_vector[start : start + len(run)])
        vectors = np.empty((len(at), dim), np.float32)
        for number in np.unique(owner[at]).tolist():
            mine = owner[at] == number
            vectors[mine] = writes[number].vectors[place[at][mine]]
        return rows[at], vectors

    return rows, vectors_at


class Graph:
    """The index over the vectors of the records, by row.

    Attributes:
        index: None while no vector was ever stored.
        behind: Vectors that the index has yet to take in; None when there are none, and it has settled.
        version: Of the records that both agree with; None when it must be built (again).
        seq: The last change that both have taken in.
        saved_seq: The last change that the snapshot holds; 0 without one.
        memory_limit: Of the index, present and to come; it can be set.
        storage: Of the index: where its vectors lie.
    """

    def __init__(
        self, name: str, snapshot: Snapshot | None, memory_limit: int | None = None, storage: Storage = "memory"
    ) -> None:
        self.name = name
        self.snapshot = snapshot
        self.storage = storage
        self._memory_limit = memory_limit
        self.saved_seq = 0
        self.reset()

    @property
    def memory_limit(self) -> int | None:
        return self._memory_limit

    @memory_limit.setter
    def memory_limit(self, memory_limit: int | None) -> None:
        self._memory_limit = memory_limit
        if self.index is not None:
            self.index.memory_limit = memory_limit

    @property
    def nbytes(self) -> int:
        """What is allocated for the index and for what lies beside it."""
        index, behind = self.index, self.behind
        return (0 if index is None else index.memory_usage()["held"]) + (0 if behind is None else behind.nbytes)

    def reset(self) -> None:
        """Drop the index; the next catch_up() starts from the snapshot or the records."""
        self.index: Index | None = None
        self.behind: Behind | None = None
        self.version: int | None = None
        self.seq = -1
        self._fresh = False
        self._touched: list[RowIds] = []
        self._ids: IdsByRow | None = None
        self._staged: _Staged | None = None
        self._unsettled: Stage | None = None

    def close(self) -> None:
        """Nobody uses it any longer: give back its memory, and its files."""
        if self.index is not None:
            self.index.close()
        self.reset()

    def stage(
        self, connection: sqlite3.Connection, writes: Sequence[Write], version: int, progress: Progress | None
    ) -> bool:
        """As apply(), while others read: they do not see it before finish(), and after discard() never.

        False where they would, as the graph has to be built first.

        Args:
            version: of the records, once they are committed
        """
        if self.version is None or self.seq < changes.low_water_mark(connection):
            return False
        last = changes.last_change(connection)
        index = self._empty(connection) if self.index is None else self.index
        self._staged = staged = _Staged(None if index is None else Stage(index), last)
        if staged.stage is not None and index is not None and last != self.seq:
            if last - self.seq == sum(len(write.rows) for write in writes):
                staged.rows, vectors_at = last_writes(writes, index.dim)
            else:
                staged.rows = changes.changed_since(connection, self.seq)
                vectors_at = _stored(connection, index.dim)
            staged.removed = _put(staged.stage, index.dim, staged.rows, vectors_at, progress)
        staged.version = version
        return True

    def finish(self, version: int) -> bool:
        """Nobody reads: show what was staged for this version of the records. False where that is not there."""
        staged = self._staged
        if staged is None or staged.version != version:
            return False
        if staged.stage is not None:
            if self.index is None:
                self._ids = None
            staged.stage.commit(staged.removed)
            self.index = staged.stage.index
            self._forget_ids_of(staged.rows)
            self._unsettled = staged.stage
        self.seq = staged.seq
        self.mark_committed(version)
        self._staged = None
        return True

    def discard(self) -> None:
        """Forget what was staged."""
        staged = self._staged
        if staged is not None and staged.stage is not None and staged.stage.index is self.index:
            staged.stage.drop()
        self._staged = None

    def settle(self) -> None:
        """After finish(): mend the graph, while others read."""
        stage, self._unsettled = self._unsettled, None
        if stage is not None and stage.index is self.index:
            stage.settle()

    def apply(self, connection: sqlite3.Connection, writes: Sequence[Write], progress: Progress | None = None) -> None:
        """Take in what the open transaction wrote, in order, without reading it back.

        Where `writes` is not all that changed since the last call, the changes are read back, as by catch_up().
        CancelledError when progress raises it, which one that returns False does once `cancelling` has it.
        """
        last = changes.last_change(connection)
        if self.version is None or last - self.seq != sum(len(write.rows) for write in writes):
            self.catch_up(connection, progress)
            return
        if self.index is None and writes:
            self.index, self._ids, self._fresh = self._empty(connection), None, True
        if self.index is not None and writes:
            self._replace(*last_writes(writes, self.index.dim), progress)
        self.seq = last

    def catch_up(
        self, connection: sqlite3.Connection, progress: Progress | None = None, *, may_lag: bool = False
    ) -> None:
        """Take in all changes that the connection sees. may_lag: vectors may lie beside the index, where that pays."""
        if self.index is None or self._is_outdated(self.index, connection):
            self._start(connection, progress)
        if self.index is not None:
            rows, behind = changes.changed_since(connection, self.seq), self.behind or Behind(self.index)
            if may_lag and behind.may_take(len(rows)):
                self._lay_beside(connection, rows, behind)
            else:
                self._read_rows(connection, np.union1d(rows, behind.rows()), progress)
                self.behind = None
        self.seq = changes.last_change(connection)

    def follow(self, connection: sqlite3.Connection, count: int) -> int:
        """Let the index take in so many of the vectors beside it, and settle, while others search; how many are left.

        connection: at the version of the graph.
        """
        behind = self.behind
        if self.index is None or behind is None:
            return 0
        rows = behind.oldest(count)
        stage = Stage(self.index)  # so that searches wait for no vector
        try:
            add(stage, *_stored(connection, self.index.dim)(rows, 0))
            stage.commit(np.empty(0, np.int64))
        finally:
            stage.drop()
        stage.settle()
        behind.remove(rows)
        if not behind:
            self.behind = None
        return len(behind)

    def ids_of(self, connection: sqlite3.Connection, rows: RowIds) -> list[Id | None]:
        """The ids of rows; None where there is no record. connection: at the version of the index."""
        ids = self._ids
        if ids is None:
            ids = self._ids = IdsByRow(connection, 0 if self.index is None else len(self.index))
        return ids.of(connection, rows)

    def known_ids(self, rows: RowIds) -> list[Id | None] | None:
        """As ids_of(), where that takes no connection; None where it does."""
        ids = self._ids
        return None if ids is None else ids.known(rows)

    def forget_ids(self) -> None:
        """Another program may have changed them; the next search reads them again."""
        self._ids = None

    def mark_committed(self, version: int) -> None:
        """What apply() or catch_up() took in is committed, as this version of the records."""
        self.version = version
        self._touched.clear()
        self._fresh = False

    def rollback(self, connection: sqlite3.Connection) -> None:
        """After a rollback, whole or to a savepoint: make the index agree with the records again."""
        self.discard()
        rows, self._touched = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched])), []
        if self._fresh:  # built inside the transaction
            self.reset()
            return
        if self.index is not None and schema.read_settings(connection).get("dim") is None:
            self.reset()
            return
        seq = min(self.seq, changes.last_change(connection))
        try:
            self._read_rows(connection, rows, None)
        except MemoryLimitError as error:  # vectors that were replaced, and are to come back
            log.warning("%s: the graph will be built again: %s", self.name, error)
            self.reset()
            return
        self.seq = seq

    def fix_rows(self, connection: sqlite3.Connection, rows: RowIds) -> None:
        """Make the index agree with the records of these rows, whatever it holds."""
        self._read_rows(connection, rows, None)

    def rebuild(self, connection: sqlite3.Connection, progress: Progress | None = None) -> None:
        """Build the index from all records."""
        index = self._empty(connection)
        if index is None:
            return
        total, done = vector_count(connection), 0
        self._check_room(index, total)
        dtype = str(schema.read_settings(connection)["dtype"])
        for rows, vectors in vector_pages(connection, _vectors_per_add(index.dim), index.dim, dtype):
            add(index, rows, vectors, progress=_shifted(progress, done, total))
            done += len(rows)
        self.index, self.seq = index, changes.last_change(connection)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _empty(self, connection: sqlite3.Connection) -> Index | None:
        """An empty index with the collection's parameters; None while dim is not known."""
        settings = schema.read_settings(connection)
        if settings.get("dim") is None:
            return None
        index = Index(
            settings["dim"],
            settings["metric"],
            quantization=settings["quantization"],
            M=settings["M"],
            ef_construction=settings["ef_construction"],
            memory_limit=self._memory_limit,
            storage=self.storage,
        )
        if self.storage == "disk" and self.snapshot is not None:
            set_path(index, self.snapshot.path)
        return index

    def _is_outdated(self, index: Index, connection: sqlite3.Connection) -> bool:
        """Changes are no longer listed that it lacks, or what it has on disk is better had from another snapshot."""
        trimmed = changes.low_water_mark(connection)
        return self.seq < trimmed or (self.saved_seq < trimmed and is_mostly_waste(index))

    def _check_room(self, index: Index, count: int) -> None:
        """Refuse at once to build what cannot fit."""
        least = count * _least_bytes(index)
        if self._memory_limit is not None and least > self._memory_limit:
            raise MemoryLimitError(
                f"{self.name}: a graph of {count:,} vectors takes at least {least:,} bytes, and memory_limit leaves it "
                f"{self._memory_limit:,}"
            )

    def _start(self, connection: sqlite3.Connection, progress: Progress | None) -> None:
        reason, self._ids, self._fresh, self.behind, self.index = "there is none", None, True, None, None
        whole = changes.is_whole(connection)
        if not whole:
            reason = "the list of changes is damaged"
        elif self.snapshot is not None:
            try:
                self.index, self.seq = self.snapshot.load(connection, self._memory_limit)
                self.saved_seq = self.seq
                return
            except UnusableError as error:
                reason = str(error)
        self.saved_seq = 0
        if whole and changes.low_water_mark(connection) == 0:  # every change since the first record is listed
            self.index, self.seq = self._empty(connection), 0
            if self.index is not None:
                self._check_room(self.index, vector_count(connection))
            return
        log.warning("%s: the graph is built from the records; its snapshot cannot be used: %s", self.name, reason)
        self.rebuild(connection, progress)

    def _read_rows(self, connection: sqlite3.Connection, rows: RowIds, progress: Progress | None) -> None:
        """Make the index agree with the records of these rows."""
        assert self.index is not None or not len(rows)
        if self.index is None or not len(rows):
            return
        self._replace(rows, _stored(connection, self.index.dim), progress)

    def _replace(self, rows: RowIds, vectors_at: VectorsOf, progress: Progress | None) -> None:
        """Put the vectors of these rows in place of what the index holds of them."""
        assert self.index is not None
        self._forget_ids_of(rows)
        self.index.remove(_put(self.index, self.index.dim, rows, vectors_at, progress, self._touched))

    def _lay_beside(self, connection: sqlite3.Connection, rows: RowIds, behind: Behind) -> None:
        """Take these rows out of the index, and put what is stored of them beside it."""
        assert self.index is not None
        behind.remove(rows)
        size, stored = _vectors_per_add(self.index.dim), _stored(connection, self.index.dim)
        for start in range(0, len(rows), size):
            behind.put(*stored(rows[start : start + size], start))
        self.behind = behind  # also where it is empty: follow() has links led around what is removed
        Stage(self.index).commit(rows)
        self._forget_ids_of(rows)

    def _forget_ids_of(self, rows: RowIds) -> None:
        if self._ids is not None and not self._ids.forget(rows):
            self._ids = None


def _stored(connection: sqlite3.Connection, dim: int) -> VectorsOf:
    """The vectors of the records."""
    dtype = str(schema.read_settings(connection)["dtype"])

    def stored(run: RowIds, start: int) -> tuple[RowIds, NDArray[np.float32]]:
        return vectors_of(connection, run.tolist(), dim, dtype)

    return stored


def _put(
    index: Index | Stage,
    dim: int,
    rows: RowIds,
    vectors_at: VectorsOf,
    progress: Progress | None,
    touched: list[RowIds] | None = None,
) -> RowIds:
    """Add the vectors of these rows, a run at a time; those that have none, which are to be removed.

    touched: takes the runs of which the index may have changed.
    """
    size, gone = _vectors_per_add(dim), [np.empty(0, np.int64)]
    for start in range(0, len(rows), size):
        run = rows[start : start + size]
        if touched is not None:
            touched.append(run)
        try:
            # No name for the vectors: they are let go of before the next ones are read.
            found = add(index, *vectors_at(run, start), progress=_shifted(progress, start, len(rows)))
        except MemoryLimitError:
            if touched is not None:
                touched.pop()  # nothing was added: a rollback needs no memory for them
            raise
        if len(found) < len(run):
            gone.append(np.setdiff1d(run, found))
    if progress is not None and len(rows):
        progress(len(rows), len(rows))
    return np.concatenate(gone)


def _least_bytes(index: Index) -> int:
    """Of a vector in the graph: what is kept of it, the links of the lowest level, its id."""
    return bytes_per_vector(index.quantization, index.dim, index.storage) + 8 * index.M + 8


def _vectors_per_add(dim: int) -> int:
    return max(1024, min(VECTORS_PER_ADD, _BYTES_PER_ADD // (4 * dim)))


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else lambda more, _: progress(done + more, total)
