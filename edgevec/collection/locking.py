"""Locks on the file: one writer at a time, and one name at a time.

SQLite finds the log of a database by name. A process that opens the file under another of its names (a hard link) does
not see the log, and SQLite does not notice.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ..errors import LockedError, StorageError, about_file
from .sqlite_errors import BUSY, CANTOPEN, READONLY, code_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Identity", "Lock", "claim", "identity", "unclaim"]

log = logging.getLogger("edgevec")

_LIVE_AT = 128
"""The byte of a "-shm" file that every connection keeps locked (SQLite's UNIX_SHM_DMS)."""

Identity = tuple[int, int]
"""Device and inode: a file, whatever its name."""

_guard = threading.Lock()
_open: dict[tuple[int, Identity], list[tuple[Path, bool]]] = {}
"""By process and file: the names under which it is open, and whether for writing."""


def identity(path: Path) -> Identity | None:
    """None where there is no such file."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def claim(path: Path, writable: bool) -> Identity | None:
    """Register that this process opens the file; None when it does not exist yet. LockedError when it must not."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    file = (info.st_dev, info.st_ino)
    with _guard:
        uses = _open.setdefault((os.getpid(), file), [])
        try:
            if writable and any(writes for _, writes in uses):
                raise _locked(path)
            if info.st_nlink > 1:
                _check_names(path, [name for name, _ in uses], info.st_nlink)
        except BaseException:
            if not uses:
                del _open[os.getpid(), file]
            raise
        uses.append((path, writable))
    return file


def unclaim(file: Identity, path: Path, writable: bool) -> None:
    with _guard:
        uses = _open.get((os.getpid(), file), [])
        with suppress(ValueError):  # it was claimed by the parent process
            uses.remove((path, writable))
        if not uses:
            _open.pop((os.getpid(), file), None)


def _check_names(path: Path, others: list[Path], links: int) -> None:
    """LockedError when the file is open under another name."""
    for other in others:
        if other.name.casefold() != path.name.casefold() or not os.path.samefile(other.parent, path.parent):
            raise about_file(
                LockedError(f"{path} is open already as {other}: open it under one name, or copy it"),
                path,
                errno.EAGAIN,
            )
    if others or sys.platform == "emscripten":
        return
    log.warning("%s: the file has %d hard links: open it under one of its names only", path, links)
    if _in_use(path) and not _in_use_as(path):
        raise about_file(
            LockedError(f"{path} is open elsewhere under another of its {links} names: use that one, or copy it"),
            path,
            errno.EAGAIN,
        )


def _in_use(path: Path) -> bool:
    """Whether any connection has the file open, under any name: each keeps a lock on the file itself."""
    connection = sqlite3.connect(path.as_uri() + "?mode=rw", uri=True, isolation_level=None, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        return code_of(error) == BUSY
    finally:
        connection.close()
    return False


def _in_use_as(path: Path) -> bool:
    """Whether another process has the file open under this name."""
    if fcntl is None:
        return False
    try:
        with open(f"{path}-shm", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LIVE_AT)
    except FileNotFoundError:
        return False
    except OSError:  # locked, or of another user
        return True
    return False


class Lock:
    """The writer's lock, held until it is closed or the process ends.

    An empty SQLite database in an exclusive transaction: SQLite can lock a file on every system.
    """

    def __init__(self, path: Path) -> None:
        beside = Path(f"{path}-lock")
        self._connection = sqlite3.connect(
            beside.as_uri(), uri=True, isolation_level=None, check_same_thread=False, timeout=0
        )
        try:
            self._connection.execute("PRAGMA journal_mode = MEMORY")  # no journal beside a file without content
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._connection.close()
            if code_of(error) == BUSY:
                raise _locked(path) from None
            if code_of(error) in (CANTOPEN, READONLY):
                raise about_file(
                    StorageError(f"{beside}: {error}: to write to a collection takes a folder that can be written to"),
                    beside,
                    None if os.access(path.parent, os.W_OK) else errno.EACCES,
                ) from error
            raise

    def close(self) -> None:
        self._connection.close()


def _locked(path: Path) -> LockedError:
    return about_file(
        LockedError(f"{path} is open for writing already, here or in another process; open it with mode='r' to read"),
        path,
        errno.EAGAIN,
    )


def _after_fork() -> None:
    """In a forked process, which has not the thread that may have held it."""
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
