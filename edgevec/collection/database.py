"""The SQLite file: its connections, the lock of its one writer, and SQLite's errors in edgevec's words."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ..errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    EdgevecError,
    LockedError,
    OutOfMemoryError,
    ParameterError,
    StorageError,
)

__all__ = ["Database", "Durability", "translate", "translated"]

Durability = Literal["full", "fast"]

_CACHE_KB = 32 * 1024
_BUSY_MS = 10_000
"""How long to wait for another process that reads while the write-ahead log is copied back."""

# By what SQLite says, since its codes reach Python from 3.11 on.
_MEANING: tuple[tuple[str, type[EdgevecError]], ...] = (
    ("not a database", CorruptCollectionError),
    ("malformed", CorruptCollectionError),
    ("Could not decode", CorruptCollectionError),
    ("no such table", CorruptCollectionError),
    ("locked", LockedError),
    ("too big", ParameterError),
    ("disk", StorageError),
    ("unable to open", StorageError),
    ("readonly database", StorageError),
    ("no such module", EdgevecError),
)


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Raise SQLite's errors as edgevec's, about the subject. What only a fault of ours can cause stays as it is."""
    try:
        yield
    except Exception as error:
        translate(error, subject)
        raise


def translate(error: BaseException, subject: str) -> None:
    """Raise what this error is in edgevec's words, if there are any for it."""
    if isinstance(error, sqlite3.Error):
        message = str(error)
        for words, kind in _MEANING:
            if words in message:
                raise kind(f"{subject}: {message}") from error
        if type(error) is sqlite3.DatabaseError:  # Python 3.10 may give no message for bytes that make no sense
            raise CorruptCollectionError(f"{subject}: damaged {message}".rstrip()) from error
    elif isinstance(error, (UnicodeDecodeError, json.JSONDecodeError)):
        raise CorruptCollectionError(f"{subject}: damaged: {error}") from error
    elif isinstance(error, MemoryError) and not isinstance(error, EdgevecError):
        raise OutOfMemoryError(f"{subject}: out of memory") from error


class Database:
    """One writing connection and as many for reading as there are readers at once.

    Without threads (in a browser) and without a file there is one connection for everything: `shared` is true, and only
    one thread at a time may use it.
    """

    def __init__(self, path: Path | None, *, writable: bool, durability: Durability = "full") -> None:
        self.path = path
        self.name = str(path) if path else ":memory:"
        self.shared = path is None or sys.platform == "emscripten"
        self._writable = writable
        self._idle: list[sqlite3.Connection] = []
        self._lock: sqlite3.Connection | None = None
        self._main: sqlite3.Connection | None = None
        try:
            if path is not None:
                self._open_file(path, durability)
            else:
                self._main = self._connect(":memory:")
        except BaseException:
            self.close()
            raise

    @property
    def main(self) -> sqlite3.Connection:
        """The writing connection; of a collection open for reading, the first."""
        assert self._main is not None
        return self._main

    def take(self) -> sqlite3.Connection:
        """A connection to read with; to be given back."""
        if self.shared:
            return self.main
        try:
            return self._idle.pop()
        except IndexError:
            assert self.path is not None
            return self._connect(self.path.as_uri() + "?mode=ro")

    def give_back(self, connection: sqlite3.Connection) -> None:
        if not self.shared:
            self._idle.append(connection)

    def close(self) -> None:
        """Close every connection that is not in use; the last one to close copies the write-ahead log back."""
        while self._idle:
            self._idle.pop().close()
        for connection in (self._main, self._lock):
            if connection is not None:
                connection.close()

    # ---- opening ---------------------------------------------------------------------------------------------------

    def _open_file(self, path: Path, durability: Durability) -> None:
        if not self._writable and not path.exists():
            raise CollectionNotFoundError(f"{path}: no such collection")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: there is no folder {str(path.parent)!r}")
        with translated(str(path)):
            if not self._writable:
                self._main = self._open_to_read(path)
                return
            self._lock = _lock(path)
            self._main = self._connect(path.as_uri() + "?mode=rwc")
            self._set_journal(durability)

    def _open_to_read(self, path: Path) -> sqlite3.Connection:
        connection = self._connect(path.as_uri() + "?mode=ro")
        try:
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            # A folder that cannot be written to has no room for the index of a write-ahead log, and needs none.
            connection.close()
            if Path(f"{path}-wal").exists() or "unable to open" not in str(error):
                raise
            connection = self._connect(path.as_uri() + "?immutable=1")
            self.shared = True
        return connection

    def _connect(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
            if self.shared and self.path is not None:
                # No shared memory here. Set before the first access, it also opens files of the write-ahead kind.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_journal(self, durability: Durability) -> None:
        mode = "DELETE" if self.shared else "WAL"
        self.main.execute(f"PRAGMA journal_mode = {mode}")
        self.main.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        self.main.execute(f"PRAGMA fullfsync = {int(durability == 'full')}")


def _lock(path: Path) -> sqlite3.Connection:
    """Become the writer until the connection closes or the process ends, however it ends.

    A database of no content, locked for good: SQLite knows how to lock a file on every system.
    """
    connection = sqlite3.connect(
        Path(f"{path}-lock").as_uri(), uri=True, isolation_level=None, check_same_thread=False, timeout=0
    )
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" not in str(error):
            raise
        raise LockedError(
            f"{path} is open for writing already, here or in another process; open it with mode='r' to read"
        ) from None
    return connection
