"""The graph as a file beside the database, so that opening need not build it.

The file is the index's own, whole and checksummed. What it belongs to is not in it but in the database, which knows its
graph files by the hash of their head; the head holds the checksums of all the rest. A file that it does not know is
never used, whoever put it there. A new file is made known before it takes the place of the old one.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from pathlib import Path

from ..errors import CorruptIndexError, FormatVersionError, OutOfMemoryError, StorageError
from ..index import Index
from . import files, journal

__all__ = ["Snapshot", "UnusableError"]

_HEAD_BYTES = 4096
_MAP = os.name == "posix" and sys.platform != "emscripten"
"""Windows does not let a file be replaced while it is mapped."""


class UnusableError(Exception):
    """Why a snapshot cannot be used."""


class Snapshot:
    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, connection: sqlite3.Connection) -> tuple[Index, int]:
        """The graph, and the last change that it holds. UnusableError says why there is none."""
        for _ in range(5):  # a writer may replace the file while it is read
            identity = self._identity(self.path)
            seq = journal.known_snapshot(connection, identity)
            if seq is None:
                raise UnusableError("it is damaged, older than the last checkpoint, or of another collection")
            if seq < journal.trimmed(connection):
                raise UnusableError("it is older than the last checkpoint")
            try:
                index = Index.load(self.path, mmap=_MAP)
            except (CorruptIndexError, FormatVersionError, OSError) as error:
                raise UnusableError(str(error)) from error
            if self._identity(self.path) == identity:
                return index, seq
        raise UnusableError("it is being replaced all the time")

    def save(self, connection: sqlite3.Connection, index: Index, seq: int) -> None:
        """Write the graph, durably. On failure the old file and what is known of it stay."""
        new = self.path.with_name(self.path.name + ".new")
        try:
            index.save(new)
            identity = self._identity(new)
            journal.register(connection, identity, seq)
            files.replace(new, self.path)
            _flush_folder(self.path.parent)
        except (UnusableError, OSError) as error:
            new.unlink(missing_ok=True)
            if isinstance(error, (StorageError, OutOfMemoryError)):
                raise
            raise StorageError(f"{self.path}: {error}") from error
        connection.execute("BEGIN IMMEDIATE")
        journal.trim(connection, identity, seq)
        connection.execute("COMMIT")

    @staticmethod
    def _identity(path: Path) -> str:
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except FileNotFoundError:
            raise UnusableError("there is none") from None
        except OSError as error:
            raise UnusableError(str(error)) from error
        return hashlib.blake2b(head, digest_size=16).hexdigest()


def _flush_folder(folder: Path) -> None:
    if os.name != "posix" or sys.platform == "emscripten":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
