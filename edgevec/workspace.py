"""Temporary folders that do not outlive their process for long, however it ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Workspace"]


class Workspace:
    """A folder for temporary files. What killed processes have left of the same prefix is removed first.

    It is removed at the end of a `with` block, by `remove()`, when nobody refers to it any more, or when the process
    ends. While its process lives, or one that was forked from it, it holds the folder's lock. Where there are no locks
    (Windows, some file systems) nobody removes what is left.

    Args:
        prefix: how the names of such folders begin, and no others
        parent: where it is made; None: the system's folder for temporary files

    Raises:
        OSError: it cannot be made

    Example:
        >>> with Workspace("my-copies-") as folder:
        ...     _ = (folder / "some").write_text("gone in a moment")
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _remove_left_over(parent, prefix)
        self.path, lock = _make(parent, prefix)
        self._remove = weakref.finalize(self, _end, self.path, lock, os.getpid())

    def remove(self) -> None:
        """Remove the folder and all that is in it; a forked process leaves it to its parent."""
        self._remove()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.remove()


def _make(parent: Path, prefix: str) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(BlockingIOError):  # somebody has just taken it for one that was left, and removes it
            lock = _locked(folder)
            if lock is None or folder.exists():
                return folder, lock
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where there are no locks. BlockingIOError: another one has it."""
    if fcntl is None:
        return None
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(opened)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return opened


def _remove_left_over(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # in use, another user's, or no folder
            lock = _locked(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _end(folder: Path, lock: int | None, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)
