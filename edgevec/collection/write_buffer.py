"""The upserts of a batch that its transaction has yet to take in, so that the log need not hold their vectors.

The transaction takes them in when the batch reads, deletes or ends; until then they wait in memory. When they are many,
and the transaction has written nothing yet, it ends for the time being: the vectors of new records are stored ahead of
it (ahead.py), and the rest goes to a temporary file of SQLite's, which has no name and ends with its process. Then the
transaction begins again and takes in what is there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._types import Progress
from ..errors import LockedError, StorageError
from . import ahead, changes, interrupts, records
from .graph import Write
from .records import RowIds
from .sql import end_transaction, pages
from .sqlite_errors import translated
from .validation import NewRecords

__all__ = ["Batch", "WriteBuffer", "write"]

_MAX_RECORDS = 50_000
"""That wait in memory; of their vectors and texts ahead.MIN_BYTES."""
_PAGE = 2_000
_CACHE_KB = 8 * 1024


class Batch(Protocol):
    """The open batch, as a Store has it."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int | None: ...

    def announce_dim(self, dim: int | None) -> None:
        """dim is known from now on, but not stored; or no longer known."""

    def set_dim(self, connection: sqlite3.Connection, dim: int) -> None:
        """Store it, too."""

    def add_rows(self, rows: RowIds) -> None: ...

    def add_write(self, rows: RowIds, write: Write) -> None: ...

    def part(self) -> AbstractContextManager[sqlite3.Connection]:
        """A savepoint of the transaction."""

    def begin_again(self) -> None:
        """Begin a transaction in place of the one that has ended."""

    def copy_log(self) -> None:
        """Copy the log back as far as nobody reads it."""


def write(
    batch: Batch,
    connection: sqlite3.Connection,
    new: NewRecords,
    vectors: NDArray[Any],
    stored: tuple[int, int] = (0, 0),
) -> None:
    """Write records in the open transaction. stored: as in records.upsert()."""
    if batch.dim is None and len(vectors):
        batch.set_dim(connection, vectors.shape[1])
    if new.ids:
        changes.begin_listing(connection)
    rows, changed = records.upsert(connection, new, vectors, stored)
    if stored != (0, 0):
        ahead.finish(connection)
    if len(changed) < len(rows):
        changes.rewrite(connection, np.delete(rows, changed).tolist())
    # A copy of the vectors: the caller's array may change before the batch ends.
    batch.add_write(rows, Write(rows[changed], vectors[changed]))


