"""Replacing a file by a new one, whole or not at all, as Index.save does; and the errors of the system about files."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevec.errors import DataNotFoundError, EdgevecError, StorageError, about_file

__all__ = ["not_found", "refused", "replace", "replacing"]

_MOST_LINKS = 40


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
    link is followed.

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
        old = os.stat(target) if target.exists() else None
        new = _create(target, private=old is not None or mode is not None)
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


def _create(target: Path, *, private: bool) -> Path:
    """A file of a short name in the same folder. What is to have a mode may be read by nobody else before."""
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    new = target.with_name(f".edgevec-{os.urandom(8).hex()}{suffix}")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    return new


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
