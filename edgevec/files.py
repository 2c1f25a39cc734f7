"""Replacing a file by a new one, whole or not at all, as Index.save does; and the errors of the system about files."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that another has open
    fcntl = None  # type: ignore[assignment]

from edgevec.errors import DataNotFoundError, EdgevecError, StorageError, about_file

__all__ = [
    "DISK_INDEX_START",
    "INDEX_START",
    "VECTOR_SUFFIXES",
    "not_found",
    "refused",
    "remove_left_over",
    "replace",
    "replacing",
]

VECTOR_SUFFIXES = (
    ".npy",
    ".npz",
    ".fvecs",
    ".bvecs",
    ".ivecs",
    ".hdf5",
    ".h5",
    ".parquet",
    ".arrow",
    ".feather",
    ".jsonl",
    ".jsonl.gz",
    ".csv",
    ".safetensors",
)
"""The endings of the files that `read_vectors` knows, for those who do without NumPy until one is read."""

INDEX_START, DISK_INDEX_START = b"\x89EVX\r\n\x1a\n", b"\x89EVD\r\n\x1a\n"
"""The first bytes of the files of an `Index` and of a `DiskIndex`."""

_MOST_LINKS = 40
_TEMPORARY = re.compile(r"\.edgevec-new-[0-9a-f]{16}")
"""How the names of new files begin: as Index.save names them."""


def not_found(path: str | os.PathLike[str]) -> DataNotFoundError:
    """The error for a path at which there is no file, to be raised."""
    return about_file(DataNotFoundError(f"{path}: no such file"), path, errno.ENOENT)


def refused(error: OSError, path: str | os.PathLike[str]) -> StorageError:
    """The system's error as a StorageError about the path that the caller gave, to be raised."""
    return about_file(StorageError(f"{path}: {error.strerror or error}"), path, error.errno)


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Replace a file by what the block writes: yields the path of a new, empty file with the same ending.

    At the end of the block the new file is renamed to `path`; on an error it is removed, and the old one is untouched.
    The new file gets the mode of the old one, unless `mode` is given, and its owner where that is permitted. A symbolic
    link is followed. What killed processes have left in the folder is removed first.

    Raises:
        StorageError: the system refused, or `path` is no regular file but a folder, a pipe or a device.

    Example:
        >>> from pathlib import Path
        >>> with replacing(Path("notes.txt")) as new:
        ...     _ = new.write_text("whole or not at all")
        >>> Path("notes.txt").read_text()
        'whole or not at all'
    """
    try:
        target = _target(path)
        remove_left_over(target.parent)
        old = os.stat(target) if target.exists() else None
        new, lock = _create(target, private=old is not None or mode is not None)
    except OSError as error:
        raise refused(error, path) from error
    try:
        yield new
        if old is not None:
            os.chmod(new, _mode(new, old))
        if mode is not None:
            os.chmod(new, mode)
        replace(new, target)
    except EdgevecError:
        raise
    except OSError as error:
        raise refused(error, path) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def remove_left_over(folder: Path) -> None:
    """Remove the new files of processes that were killed before they renamed them: those whose lock nobody holds.

    Where that cannot be known (Windows, file systems without locks), or is not permitted, they stay.
    """
    if fcntl is None:
        return
    with suppress(OSError):
        for name in filter(_TEMPORARY.match, os.listdir(folder)):
            with suppress(OSError):
                _remove_if_left_over(os.path.join(folder, name))


def _remove_if_left_over(path: str) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        held = os.fstat(opened)
        if stat.S_ISREG(held.st_mode):
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # keeps its writer out, should that be about to take it
            if os.path.samestat(held, os.lstat(path)):
                os.unlink(path)
    finally:
        os.close(opened)


def replace(new: Path, path: Path) -> None:
    """Rename `new` to `path`: atomic, except in a browser, where nothing is durable until the page keeps its files."""
    if sys.platform == "emscripten":
        # A file that is renamed over comes back there when the name is deleted.
        path.unlink(missing_ok=True)
    os.replace(new, path)


def _target(path: Path) -> Path:
    """The file itself, behind symbolic links."""
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file, and pipes and devices cannot be written to")
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _create(target: Path, *, private: bool) -> tuple[Path, int | None]:
    """A file of a short name in the same folder, and a descriptor that holds its lock where there are locks.

    What is to have a mode may be read by nobody else before.
    """
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    while True:
        new = target.with_name(f".edgevec-new-{os.urandom(8).hex()}{suffix}")
        try:
            opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
            if fcntl is None:
                os.close(opened)
                return new, None
            if _lock(opened):
                return new, opened
            os.close(opened)
        except BaseException:  # a signal, which may come just as the file is there
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise
        new.unlink(missing_ok=True)


def _lock(opened: int) -> bool:
    """Take the lock of a new file; False where another is removing it. Where there are none nobody removes it."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return os.fstat(opened).st_nlink > 0


def _mode(new: Path, old: os.stat_result) -> int:
    """That of the old file, once the new one has its owner; a group that is another's gets no more than all have."""
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if not hasattr(os, "chown"):
        return mode
    for uid in (old.st_uid, -1):
        with suppress(OSError):
            os.chown(new, uid, old.st_gid)
            return mode
    return mode & 0o707 | (mode & 0o007) << 3