class WriteBuffer:
    """
    Attributes:
        has_stored_ahead: Whether something may lie ahead of the transaction.
    """

    def __init__(self, batch: Batch, connection: sqlite3.Connection) -> None:
        self._batch = batch
        self._connection = connection
        self._untouched = connection.total_changes
        """While SQLite counts as many, the transaction has written nothing."""
        self._waiting: list[tuple[NewRecords, NDArray[Any]]] = []
        self._records = self._bytes = 0
        self._dim: int | None = None
        """To be stored with them."""
        self._spool: _Spool | None = None
        self._flushing = self._failed = False
        self.has_stored_ahead = False

    def add(self, new: NewRecords, vectors: NDArray[Any]) -> None:
        """Records to be written, and their vectors [n, dim] as they are stored, which are copied."""
        self._check()
        dim = vectors.shape[1] if self._batch.dim is None and len(vectors) else None
        entry = new, vectors.copy()
        size = vectors.nbytes + sum(map(len, new.metadata)) + sum(map(len, filter(None, new.documents)))
        if dim is not None:
            self._dim = dim
            self._batch.announce_dim(dim)
        self._waiting.append(entry)
        self._records += len(new.ids)
        self._bytes += size
        if self._records >= _MAX_RECORDS or self._bytes >= ahead.MIN_BYTES:
            self._make_room()

    def _make_room(self) -> None:
        if self._spool is None and self._connection.total_changes != self._untouched:
            try:
                self.flush()
            except BaseException:
                self._drop_last()
                raise
            return
        self._failed = True  # for as long as an error leaves it halfway
        if self._spool is None:
            end_transaction(self._connection)
            self.has_stored_ahead = True
            self._spool = _Spool(self._batch, self._connection)
        for new, vectors in self._waiting:
            self._spool.add(new, vectors)
        self._forget()
        self._failed = False

    def _drop_last(self) -> None:
        """The call that has brought it fails."""
        if self._waiting:
            del self._waiting[-1]
        if not self._waiting and self._dim is not None:
            self._dim = None
            self._batch.announce_dim(None)

    def _forget(self) -> None:
        self._waiting.clear()
        self._records = self._bytes = 0

    def flush(self, progress: Progress | None = None) -> None:
        """Let the transaction take in what there is. progress(0, total), to be stopped, while that takes long."""
        self._check()
        if self._flushing or (self._spool is None and not self._waiting):
            return
        self._flushing = True
        try:
            if self._spool is None:
                with self._batch.part() as connection:
                    self._store_dim(connection)
                    for new, vectors in self._waiting:
                        write(self._batch, connection, new, vectors)
            else:
                self._make_room()
                self._take_in(self._spool, progress)
        except BaseException:
            if self._dim is not None:
                self._batch.announce_dim(self._dim)
            raise
        finally:
            self._flushing = False
        self.close()
        self._dim = None
        self._forget()

    def _take_in(self, spool: _Spool, progress: Progress | None) -> None:
        try:
            spool.store_vectors()
            self._batch.begin_again()
            spool.check_rows()
            changes.begin_listing(self._connection)
            self._store_dim(self._connection)
            for page in spool.pages():
                rows, changed = records.upsert_rows(self._connection, page, spool.first)
                if len(changed) < len(rows):
                    changes.rewrite(self._connection, np.setdiff1d(rows, changed).tolist())
                self._batch.add_rows(rows)
                if progress is not None:
                    progress(0, spool.count)
            ahead.finish(self._connection)
        except BaseException:
            end_transaction(self._connection)
            raise

    def _store_dim(self, connection: sqlite3.Connection) -> None:
        if self._dim is not None:
            self._batch.set_dim(connection, self._dim)

    def close(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def _check(self) -> None:
        if self._failed:
            raise StorageError(f"{self._batch.name}: the batch was rolled back by an earlier failure in it")


class _Spool:
    """Records on their way, by row, in a temporary file; new vectors go ahead of the transaction.

    Attributes:
        first: The row of the first new record.
        count: Of records.
    """

    def __init__(self, batch: Batch, connection: sqlite3.Connection) -> None:
        self._batch = batch
        self._connection = connection
        self.first = self._next = self._stored = records.highest_row(connection) + 1
        """The next free row, and the first whose vector is still in memory."""
        self.count = 0
        self._vectors: list[NDArray[Any]] = []
        self._bytes = 0
        ahead.begin(connection, self.first)
        self._translated: Callable[[], AbstractContextManager[None]] = lambda: translated(
            "the temporary file of a batch"
        )
        with self._translated():
            self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            try:
                interrupts.watch(self._file)
                self._file.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
                self._file.execute("PRAGMA journal_mode = OFF")  # a failure ends the batch
                self._file.execute(
                    "CREATE TABLE records (row INTEGER PRIMARY KEY, id UNIQUE, metadata, document, vector)"
                )
                self._file.execute("BEGIN")
            except BaseException:
                self._file.close()
                raise

    def add(self, new: NewRecords, vectors: NDArray[Any]) -> None:
        known = records.rows_of(self._connection, new.ids)
        with self._translated():
            known.update(records.rows_of(self._file, new.ids))
            places = [at for at, id in enumerate(new.ids) if id not in known]
            numbers = iter(range(self._next, self._next + len(places)))
            self._file.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?) ON CONFLICT(row) DO UPDATE "
                "SET metadata = excluded.metadata, document = excluded.document, vector = excluded.vector",
                (
                    (known[id], id, metadata, document, vector.tobytes())
                    if id in known
                    else (next(numbers), id, metadata, document, None)
                    for id, metadata, document, vector in zip(
                        new.ids, new.metadata, new.documents, vectors, strict=True
                    )
                ),
            )
        self.count += len(new.ids)
        if places:
            self._vectors.append(vectors if len(places) == len(vectors) else vectors[places])
            self._next += len(places)
            self._bytes += self._vectors[-1].nbytes
        if self._bytes >= ahead.BYTES_PER_COMMIT:
            self.store_vectors()

    def store_vectors(self) -> None:
        """Store those that are in memory."""
        if not self._vectors:
            return
        ahead.add(self._connection, self._stored, np.concatenate(self._vectors), self._batch.copy_log)
        self._stored = self._next
        self._vectors.clear()
        self._bytes = 0

    def check_rows(self) -> None:
        """LockedError when another program has taken the rows since."""
        if records.highest_row(self._connection) != self.first - 1:
            raise LockedError(f"{self._batch.name}: another program has added records during the batch")

    def pages(self) -> Iterator[list[Any]]:
        """(row, id, metadata, document, vector as bytes, None where it is stored already), ascending."""
        with self._translated():
            yield from pages(self._file, "SELECT row, id, metadata, document, vector FROM records WHERE row > ?", _PAGE)

    def close(self) -> None:
        self._vectors.clear()
        self._file.close()
