"""Reading: a connection, and the graph in step with what it sees; who else uses them meanwhile.

What a reader sees is one committed state of the records, and the graph and what lies beside it agree with that. The
thread whose batch is open sees what the batch has written.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import get_ident

from .._types import Metric, Progress, Storage
from ..errors import ClosedError, EdgevecError
from . import changes, schema
from .database import Database
from .field_cache import FieldCache
from .following import Follower
from .graph import Graph
from .memory_limit import MemoryLimit
from .records import RowIds
from .sql import end_transaction
from .sqlite_errors import translate, translated
from .threads import ProgressGuard, ReadWriteLock
from .validation import Id

__all__ = ["ReadableStore", "Release", "commits_of_others"]

Release = Callable[[], object]
"""Releases what a reader holds."""


def _nothing_held() -> None:
    """The Release of a reader that holds nothing."""


class _Reading:
    """A class, not a generator: it is on the hot path of every search."""

    __slots__ = ("_connection", "_graph", "_progress", "_release", "_store", "_whole")

    def __init__(self, store: ReadableStore, graph: bool, progress: Progress | None, whole: bool) -> None:
        self._store = store
        self._graph = graph
        self._progress = progress
        self._whole = whole

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection, self._release = self._store.begin_read(self._graph, self._progress, self._whole)
        except Exception as error:
            translate(error, self._store.database.name)
            raise
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._store.end_read(self._connection, self._release, error)
        if error is not None:
            translate(error, self._store.database.name)


def _commits_seen(database: Database, writable: bool) -> int:
    """As commits_of_others(), where that keeps nobody waiting: of what is open for reading."""
    return 0 if writable else commits_of_others(database.main)


def commits_of_others(connection: sqlite3.Connection) -> int:
    """A number of this connection that changes whenever another one, of any process, commits."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


