"""Whether a file is still the one that was opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Stamp", "stamp"]


class Stamp(NamedTuple):
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    modified: int

    def same_file(self, other: Stamp | None) -> bool:
        """Whatever was written into it."""
        return other is not None and self[:2] == other[:2]


def stamp(path: Path) -> Stamp | None:
    """None where there is no file that can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
