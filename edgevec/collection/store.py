"""Records and graph, always in step: batches, which are transactions of both; maintenance, closing.

A batch happens when SQLite commits it. Before that the graph has taken it in, hidden, while others read; if either
fails, both are rolled back. Afterwards, in an instant in which nobody reads, the graph shows it. So a reader never sees
one without the other, and an interrupted process leaves records, from which the graph can be derived.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from threading import get_ident
from typing import Any, Protocol
from weakref import ReferenceType, ref

from numpy.typing import NDArray

from .._types import Progress
from ..errors import (
    EdgevecError,
    LockedError,
    ParameterError,
    ReadOnlyError,
    StorageError,
    about_file,
)
from . import ahead, changes, schema
from .database import Database
from .graph import Graph, Write
from .memory_limit import MemoryLimit
from .reading import ReadableStore, commits_of_others
from .records import RowIds
from .saving import Snapshots
from .sql import end_transaction
from .sqlite_errors import reraise_interrupt, translated
from .validation import NewRecords
from .write_buffer import WriteBuffer

__all__ = ["Store"]

log = logging.getLogger("edgevec")

MAX_PENDING_BYTES = 32 * 2**20
"""Up to this size, what an open batch has written is kept in memory for the graph."""

_Transaction = Generator[sqlite3.Connection, None, None]


class Early(Protocol):
    def store(self, connection: sqlite3.Connection) -> None:
        """Store what nobody sees, in transactions of its own."""


def _undo_savepoint(connection: sqlite3.Connection, name: str) -> bool:
    """False when there is none: a signal has ended the call just before it was made, or after it was released."""
    try:
        connection.execute(f"ROLLBACK TO {name}")
    except sqlite3.OperationalError as error:
        if "no such savepoint" not in str(error):
            raise
        return False
    connection.execute(f"RELEASE {name}")
    return True


class Store(ReadableStore):
    """One database and its graph: reading, writing, maintenance."""

    def __init__(
        self,
        database: Database,
        graph: Graph,
        *,
        writable: bool,
        secure_delete: bool = False,
        memory: MemoryLimit,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(database, graph, writable=writable, memory=memory)
        self._snapshots = Snapshots(database, graph, self.fields, self._lock, secure_delete=secure_delete)
        self._buffer: WriteBuffer | None = None
        """Of the open batch, where it has one."""
        self._open: ReferenceType[_Transaction] | None = None
        """Not the transaction itself: where nothing else holds it, it ends."""
        self._is_batch = False
        self._depth = 0
        self._batches = 0
        self._writes: list[tuple[int, Write]] = []
        """What the graph has yet to take in of the open batch, numbered."""
        self._written = self._pending_bytes = 0
        self._holds_lock = False
        self._failed = ""
        self._start(progress)
        with translated(database.name):
            self._seen = self._seen_by_batch = commits_of_others(database.main)
            database.release(database.acquire())  # the first reader need not open the file
        self._closed = False

    # ---- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def batch(self, progress: Progress | None = None) -> Iterator[None]:
        """As Collection.batch()."""
        with self._transaction(progress, buffered=True):
            yield
            self._check_open()  # by another `with` of the collection, which an exception has left

    @contextmanager
    def write(self, progress: Progress | None = None, early: Early | None = None) -> Iterator[sqlite3.Connection]:
        """A transaction, or inside a batch a savepoint. Committed and durable when it ends.

        CancelledError when progress(done, total), of vectors that the graph takes in, returns False.

        Args:
            early: stores something ahead of the transaction; not inside a batch, and not where there is no log
        """
        with self._transaction(progress, early) as connection, translated(self.name):
            yield connection

    def _transaction(
        self, progress: Progress | None, early: Early | None = None, *, buffered: bool = False
    ) -> AbstractContextManager[sqlite3.Connection]:
        """As write(); errors of SQLite that the block raises stay what they are. buffered: as buffers() tells then."""
        itself: list[ReferenceType[_Transaction]] = []
        transaction = self._transact(progress, early, buffered, itself)
        itself.append(ref(transaction))
        return contextmanager(lambda: transaction)()

    def _transact(
        self, progress: Progress | None, early: Early | None, buffered: bool, itself: list[ReferenceType[_Transaction]]
    ) -> _Transaction:
        self._check_writable()
        self.progress_guard.check_outside()
        with self._batch_lock:
            self._abandon_single_write()
            if self._depth:
                self._flush()
                with self.part() as connection:
                    yield connection
                return
            connection = self.database.main
            try:
                # Inside: a signal may raise its exception between any two lines.
                if early is not None and not self.database.single_connection:
                    self._store_early(connection, early)
                before = connection.total_changes
                self._begin(connection)
                self._close_buffer()  # that a signal may have left
                if buffered and not self.database.single_connection:
                    self._buffer = WriteBuffer(self, connection)
                self._open, self._is_batch = itself[0], buffered
                self._owner, self._depth = get_ident(), 1
                self._batches += 1
                yield connection
                watched = self.progress_guard.wrap(progress)
                self._flush(watched)
                self._commit(connection, connection.total_changes != before, watched)
                self._seen = self._seen_by_batch
                self._shorten_log_if_due()
            except BaseException as error:
                if self._depth or early is not None:
                    self._note_failure(error)
                if self._depth:
                    self._roll_back(connection)
                else:
                    end_transaction(connection)
                if early is not None or (self._buffer is not None and self._buffer.has_stored_ahead):
                    with suppress(sqlite3.Error):  # or the next one does, or who opens the file
                        ahead.remove(connection)
                raise
            finally:
                self._owner, self._depth = None, 0
                self._close_buffer()
                self._commits_beside_readers = False
                self._release_lock()
            self.graph.settle()
        self._snapshots.write_if_due(self)

    def abandon(self) -> None:
        """Roll back what the calling thread has open, after an exception.

        One that a signal raises at the start of contextlib's __exit__ leaves it open as long as the exception lives.
        """
        transaction = self._open() if self._owner == get_ident() and self._open is not None else None
        if transaction is not None:
            with suppress(ValueError):  # it is executing: this is one of its progress functions
                transaction.close()

    def _abandon_single_write(self) -> None:
        """No call but batch() has others inside: a signal has left it open."""
        if not self._is_batch:
            self.abandon()

    def _check_outside_batch(self) -> None:
        self._abandon_single_write()
        if self._owner == get_ident():
            raise ParameterError("not inside a batch")

    def _store_early(self, connection: sqlite3.Connection, early: Early) -> None:
        with translated(self.name):
            self._check_open()
            self.database.check_files()
            end_transaction(connection)
            early.store(connection)

    def _note_failure(self, error: BaseException) -> None:
        """Write no more after the disk has failed: what it holds is unknown, and a second try could seem to succeed."""
        if isinstance(error, StorageError) and error.errno == errno.EIO:
            self._failed = str(error)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes."""
        with translated(self.name):
            self.database.check_files()
            end_transaction(connection)
            if self.graph.version != self._version:
                with self.no_readers():
                    self._catch_up(connection)
                    connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            self._seen_by_batch = self._check_others(connection)

    def _commit(self, connection: sqlite3.Connection, changed: bool, progress: Progress | None) -> None:
        with translated(self.name):
            self._check_transaction(connection)
            if not changed:
                connection.execute("COMMIT")
                self._forget_writes()
                return
            version = changes.increment_version(connection)
            if self._stage(connection, version, progress):
                self._commit_beside_readers(connection, version)
                return
            self.apply_writes(connection, progress)
            self.database.check_file()
            connection.execute("COMMIT")
        self._version = version
        self.recent_writes.end_batch(version)
        self.graph.mark_committed(version)

    def _stage(self, connection: sqlite3.Connection, version: int, progress: Progress | None) -> bool:
        """Let the graph prepare what the open batch has written, while others read. False: nobody is to read now."""
        if self.database.single_connection or self._holds_lock:
            return False
        if not self.graph.stage(connection, [write for _, write in self._writes], version, progress):
            return False
        self._forget_writes()
        return True

    def _commit_beside_readers(self, connection: sqlite3.Connection, version: int) -> None:
        """Commit while others read what was there before: they do not wait for the disk. Then the graph shows it."""
        with self.no_readers():
            self._commits_beside_readers = True
        self.database.check_file()
        connection.execute("COMMIT")
        with self.no_readers():
            self._version = version
            self._commits_beside_readers = False
            self.recent_writes.end_batch(version)
            try:
                self.graph.finish(version)  # unless a reader was faster
            except (EdgevecError, MemoryError) as error:
                # It is stored, so the call has not failed. The next search shows it.
                reraise_interrupt(error)
                log.warning("%s: the graph lacks what was just stored: %s", self.name, error)

    def _shorten_log_if_due(self) -> None:
        """Only a long transaction leaves a long log, or one beside which somebody always read."""
        if not self.database.is_log_long():
            return
        if self._holds_lock:
            self.database.shorten_log()
            return
        self.database.copy_log()  # most of the work, for which nobody waits
        with self.no_readers():
            self.database.shorten_log()

    def _check_others(self, connection: sqlite3.Connection) -> int:
        """Drop what is cached when another program has changed the file; the number of commits_of_others().

        LockedError when that was another writer. connection: in a transaction that writes.
        """
        seen = commits_of_others(self.database.main)
        if seen != self._seen:
            self._check_one_writer(connection)
            log.warning("%s: changed by another program while it was open for writing", self.name)
            self.graph.forget_ids()
            changes.increment_version(connection, listed=False)  # so that no cache entry is of this version
        return seen

    def _check_one_writer(self, connection: sqlite3.Connection) -> None:
        if changes.version(connection) != self._version:
            raise about_file(
                LockedError(f"{self.name} was written by another writer after it was opened: close it, open it again"),
                self.name,
            )

    def detect_external_changes(self) -> None:
        """Look for changes by other programs, as the beginning of a batch does."""
        if not self.writable or self._owner == get_ident():
            return
        with self._batch_lock, translated(self.name):
            self._check_open()
            changed = commits_of_others(self.database.main) != self._seen
        if changed:
            with self._transaction(None):
                pass

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Roll back the transaction, and the graph with it."""
        self.recent_writes.end_batch(None)
        self._forget_writes()
        try:
            end_transaction(connection)
            self.settings = schema.read_settings(connection)
            self._version = changes.version(connection)
            with nullcontext() if self._holds_lock else self.no_readers():
                if not self.graph.finish(self._version):  # a signal came after the commit
                    self.graph.rollback(connection)
            if self.graph.seq == changes.last_change(connection):  # or a signal came after a commit beside readers
                self.graph.mark_committed(self._version)
        except BaseException as error:
            log.warning("%s: the graph will be built again: %s", self.name, error)
            self.graph.reset()
            if not isinstance(error, (sqlite3.Error, EdgevecError)):
                raise

    # ---- upserts that a batch has yet to write (Batch of write_buffer.py) --------------------------------------------

    def buffers(self) -> bool:
        """Whether the calling thread's own batch takes add_to_buffer()."""
        return self._buffer is not None and self._owner == get_ident() and self._depth == 1

    def add_to_buffer(self, new: NewRecords, vectors: NDArray[Any]) -> None:
        """Let the batch write these before it reads, or at its end. vectors: as they are stored."""
        self._check_writable()
        self.progress_guard.check_outside()
        assert self._buffer is not None
        with translated(self.name):
            self._buffer.add(new, vectors)

    def _flush(self, progress: Progress | None = None) -> None:
        if self._buffer is not None and self._owner == get_ident():
            with translated(self.name):
                self._buffer.flush(progress)

    def _close_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.close()

    def begin_again(self) -> None:
        self._begin(self.database.main)

    def copy_log(self) -> None:
        self.database.copy_log()

    @contextmanager
    def part(self) -> Iterator[sqlite3.Connection]:
        """A savepoint of the open batch."""
        connection, outer, written = self.database.main, self._depth, self._written
        name, batch = f"part{outer + 1}", self._batches
        with translated(self.name):
            self._check_transaction(connection)
        try:
            with translated(self.name):
                connection.execute(f"SAVEPOINT {name}")
            self._depth = outer + 1
            yield connection
            with translated(self.name):
                self._check_transaction(connection)
                connection.execute(f"RELEASE {name}")
        except BaseException:
            # A signal at the start of contextlib's __exit__ leaves this to the release of its exception: the batch may
            # have ended by then, or another begun.
            if not self._depth or self._batches != batch:
                raise
            # Not in a transaction: SQLite has rolled back everything, and the commit reports it.
            if connection.in_transaction and _undo_savepoint(connection, name):
                self._writes = [(number, write) for number, write in self._writes if number <= written]
                self.settings = schema.read_settings(connection)
                self.graph.rollback(connection)
            raise
        finally:
            if self._depth and self._batches == batch:
                self._depth = outer

    def apply_writes(self, connection: sqlite3.Connection, progress: Progress | None = None) -> None:
        """Let the graph take in what the open batch has written. From now to its end, other threads cannot read."""
        if not self._holds_lock and not self.database.single_connection:
            self._holds_lock = True
            self._lock.acquire_write()
        self.graph.apply(connection, [write for _, write in self._writes], progress)
        self._forget_writes()

    def announce_dim(self, dim: int | None) -> None:
        if dim is None:
            self.settings.pop("dim", None)
        else:
            self.settings["dim"] = dim

    def set_dim(self, connection: sqlite3.Connection, dim: int) -> None:
        """The open batch stores the first vectors: dim is known from now on."""
        schema.write_setting(connection, "dim", dim)
        self.settings["dim"] = dim

    def set_encoder(self, connection: sqlite3.Connection, name: str) -> None:
        """The open batch stores the first vectors that an encoder of this name has made."""
        schema.write_setting(connection, schema.ENCODER, name)
        self.settings[schema.ENCODER] = name

    def add_rows(self, rows: RowIds) -> None:
        """The open batch has written these records; the graph reads the changes back."""
        self.recent_writes.add(rows)

    def add_write(self, rows: RowIds, write: Write) -> None:
        """The open batch has written the records of `rows`, and the vectors of `write`.

        When a batch is too large to keep in memory, the graph reads the changes back from the database.
        """
        self.recent_writes.add(rows)
        self._written += 1
        self._pending_bytes += write.rows.nbytes + (0 if write.vectors is None else write.vectors.nbytes)
        if len(write.rows) and self._pending_bytes <= MAX_PENDING_BYTES:
            self._writes.append((self._written, write))
        elif self._pending_bytes > MAX_PENDING_BYTES:
            self._writes.clear()

    def _forget_writes(self) -> None:
        self._writes.clear()
        self._pending_bytes = 0

    def _release_lock(self) -> None:
        if self._holds_lock:
            self._holds_lock = False
            self._lock.release_write()

    # ---- maintenance -------------------------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """For maintenance: no other thread reads or writes, and no transaction is open."""
        self._check_writable()
        self.progress_guard.check_outside()
        with self._batch_lock:
            self._check_outside_batch()
            with translated(self.name), self.no_readers():
                connection = self.database.main
                self.database.check_files()
                end_transaction(connection)
                self._check_one_writer(connection)
                try:
                    if self.graph.version != self._version:
                        self._catch_up(connection)
                        end_transaction(connection)
                    yield connection
                finally:
                    end_transaction(connection)

    @property
    def memory_limit(self) -> int | None:
        """As Collection.memory_limit."""
        return self.memory.total

    def set_memory_limit(self, memory_limit: int | None) -> None:
        self._check_open()
        memory = MemoryLimit.divided(memory_limit, self.memory.of_conditions)
        self.graph.memory_limit = memory.of_graph
        self.memory = memory

    def write_snapshot(self) -> None:
        """Write the graph beside the database, while others read and write."""
        self._check_writable()
        self.progress_guard.check_outside()
        self._check_outside_batch()
        with self._snapshots.lock, translated(self.name):
            self.database.check_files()
            with self.read():  # which lets the graph catch up
                pass
            self._snapshots.write_beside_others(self)

    @contextmanager
    def writers_turn(self) -> Iterator[sqlite3.Connection]:
        """No other thread writes; for a transaction of its own."""
        with self._batch_lock:
            self._check_open()
            self.database.check_files()
            end_transaction(self.database.main)
            self._check_one_writer(self.database.main)
            yield self.database.main

    def copy_log_back(self) -> None:
        """Let SQLite copy its log into the database, and empty it, while others read."""
        self._check_writable()
        with self._batch_lock, translated(self.name):
            self._check_open()
            self.database.copy_log_back()

    def close(self) -> None:
        if self._closed or os.getpid() != self._process:
            return
        self.progress_guard.check_outside()
        self._check_outside_batch()
        self.follower.end()
        with self._snapshots.lock, self._batch_lock, self.no_readers():
            if self._closed:
                return
            try:
                if self.writable and not self._failed:
                    with translated(self.name):
                        self._snapshots.write_at_close(self)
            except EdgevecError as error:
                log.warning("%s: no snapshot of the graph: %s", self.name, error)
            finally:
                self._closed = True
                self.graph.close()
                self.fields.forget()
                self.database.close()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        if not getattr(self, "_closed", True) and os.getpid() == self._process:
            try:
                if self.path is not None:
                    warn(f"unclosed collection {self.name!r}", ResourceWarning, source=self)
            finally:
                self.database.close()

    # ---- checks ----------------------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        self._check_open()
        if not self.writable:
            raise about_file(ReadOnlyError(f"{self.name} is open for reading"), self.path, errno.EACCES)
        if self._failed:
            raise about_file(
                StorageError(f"an earlier write failed ({self._failed}): close the collection and open it again"),
                self.path,
                errno.EIO,
            )

    def _check_transaction(self, connection: sqlite3.Connection) -> None:
        if not connection.in_transaction:
            raise StorageError(f"{self.name}: the batch was rolled back by an earlier failure in it")
