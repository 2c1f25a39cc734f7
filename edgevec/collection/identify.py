"""What kind of file a path is, before anything is done to it.

The file itself is read by SQLite alone: where a process closes a file by other means, it loses the locks that its own
connections to that file have (POSIX locks are the process's, not the handle's).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Literal

from ..errors import CorruptCollectionError, EdgevecError, StorageError, about_file
from ..files import DISK_INDEX_START, INDEX_START, VECTOR_SUFFIXES
from . import schema
from .sqlite_errors import NOTADB, code_of, translated

__all__ = ["identify", "looks_like_collection"]

_MIN_BYTES = 512
"""An SQLite database has at least one page."""


def looks_like_collection(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a collection that edgevec.open() could open.

    Nothing is written, no lock is taken, and no error raised, whatever is there.

    Args:
        path: a file, or anything else

    Example:
        >>> import edgevec
        >>> from edgevec.collection import looks_like_collection
        >>> edgevec.open("notes.edgevec", dim=2).close()
        >>> looks_like_collection("notes.edgevec"), looks_like_collection("other")
        (True, False)
    """
    try:
        return identify(Path(path).absolute()) == "collection"
    except EdgevecError:
        return False


def identify(path: Path) -> Literal["missing", "empty", "collection"]:
    """What is there.

    Raises:
        StorageError: when it cannot be read, or is not a regular file
        CorruptCollectionError: when it is something else
        FormatVersionError: when a newer edgevec has written it
    """
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise about_file(StorageError(f"{path}: unable to open: {error.strerror}"), path, error.errno) from error
    if stat.S_ISDIR(info.st_mode):
        of = ""
        if (path / "manifest.json").is_file():
            of = " of shards, for ShardedCollection.open() or, where they are of an index, ShardedIndex.open()"
        raise about_file(StorageError(f"{path}: unable to open: it is a folder{of}"), path, errno.EISDIR)
    if not stat.S_ISREG(info.st_mode):
        raise about_file(StorageError(f"{path}: unable to open: it is not a regular file"), path, errno.EINVAL)
    if info.st_size == 0:
        return "empty"
    if info.st_size < _MIN_BYTES:
        raise _no_database(path)
    with translated(str(path)):
        try:
            return "collection" if _is_collection(path) or _log_is_of_collection(path) else "empty"
        except sqlite3.DatabaseError as error:
            if code_of(error) == NOTADB:
                raise _no_database(path) from error
            raise


def _no_database(path: Path) -> CorruptCollectionError:
    opener = _opener(path)
    return CorruptCollectionError(f"{path}: not a collection: {f'it is {opener}' if opener else 'not a database'}")


def _opener(path: Path) -> str:
    """What a file that is no database is, if edgevec has an opener for it; else ""."""
    if path.name == "manifest.json":
        return "the manifest of a folder of shards, for ShardedCollection.open() or ShardedIndex.open()"
    if path.name.lower().endswith(VECTOR_SUFFIXES):
        return "a file of vectors, which Collection.import_from() reads"
    try:
        with path.open("rb") as stream:
            start = stream.read(len(INDEX_START))
    except OSError:
        return ""
    openers = {INDEX_START: "an index, which Index.load() opens", DISK_INDEX_START: "an index, which DiskIndex() opens"}
    return openers.get(start, "")


def _is_collection(path: Path) -> bool:
    """Of the file without its log. "immutable": SQLite takes no lock and creates no file."""
    connection = sqlite3.connect(path.as_uri() + "?immutable=1", uri=True)
    try:
        # A writer killed while the log was copied back may leave a file that is shorter than its first page says. With
        # its log it is whole; without, SQLite reads it in this mode alone. Nothing is written.
        connection.execute("PRAGMA writable_schema = ON")
        return schema.verify(connection, str(path))
    finally:
        connection.close()


def _log_is_of_collection(path: Path) -> bool:
    """Of an empty file: its writer may have been killed before the first checkpoint of the write-ahead log."""
    try:
        page = _first_page(Path(f"{path}-wal"))
    except OSError as error:
        raise about_file(StorageError(f"{path}-wal: {error.strerror}"), f"{path}-wal", error.errno) from error
    if page is None:
        return False
    version, application, cells = (
        int.from_bytes(page[at : at + size], "big") for at, size in ((60, 4), (68, 4), (103, 2))
    )
    if application == schema.APPLICATION_ID:
        return True
    if application or version or cells:
        raise CorruptCollectionError(f"{path}: {schema.NOT_OURS}")
    return False


def _first_page(log: Path) -> bytes | None:
    """The newest first page of the database in a write-ahead log (SQLite's file format, section 4)."""
    if not log.is_file():
        return None
    with log.open("rb") as file:
        head = file.read(32)
        size, found, salt = int.from_bytes(head[8:12], "big"), None, head[16:24]
        while size and len(frame := file.read(24)) == 24:
            if frame[8:16] != salt:  # left by an earlier use of the file
                break
            if int.from_bytes(frame[:4], "big") == 1:
                found = file.read(size)
            else:
                file.seek(size, os.SEEK_CUR)
    return found if found is not None and len(found) == size else None
