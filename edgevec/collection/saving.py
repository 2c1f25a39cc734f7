"""When the graph is written beside the database, and columns of fields into it, and who reads and writes meanwhile."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import AbstractContextManager
from typing import Protocol

from ..errors import EdgevecError
from .database import Database
from .field_cache import FieldCache
from .field_columns import NotKeptError
from .graph import Graph
from .sql import end_transaction
from .sqlite_errors import reraise_interrupt, translated
from .threads import ReadWriteLock

__all__ = ["Snapshots"]

log = logging.getLogger("edgevec")

_MIN_CHANGES, _RECORDS_DIVISOR = 20_000, 2
"""A snapshot is written when the changes since the last one exceed the first, and the records divided by the second."""
_MIN_CHANGES_AT_CLOSE, _RECORDS_DIVISOR_AT_CLOSE = 200, 100
"""The same at close(): the next opening catches up with fewer changes in less time than a snapshot takes to write."""


class Turns(Protocol):
    """Given to each call, and not kept: a Store that nobody uses any longer goes at once."""

    def writers_turn(self) -> AbstractContextManager[sqlite3.Connection]:
        """No other thread writes; for a transaction of its own."""

    def no_readers(self) -> AbstractContextManager[None]:
        """No other thread reads or has a batch open."""


class Snapshots:
    """
    Attributes:
        lock: Held by the thread that writes a snapshot.
    """

    def __init__(
        self,
        database: Database,
        graph: Graph,
        fields: FieldCache,
        readers: ReadWriteLock,
        *,
        secure_delete: bool,
    ) -> None:
        self.lock = threading.Lock()
        self._database = database
        self._graph = graph
        self._fields = fields
        self._readers = readers
        self._secure_delete = secure_delete

    def write_beside_others(self, turns: Turns) -> None:
        """The calling thread holds the lock, and the graph has caught up."""
        if self._secure_delete:
            with turns.no_readers():
                self._overwrite_deleted()
        self._save(turns, self._readers)
        self._save_fields(turns, soon=True)

    def write_if_due(self, turns: Turns) -> None:
        if not self._lags(_MIN_CHANGES, _RECORDS_DIVISOR):
            return
        if not self.lock.acquire(blocking=False):  # another thread is writing one
            return
        try:
            with translated(self._database.name):
                self.write_beside_others(turns)
        except EdgevecError as error:  # the records are safe; the next opening takes longer
            log.warning("%s: no snapshot of the graph: %s", self._database.name, error)
        finally:
            self.lock.release()

    def write_at_close(self, turns: Turns) -> None:
        """The calling thread holds all locks."""
        secure = self._secure_delete and self._database.main.total_changes > 0
        if secure:
            self._overwrite_deleted()
        if secure or self._lags(_MIN_CHANGES_AT_CLOSE, _RECORDS_DIVISOR_AT_CLOSE):
            self._save(turns, None)
        elif self._graph.snapshot is not None:
            self._graph.snapshot.clear()  # a signal may have ended one as it cleared up
        self._save_fields(turns, soon=False)

    def _save(self, turns: Turns, readers: ReadWriteLock | None) -> None:
        """readers: None where readers and writers are shut out already."""
        graph = self._graph
        if graph.snapshot is None or graph.index is None or graph.version is None:
            return
        try:
            if readers is not None:
                readers.freeze()
            seq, identity = graph.seq, graph.snapshot.write(graph.index)
            if readers is not None:
                readers.unfreeze()
            with turns.writers_turn() as connection:
                graph.snapshot.publish(connection, identity, seq)
                graph.saved_seq = seq
        finally:
            if readers is not None:
                readers.unfreeze()
            graph.snapshot.clear()

    def _save_fields(self, turns: Turns, *, soon: bool) -> None:
        """Not where deleted values are to be overwritten: columns hold values until they are written again."""
        if self._secure_delete or self._graph.snapshot is None:
            return
        with turns.writers_turn() as connection:
            try:
                if not self._fields.is_saving_due(connection, soon=soon):
                    return
                connection.execute("BEGIN IMMEDIATE")
                self._fields.save(connection)
                connection.execute("COMMIT")
            except (sqlite3.Error, MemoryError, NotKeptError) as error:  # damaged records, say: conditions read them
                reraise_interrupt(error)
                log.info("%s: no columns of fields: %s", self._database.name, error)
            finally:
                end_transaction(connection)

    def _overwrite_deleted(self) -> None:
        """Let neither the graph nor the full-text index hold anything of what was deleted. Nobody else reads now."""
        if self._graph.index is not None:
            self._graph.index.compact()
        self._database.main.execute("INSERT INTO texts(texts) VALUES ('optimize')")

    def _lags(self, least: int, share: int) -> bool:
        graph = self._graph
        if graph.index is None or graph.snapshot is None:
            return False
        return graph.seq - graph.saved_seq > max(least, len(graph.index) // share)