class ReadableStore(ABC):
    """One database and its graph, as readers use them. A Store is one, and writes.

    Readers share the ReadWriteLock; while a writer has it, the graph and SQLite's committed state change together. The
    thread whose batch is open holds `_batch_lock`. threads.py has the table of who holds what.
    """

    def __init__(self, database: Database, graph: Graph, *, writable: bool, memory: MemoryLimit) -> None:
        """_start() is to be called next; what sets `_closed` to False opens it."""
        self.database = database
        self.graph = graph
        self.recent_writes = changes.RecentWrites()
        self.memory = memory
        self.fields = FieldCache(memory.of_conditions, partial(_commits_seen, database, writable))
        self.writable = writable
        self._lock = ReadWriteLock()
        self.follower = Follower(self._follow)
        self.progress_guard = ProgressGuard()
        self._batch_lock = threading.RLock()
        self._commits_beside_readers = False
        self._head_seen: tuple[bytes, int] | None = None
        """Of a collection open for reading: the head of the log's index, and the version of the records with it."""
        self._owner: int | None = None
        """The thread whose batch is open."""
        self._closed = True
        self._process = os.getpid()

    def _start(self, progress: Progress | None) -> None:
        """Let the graph take in what is committed."""
        database = self.database
        with translated(database.name):
            self._version = changes.version(database.main)
            self.settings = schema.read_settings(database.main)
            lags = progress is None and not (self.writable or database.single_connection)
            self._catch_up(database.main, progress, may_lag=lags)
            database.main.execute("ROLLBACK")

    @abstractmethod
    def _flush(self, progress: Progress | None = None) -> None:
        """Write what the calling thread's own batch has yet to write, if it has one open."""

    @abstractmethod
    def apply_writes(self, connection: sqlite3.Connection, progress: Progress | None = None) -> None:
        """Let the graph take in what the open batch has written. From now to its end, other threads cannot read."""

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        return self.database.path

    @property
    def name(self) -> str:
        """For messages: the path, or ":memory:"."""
        return self.database.name

    @property
    def dim(self) -> int | None:
        """None until the first vector is stored, where open() was not told."""
        dim: int | None = self.settings.get("dim")
        return dim

    @property
    def metric(self) -> Metric:
        metric: Metric = self.settings["metric"]
        return metric

    @property
    def dtype(self) -> schema.Dtype:
        """Of the vectors as they are stored."""
        dtype: schema.Dtype = self.settings["dtype"]
        return dtype

    @property
    def encoder(self) -> str | None:
        """The name of the one that makes the vectors, where one does."""
        name: str | None = self.settings.get(schema.ENCODER)
        return name

    @property
    def storage(self) -> Storage:
        return self.graph.storage

    @property
    def version(self) -> int | None:
        """Of the records that a reader sees; None inside the calling thread's own batch, and in a progress function."""
        if self._owner == get_ident() or self.progress_guard.is_inside():
            return None
        return self.graph.version

    # ---- reading ---------------------------------------------------------------------------------------------------

    def read(
        self, *, graph: bool = False, progress: Progress | None = None, whole: bool = False
    ) -> AbstractContextManager[sqlite3.Connection]:
        """A connection to a snapshot of the records, with which the graph and what lies beside it agree until the end.

        Inside the calling thread's own batch the connection sees what the batch has written.

        Args:
            graph: it will be searched, so it takes in what the batch has written
            progress: progress(done, total) while the graph takes in what other processes wrote
            whole: nothing lies beside the graph
        """
        return _Reading(self, graph, progress, whole)

    def begin_read(
        self, graph: bool, progress: Progress | None, whole: bool = False
    ) -> tuple[sqlite3.Connection, Release]:
        """The start of read(); end_read() is its end."""
        self._check_open()
        if self.progress_guard.is_inside():
            return self._begin_in_progress(graph)
        if self._owner == get_ident():
            self._flush()
            if graph:
                self.apply_writes(self.database.main)
            return self.database.main, _nothing_held
        if self.database.single_connection:
            return self._begin_single()
        release, connection = self._lock.release_read, None
        try:
            self._lock.acquire_read()
            if self._closed:
                self._check_open()
            connection = self.database.acquire()
            behind = self.graph.version != self._committed_version(connection)
            if behind or (whole and self.graph.behind is not None):  # the graph has to catch up first
                release()
                release = self._lock.release_write
                self._lock.acquire_write()
                self._catch_up(connection, self.progress_guard.wrap(progress), may_lag=not (whole or self.writable))
        except BaseException:
            release()
            if connection is not None:
                self.database.discard(connection)
            raise
        return connection, release

    def _begin_in_progress(self, graph: bool) -> tuple[sqlite3.Connection, Release]:
        """In a progress function: the thread has the lock already, or the open batch."""
        if graph:
            self.progress_guard.check_outside()
        own = self._owner == get_ident()
        if own:
            self._flush()
        return self.database.main if own or self.database.single_connection else self.database.acquire(), _nothing_held

    def _begin_single(self) -> tuple[sqlite3.Connection, Release]:
        """Of a database with a single connection, which one thread at a time uses."""
        self._batch_lock.acquire()
        try:
            if not self.writable:
                self.database.check_file()
                if self.database.renew():
                    self.graph.forget_ids()
                    self.fields.forget()
            connection = self.database.main
            if self.graph.version is None or (
                not self.writable and self.graph.version != self._committed_version(connection)
            ):
                self._catch_up(connection)
            end_transaction(connection)
        except BaseException:
            self._batch_lock.release()
            raise
        return connection, self._batch_lock.release

    def end_read(self, connection: sqlite3.Connection, release: Release, error: BaseException | None = None) -> None:
        """
        Args:
            error: what has ended it. A signal's exception may hold a statement that is half read, and with that the
                snapshot, for as long as somebody keeps it: nobody is to read with this connection again.
        """
        try:
            if connection is not self.database.main:
                if error is None or isinstance(error, EdgevecError):
                    end_transaction(connection)
                    self.database.release(connection)
                else:
                    self.database.discard(connection)
        finally:
            release()

    def _committed_version(self, connection: sqlite3.Connection) -> int:
        """Of the records. Where it may change meanwhile, this begins the transaction that pins it."""
        if self.writable and not self._commits_beside_readers:
            return self._version
        if not self.writable:
            self.database.check_file()
        connection.execute("BEGIN")
        return changes.version(connection) if self.writable else self._version_seen(connection)

    def _version_seen(self, connection: sqlite3.Connection) -> int:
        """Of a collection open for reading; begins to read. The ids are forgotten whenever anyone has committed."""
        head = self.database.log_head
        seen = None if head is None else head.read()
        # Only now does it begin to read. Was something committed in between, the head is never again what it was.
        commits, known = commits_of_others(connection), self.database.versions.get(connection)
        if known is None or known[0] != commits:
            self.graph.forget_ids()
            self.database.versions[connection] = known = (commits, changes.version(connection))
        if seen is not None:
            self._head_seen = seen, known[1]
        return known[1]

    def _catch_up(
        self, connection: sqlite3.Connection, progress: Progress | None = None, *, may_lag: bool = False
    ) -> None:
        """Let the graph take in what is committed, and stay in the transaction that sees it."""
        end_transaction(connection)
        connection.execute("BEGIN")
        version = changes.version(connection)
        if not self.graph.finish(version):  # what the thread that has just committed was about to show
            self.graph.catch_up(connection, progress, may_lag=may_lag)
            self.graph.mark_committed(version)
        if self.settings.get("dim") is None:
            self.settings = schema.read_settings(connection)

    def _follow(self, rows: int) -> int:
        """Let the graph take in so many of the vectors beside it; how many are left."""
        with self.read() as connection:
            return self.graph.follow(connection, rows)

    def begin_search(self) -> bool:
        """Begin to read the graph alone, outside a transaction; False where it takes read().

        end_search() ends it, whatever this said: a signal may end the call at any line.
        """
        if (
            self._closed
            or self.database.single_connection
            or self._owner == get_ident()
            or self.progress_guard.is_used()
            or os.getpid() != self._process
        ):
            return False
        self._lock.acquire_read()
        # Where all this is so it remains so: who changes it waits for end_search().
        if self._closed or self._commits_beside_readers:
            return False
        return self.graph.version == self._version if self.writable else self._is_in_step()

    def _is_in_step(self) -> bool:
        """Whether the graph of a collection open for reading holds what is committed, by whichever process."""
        if self.graph.behind is not None:
            return False
        head = self.database.head_of_log()
        if head is not None:
            return self._head_seen == (head, self.graph.version)
        self.database.check_file()
        connection = self.database.acquire()
        try:
            known = self.database.versions.get(connection)
            in_step = known == (commits_of_others(connection), self.graph.version)
        except BaseException:
            self.database.discard(connection)
            raise
        self.database.release(connection)
        return in_step

    def ids_of(self, rows: RowIds) -> list[Id | None]:
        """The ids of rows of the graph; None where there is no record. Between begin_search() and end_search()."""
        known = self.graph.known_ids(rows)
        if known is not None:
            return known
        if not self.writable:  # what is read outside a transaction may be newer than the graph
            return [None] * len(rows)
        connection = self.database.acquire()
        try:
            return self.graph.ids_of(connection, rows)
        finally:
            end_transaction(connection)
            self.database.release(connection)

    def end_search(self) -> None:
        self._lock.release_read()

    @contextmanager
    def no_readers(self) -> Iterator[None]:
        """While no other thread reads or has a batch open."""
        with self._batch_lock:
            if self.database.single_connection:
                yield
                return
            try:
                self._lock.acquire_write()
                yield
            finally:
                self._lock.release_write()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.name} is closed")
        if os.getpid() != self._process:
            raise ClosedError(f"{self.name} was opened by the process that this one was forked from")
