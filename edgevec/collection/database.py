"""The SQLite file: its connections, and checks that it is still the file that was opened."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ..errors import CollectionNotFoundError, LockedError, ParameterError, StorageError, about_file
from . import interrupts
from .identify import identify
from .locking import Identity, Lock, claim, identity, unclaim
from .log_head import LogHead, let_go, shared_head
from .sqlite_errors import BUSY, CANTOPEN, READONLY, code_of, reraise_interrupt, translated

__all__ = ["Database", "Durability", "copy_mode", "resolve"]

log = logging.getLogger("edgevec")

Durability = Literal["full", "fast"]

_SINGLE_PROCESS = sys.platform == "emscripten"
"""A browser has one process, with one connection."""
_POSIX = os.name == "posix" and sys.platform != "emscripten"
_STALE_ERRNO = getattr(errno, "ESTALE", errno.EIO)
_CACHE_KB = 32 * 1024
MAX_IDLE = 8
"""Connections that are kept open for readers; more of them, for more readers at once, are closed after use."""
BUSY_MS = 10_000
"""Time to wait for readers in other processes while the write-ahead log is copied back."""
_BUSY_POLL_MS = 100
"""A part of it, after which Python sees signals."""

_MIN_LOG_BYTES, _LOG_DIVISOR = 8 * 2**20, 8
"""A log longer than the first, and than the file divided by the second, is emptied once it is copied back."""

_Stamp = tuple[int, int, int, int, bool]


class Database:
    """One writing connection and as many for reading as there are readers at once.

    In a browser, in memory, and where nothing can be written beside the file, there is one connection for everything:
    `single_connection` is true, and one thread at a time may use it.
    """

    def __init__(self, path: Path | None, *, writable: bool) -> None:
        self.path = path
        self.name = str(path) if path else ":memory:"
        self.single_connection = path is None or _SINGLE_PROCESS
        self._writable = writable
        self._readers: set[sqlite3.Connection] = set()
        """All of them; a call that a signal has ended may have left one that is neither idle nor in use."""
        self._idle: list[sqlite3.Connection] = []
        self.versions: dict[sqlite3.Connection, tuple[int, int]] = {}
        """Of connections that only read: the number of commits that each saw last, and the version of the records."""
        self._lock: Lock | None = None
        self._main: sqlite3.Connection | None = None
        self._claimed: Identity | None = None
        self._opened: list[tuple[Path, Identity]] = []
        self._telling: list[tuple[str, Identity]] = []
        """Those of them that say what is committed: looked at before each search of a reader."""
        self._leading_to_head: list[tuple[str, Identity]] = []
        """Those of these without the log itself, where its head is looked at in place of a connection."""
        self._immutable_stamp: _Stamp | None = None
        """Of a file opened as immutable: its state then."""
        self.log_head: LogHead | None = None
        """Of a file opened for reading, where it can be mapped."""
        try:
            if path is not None:
                self._open_file(path)
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

    def acquire(self) -> sqlite3.Connection:
        """A connection to read with; to be released."""
        if self.single_connection:
            return self.main
        try:
            return self._idle.pop()
        except IndexError:
            assert self.path is not None
            self.check_files()
            connection = self._connect(self.path.as_uri() + "?mode=ro")
            try:
                self.check_files()  # the path may lead to another file by now
            except BaseException:
                connection.close()
                raise
            self._readers.add(connection)
            return connection

    def release(self, connection: sqlite3.Connection) -> None:
        """Keep it for the next reader, unless MAX_IDLE are kept already."""
        if self.single_connection:
            return
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            self.discard(connection)

    def discard(self, connection: sqlite3.Connection) -> None:
        """In place of release(), when a call on it has failed."""
        if connection is not self._main:
            self._readers.discard(connection)
            self.versions.pop(connection, None)
            connection.close()

    def close_idle(self) -> None:
        """Close the connections of readers, which have the schema cached. Nobody reads now."""
        while self._idle:
            self.discard(self._idle.pop())

    def close(self) -> None:
        """Close every connection; the last one to close copies the write-ahead log back. Nobody reads now."""
        self._idle.clear()
        self.versions.clear()
        while self._readers:
            self._readers.pop().close()
        if self._main is not None:
            self._main.close()
            if self._writable and self._opened and not _SINGLE_PROCESS:
                self._say_what_stays()
        if self.log_head is not None:
            self.log_head = None
            let_go(self)
        if self._lock is not None:
            self._lock.close()
        if self._claimed is not None and self.path is not None:
            unclaim(self._claimed, self.path, self._writable)
            self._claimed = None

    def copy_log_back(self) -> None:
        """Copy the log into the file and empty it. LockedError when readers stand in the way too long."""
        if self.path is None:
            return
        if _SINGLE_PROCESS:
            with suppress(FileNotFoundError):  # SQLite, which is not to share it, keeps it open and void at its head
                os.truncate(f"{self.path}-journal", 0)
            return
        waited = 0
        self.main.execute(f"PRAGMA busy_timeout = {_BUSY_POLL_MS}")
        try:
            while interrupts.run(self.main, "PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
                waited += _BUSY_POLL_MS
                if waited >= BUSY_MS:
                    raise about_file(
                        LockedError(
                            f"{self.path}: its log cannot be emptied: another connection has been reading it for "
                            f"{BUSY_MS / 1000:g} s (a search or an export in a process that has the collection open, "
                            "an sqlite3 shell in a transaction, a backup). Nothing is lost, and the log goes on "
                            "growing until that has ended"
                        ),
                        self.path,
                        errno.EAGAIN,
                    )
        finally:
            self.main.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def is_log_long(self) -> bool:
        """Whether the log is too long for its file. SQLite writes it anew from its start, but never shortens it."""
        if self.path is None or _SINGLE_PROCESS:
            return False
        try:
            file, log_bytes = (os.stat(f"{self.path}{end}").st_size for end in ("", "-wal"))
        except OSError:
            return False
        return log_bytes > max(_MIN_LOG_BYTES, file // _LOG_DIVISOR)

    def copy_log(self) -> None:
        """Copy the log into the file as far as nobody reads what was there before; others may read and go on."""
        self._checkpoint("PASSIVE")

    def shorten_log(self) -> None:
        """Empty the log, unless another process reads it: then a later call does. Nobody in this process reads now."""
        self._checkpoint("TRUNCATE")

    def _checkpoint(self, mode: str) -> None:
        try:
            self.main.execute("PRAGMA busy_timeout = 0")
            try:
                interrupts.run(self.main, f"PRAGMA wal_checkpoint({mode})")
            finally:
                self.main.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        except sqlite3.Error as error:  # what was committed is safe in the log
            reraise_interrupt(error)
            log.info("%s: its log stays as long as it is: %s", self.path, error)

    def _say_what_stays(self) -> None:
        """SQLite does not tell, at closing, whether it has copied the log back; then it deletes it."""
        with suppress(OSError):
            size = os.stat(f"{self.path}-wal").st_size
            if size:
                log.info("%s: its log of %d bytes stays beside it: others have it open", self.path, size)

    # ---- is it still the same file? --------------------------------------------------------------------------------

    def check_files(self) -> None:
        """StorageError when the file, its log or its lock was removed or replaced since it was opened.

        SQLite would go on writing to a file without a name.
        """
        for path, opened in self._opened:
            check_unmoved(path, opened)

    def check_file(self) -> None:
        """As check_files(), of those that say what is committed: quicker."""
        self._check_quickly(self._telling)

    def head_of_log(self) -> bytes | None:
        """What changes with each commit of whatever process; None where that takes a connection.

        As check_file(), of the two files that whoever commits must open as this process has: the log itself is written
        before the head, and checked by who reads it.
        """
        if self.log_head is None:
            return None
        self._check_quickly(self._leading_to_head)
        return self.log_head.read()

    def _check_quickly(self, files: list[tuple[str, Identity]]) -> None:
        try:
            for path, opened in files:
                found = os.stat(path)
                if found.st_ino != opened[1] or found.st_dev != opened[0]:
                    break
            else:
                return
        except OSError:
            pass
        self.check_files()

    def renew(self) -> bool:
        """Open a file that was opened as immutable again, if it was written to; whether it was."""
        if self._immutable_stamp is None or self.path is None or self._stamp(self.path) == self._immutable_stamp:
            return False
        before, self._main = self.main, self._open_to_read(self.path)
        before.close()
        self._remember()
        return True

    # ---- opening ---------------------------------------------------------------------------------------------------

    def _open_file(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise about_file(StorageError(f"{path}: there is no folder {str(path.parent)!r}"), path, errno.ENOENT)
        found = identify(path)
        if not self._writable and found != "collection":
            problem = "no such collection" if found == "missing" else "is empty"
            raise about_file(CollectionNotFoundError(f"{path}: {problem}"), path, errno.ENOENT)
        self._claimed = claim(path, self._writable)
        with translated(str(path)):
            if not self._writable:
                self._main = self._open_to_read(path)
                self._remember()
                self._map_log_head()
                return
            self._lock = Lock(path)
            self._main = self._connect(path.as_uri() + ("?mode=rw" if found == "collection" else "?mode=rwc"))
            if self._claimed is None:
                self._claimed = claim(path, self._writable)
            copy_mode(Path(f"{path}-lock"), path)

    def _open_to_read(self, path: Path) -> sqlite3.Connection:
        stamp = None
        try:
            connection = self._connect(path.as_uri() + "?mode=ro")
            try:
                connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
            except BaseException:
                connection.close()
                raise
        except sqlite3.OperationalError as error:
            if code_of(error) not in (CANTOPEN, READONLY):
                raise
            # The index of the write-ahead log cannot be created in a folder that cannot be written to.
            stamp = self._stamp(path)
            if stamp[-1]:
                raise about_file(
                    StorageError(
                        f"{path}: its last writer has left a log, {path}-wal, that can only be read where its "
                        "folder can be written to: open it once with mode='a' there, or copy both files elsewhere"
                    ),
                    path,
                    errno.EACCES,
                ) from error
            connection = self._connect(path.as_uri() + "?immutable=1")
            self.single_connection = True
        self._immutable_stamp = stamp
        return connection

    @staticmethod
    def _stamp(path: Path) -> _Stamp:
        """What changes when the file is written to. The last: whether its write-ahead log holds anything."""
        info = os.stat(path)
        try:
            logged = os.stat(f"{path}-wal").st_size > 0
        except OSError:
            logged = False
        return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, logged

    def _connect(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            interrupts.watch(connection)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            if _SINGLE_PROCESS and self.path is not None:
                # There is no shared memory. Set before the first access, this also opens files with a write-ahead log.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def set_journal(self, durability: Durability) -> None:
        """Set journal mode and flushing, once the file is known to be a collection."""
        mode = "DELETE" if _SINGLE_PROCESS else "WAL"
        self.main.execute(f"PRAGMA journal_mode = {mode}")
        self.main.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        self.main.execute(f"PRAGMA fullfsync = {int(durability == 'full')}")
        self._remember()
        self._check_writable()

    def _check_writable(self) -> None:
        """SQLite opens a file for reading when opening it for writing fails, and would not say so before a write."""
        self.main.execute("PRAGMA busy_timeout = 0")
        try:
            self.main.execute("DELETE FROM state WHERE 0")
        except sqlite3.OperationalError as error:
            if code_of(error) != BUSY:  # another program is writing
                raise
        finally:
            self.main.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def _remember(self) -> None:
        """Remember the identity of the files. The first access creates those that SQLite keeps beside its own."""
        if self.path is None:
            return
        self.main.execute("SELECT 1 FROM sqlite_schema").fetchone()
        log = () if _SINGLE_PROCESS or self._immutable_stamp else ("-wal", "-shm")
        lock = ("-lock",) if self._writable else ()
        paths = [Path(f"{self.path}{name}") for name in ("", *log, *lock)]
        self._opened = [(path, found) for path in paths if (found := identity(path)) is not None]
        self._telling = [
            (os.fspath(path), found) for path, found in self._opened if path.name != f"{self.path.name}-lock"
        ]

    def _map_log_head(self) -> None:
        """Of a file opened for reading, once it is open."""
        if len(self._telling) == 3 and not self.single_connection:
            file, _, (path, opened) = self._telling
            self._leading_to_head = [file, (path, opened)]
            self.log_head = shared_head(path, opened, self)


# ---- files beside it -------------------------------------------------------------------------------------------------


def resolve(path: str | os.PathLike[str]) -> Path:
    """The path with symbolic links followed: the files beside it have names made from the file's own."""
    if "\0" in os.fsdecode(path):
        raise ParameterError(f"path contains a NUL: {os.fsdecode(path)[:80]!r}")
    if os.name == "posix":
        return Path(os.path.realpath(path))
    return Path(path).absolute()  # on Windows SQLite may not be able to open the real path


def check_unmoved(path: Path, opened: Identity) -> None:
    """StorageError when the path no longer leads to the file that was opened."""
    now = identity(path)
    if now == opened:
        return
    what, number = ("removed", errno.ENOENT) if now is None else ("replaced", _STALE_ERRNO)
    raise about_file(
        StorageError(f"{path} was {what} after it was opened: close the collection and open what is there now"),
        path,
        number,
    )


def copy_mode(path: Path, like: Path) -> None:
    """Give a file the owner and permissions of `like`, as far as this process may."""
    if not _POSIX:
        return
    meant, now = os.stat(like), os.lstat(path)
    if not stat.S_ISREG(now.st_mode):
        return
    with suppress(PermissionError):  # the file is someone else's
        if os.geteuid() == 0 and (now.st_uid, now.st_gid) != (meant.st_uid, meant.st_gid):
            os.chown(path, meant.st_uid, meant.st_gid)
        if (now.st_mode ^ meant.st_mode) & 0o777:
            os.chmod(path, meant.st_mode & 0o777)
