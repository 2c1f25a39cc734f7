"""Files beside a database: what they are, and whose."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import ParameterError, StorageError, about_file

__all__ = ["Identity", "check_unmoved", "identity", "resolve", "take_mode"]

_POSIX = os.name == "posix" and sys.platform != "emscripten"
_STALE = getattr(errno, "ESTALE", errno.EIO)

Identity = tuple[int, int]
"""Device and inode: a file, whatever its name."""


def resolve(path: str | os.PathLike[str]) -> Path:
    """The file itself, so that whoever comes by a symbolic link finds the same files beside it."""
    if "\0" in os.fsdecode(path):
        raise ParameterError(f"path holds a NUL: {os.fsdecode(path)[:80]!r}")
    if os.name == "posix":
        return Path(os.path.realpath(path))
    return Path(path).absolute()  # elsewhere the real path may be of a kind that SQLite cannot open


def identity(path: Path) -> Identity | None:
    """None where there is no such file."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def check_unmoved(path: Path, opened: Identity) -> None:
    """StorageError when the file of this name is not the one that was opened."""
    now = identity(path)
    if now == opened:
        return
    what, number = ("removed", errno.ENOENT) if now is None else ("replaced", _STALE)
    raise about_file(
        StorageError(f"{path} was {what} after it was opened: close the collection and open what is there now"),
        path,
        number,
    )


def take_mode(path: Path, like: Path) -> None:
    """Let those who may read and write `like`, and nobody else, read and write a file beside it."""
    if not _POSIX:
        return
    meant, now = os.stat(like), os.lstat(path)
    if not stat.S_ISREG(now.st_mode):
        return
    with suppress(PermissionError):  # somebody else's, who may do with it as they like
        if os.geteuid() == 0 and (now.st_uid, now.st_gid) != (meant.st_uid, meant.st_gid):
            os.chown(path, meant.st_uid, meant.st_gid)
        if (now.st_mode ^ meant.st_mode) & 0o777:
            os.chmod(path, meant.st_mode & 0o777)
