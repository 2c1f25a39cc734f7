"""Stamps (inode, size, time of change) that tell whether a file has changed since it was opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Stamp", "stamp"]


class Stamp(NamedTuple):
    """The state of a file: another stamp means another content."""

    device: int
    inode: int
    size: int
    modified: int

    def same_file(self, other: Stamp | None) -> bool:
        """Whether both are of one file, though its content may have changed."""
        return other is not None and self[:2] == other[:2]


def stamp(path: Path) -> Stamp | None:
    """The stamp of a file; None if there is no file or it cannot be examined."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
