"""The graph as a file beside the database, so that opening need not build it.

It is an index file. The database knows its graph files by the hash of their head, which holds the checksums of the
rest; a file that it does not know is never used. A new file is registered before it replaces the old one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .._types import Storage
from ..errors import CorruptIndexError, FormatVersionError, OutOfMemoryError, StorageError, about_file
from ..files import replace
from ..index import Index
from ..staging import set_path
from . import changes
from .database import copy_mode
from .sql import end_transaction

__all__ = ["Snapshot", "UnusableError"]

_HEAD_BYTES = 4096
_CAN_MAP = os.name == "posix" and sys.platform != "emscripten"
"""Windows does not let a file be replaced while it is mapped."""


class UnusableError(Exception):
    """Why a snapshot cannot be used."""


class Snapshot:
    def __init__(self, database: Path, *, mmap: bool = False, storage: Storage = "memory") -> None:
        """mmap: map the file, if this system can. storage: of the index that is loaded."""
        self.path = Path(f"{database}-graph")
        self._database = database
        self._mmap = mmap and _CAN_MAP
        self._storage = storage

    def load(self, connection: sqlite3.Connection, memory_limit: int | None) -> tuple[Index, int]:
        """The graph, and the last change that it holds. UnusableError says why it cannot be used.

        memory_limit: of the graph; MemoryLimitError where it takes more
        """
        for _ in range(5):  # a writer may replace the file while it is read
            identity = self._identity(self.path)
            seq = changes.known_snapshot(connection, identity)
            if seq is None:
                raise UnusableError("it is damaged, older than the last checkpoint, or of another collection")
            if seq < changes.low_water_mark(connection):
                raise UnusableError("it is older than the last checkpoint")
            try:
                index = Index.load(self.path, mmap=self._mmap, memory_limit=memory_limit, storage=self._storage)
            except (CorruptIndexError, FormatVersionError, OSError) as error:
                raise UnusableError(str(error)) from error
            if self._identity(self.path) == identity:
                if self._storage == "disk":
                    set_path(index, self.path)
                return index, seq
        raise UnusableError("it is being replaced again and again")

    def write(self, index: Index) -> str:
        """Write the graph beside the file that is in use, durably; its identity. To be published, or cleared away."""
        private = self._private
        with self._refused():
            _clear(private)  # a killed process may have left it
            private.mkdir(0o700)  # until the file has the database's mode, no other user may read it
            index.save(private / self.path.name)
            copy_mode(private / self.path.name, self._database)
            return self._identity(private / self.path.name)

    def publish(self, connection: sqlite3.Connection, identity: str, seq: int) -> None:
        """Put what write() has written in the place of the old file. On failure that and its registration stay."""
        with self._refused():
            changes.register(connection, identity, seq)
            replace(self._private / self.path.name, self.path)
            _flush_folder(self.path.parent)
        try:
            connection.execute("BEGIN IMMEDIATE")
            changes.truncate(connection, identity, seq)
            connection.execute("COMMIT")
        finally:
            end_transaction(connection)

    def clear(self) -> None:
        """Remove what write() has written and publish() has not taken."""
        with suppress(OSError):
            _clear(self._private)

    @property
    def _private(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except (UnusableError, OSError) as error:
            if isinstance(error, (StorageError, OutOfMemoryError)):
                raise
            cause = error if isinstance(error, OSError) else error.__cause__
            number = cause.errno if isinstance(cause, OSError) else None
            raise about_file(StorageError(f"{self.path}: {error}"), self.path, number) from error

    @staticmethod
    def _identity(path: Path) -> str:
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise UnusableError("it is not a regular file")  # reading a pipe would block
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except FileNotFoundError:
            raise UnusableError("there is none") from None
        except OSError as error:
            raise UnusableError(str(error)) from error
        return hashlib.blake2b(head, digest_size=16).hexdigest()


def _clear(private: Path) -> None:
    if private.is_dir() and not private.is_symlink():
        shutil.rmtree(private, ignore_errors=True)
    else:
        private.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix" or sys.platform == "emscripten":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
