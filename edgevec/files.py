"""Replacing a file by a new one, whole or not at all, as Index.save does."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevec.errors import EdgevecError, StorageError, about_file

__all__ = ["refused", "replace", "replacing"]

_MOST_LINKS = 40


def refused(error: OSError, path: str | os.PathLike[str]) -> StorageError:
    """What the system said, about the path that the caller gave."""
    return about_file(StorageError(f"{path}: {error.strerror or error}"), path, error.errno)


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A new, empty file to be written; at the end it takes the place of `path`, and on an error it is deleted.

    It has the ending of `path`. A file that is replaced passes on its mode, unless one is given, and where that is
    permitted its owner. A symbolic link is followed, also to a file that does not exist yet.

    Raises:
        StorageError: the system refuses, or `path` is not a regular file but a folder, a pipe or a device
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
    """Atomic, except in a browser, where nothing is durable until the page stores its files."""
    if sys.platform == "emscripten":
        # There a file that another was renamed over comes back when that name is deleted.
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
    """A file of a short name in the same folder. Until it has its mode, nobody else may read a private one."""
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    new = target.with_name(f".edgevec-{os.urandom(8).hex()}{suffix}")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    return new


def _mode(new: Path, old: os.stat_result) -> int:
    """The mode of the old file; where its group cannot be kept, the group gets no more rights than everyone."""
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if not hasattr(os, "chown"):
        return mode
    for uid in (old.st_uid, -1):
        with suppress(OSError):
            os.chown(new, uid, old.st_gid)
            return mode
    return mode & 0o707 | (mode & 0o007) << 3
