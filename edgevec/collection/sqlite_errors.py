"""SQLite's errors as edgevec's."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import (
    CorruptCollectionError,
    EdgevecError,
    LockedError,
    OutOfMemoryError,
    ParameterError,
    StorageError,
    about_file,
)
from . import interrupts

__all__ = ["BUSY", "CANTOPEN", "ERROR", "NOTADB", "READONLY", "code_of", "reraise_interrupt", "translate", "translated"]

ERROR, BUSY, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN = 1, 5, 8, 9, 10, 11, 13, 14
NOTADB = 26
_IOERR_NOMEM = IOERR | 12 << 8
_READONLY_DBMOVED = READONLY | 4 << 8

_KINDS: dict[int, tuple[type[EdgevecError], int | None]] = {
    3: (StorageError, errno.EACCES),  # PERM
    BUSY: (LockedError, errno.EAGAIN),
    6: (LockedError, errno.EAGAIN),  # LOCKED
    READONLY: (StorageError, None),
    INTERRUPT: (EdgevecError, None),
    IOERR: (StorageError, errno.EIO),
    CORRUPT: (CorruptCollectionError, None),
    FULL: (StorageError, errno.ENOSPC),
    CANTOPEN: (StorageError, None),
    15: (LockedError, errno.EAGAIN),  # PROTOCOL
    18: (ParameterError, None),  # TOOBIG
    19: (CorruptCollectionError, None),  # CONSTRAINT: what edgevec writes satisfies them all
    22: (StorageError, errno.EFBIG),  # NOLFS
    23: (StorageError, errno.EACCES),  # AUTH
    NOTADB: (CorruptCollectionError, None),
}
"""By SQLite's primary result code: the error, and its errno where there is one."""

_WORDS = (
    ("not a database", NOTADB),
    ("image is malformed", CORRUPT),
    ("is locked", BUSY),
    ("disk is full", FULL),
    ("disk I/O error", IOERR),
    ("unable to open", CANTOPEN),
    ("readonly database", READONLY),
    ("interrupted", INTERRUPT),
    ("too big", 18),
    ("constraint failed", 19),
    ("locking protocol", 15),
)
"""Python 3.10 does not tell SQLite's codes: these parts of messages stand for them."""

_CONTENT = ("malformed", "Could not decode", "no such table", "no such column", "has no column")
"""Parts of messages, of errors without a code of their own, that mean a damaged file."""


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Raise SQLite's errors as edgevec's. Those that only a bug of edgevec can cause stay as they are."""
    try:
        yield
    except Exception as error:
        translate(error, subject)
        raise


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code; ERROR when there is no other."""
    return _extended(error) & 0xFF


def reraise_interrupt(error: Exception) -> None:
    """For those who handle errors of statements: raise again what must not be handled, as Ctrl-C."""
    if isinstance(error, sqlite3.Error) and code_of(error) == INTERRUPT:
        interrupts.raised.reraise()
        raise error


def translate(error: BaseException, subject: str) -> None:
    """Raise edgevec's error for this one, if there is one. subject: the file, or ":memory:"."""
    if isinstance(error, sqlite3.Error):
        _translate_sqlite(error, subject)
    elif isinstance(error, (UnicodeDecodeError, json.JSONDecodeError)):
        raise CorruptCollectionError(f"{subject}: damaged: {error}") from error
    elif isinstance(error, MemoryError) and not isinstance(error, EdgevecError):
        raise OutOfMemoryError(f"{subject}: out of memory") from error


def _translate_sqlite(error: sqlite3.Error, subject: str) -> None:
    message, code = str(error), code_of(error)
    if code == INTERRUPT:
        interrupts.raised.reraise()
    if _extended(error) == _IOERR_NOMEM:
        raise OutOfMemoryError(f"{subject}: out of memory") from error
    if code in _KINDS:
        kind, number = _KINDS[code]
        if code == CORRUPT:  # SQLite says so too where the system could not read (SQLITE_IOERR_CORRUPTFS)
            message += ", or the disk cannot read it"
        made = kind(f"{subject}: {message}")
        if isinstance(made, (StorageError, LockedError)):
            path = None if subject == ":memory:" else subject
            raise about_file(made, path, number or (_number(_extended(error), path) if path else None)) from error
        raise made from error
    if any(words in message for words in _CONTENT):
        raise CorruptCollectionError(f"{subject}: {message}") from error
    if "no such module" in message:
        raise EdgevecError(f"{subject}: {message}") from error
    if type(error) is sqlite3.DatabaseError:  # Python 3.10 may give no message for damaged bytes
        raise CorruptCollectionError(f"{subject}: damaged {message}".rstrip()) from error


def _extended(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return next((code for words, code in _WORDS if words in str(error)), ERROR)
    return int(code)


def _number(code: int, path: str) -> int | None:
    """The errno for which SQLite could not open or change a file, as far as it can be told afterwards."""
    folder = os.path.dirname(path) or "."
    if code == _READONLY_DBMOVED:
        return errno.ESTALE
    if not os.path.isdir(folder):
        return errno.ENOENT
    if os.path.exists(path) and not os.access(path, os.R_OK if code & 0xFF == CANTOPEN else os.W_OK):
        return errno.EACCES
    return None if os.access(folder, os.W_OK) else errno.EACCES
