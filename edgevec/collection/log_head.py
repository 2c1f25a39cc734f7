"""The head of the index of SQLite's write-ahead log, read in the memory that all processes share: has anyone committed?

SQLite keeps that index in the file "-shm", which every connection maps. Whoever commits writes its head anew: the
number of commits, the last frame of the log and a checksum over all frames. A transaction that begins compares the head
with what it was, and nothing else, to know whether what it has cached still holds; `PRAGMA data_version` tells just
that, but takes a lock of the file and gives it back. Whoever finds the same bytes here knows the same without a call of
the system. A checkpoint, or a log that starts anew, at most changes the head without a commit.

To close a descriptor of the file would give up all locks that connections of this process have on it, also those of
connections that somebody else has made (POSIX locks belong to the process and the file). So a mapping is kept, with its
descriptors, until the file has no name any longer, which is when the last connection of all processes has gone.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref

from .locking import Identity

try:
    import mmap
except ImportError:  # a Python for WebAssembly may lack it
    mmap = None  # type: ignore[assignment]

__all__ = ["LogHead", "let_go", "shared_head"]

_BYTES = 96
"""The head, twice: who writes it writes the second copy first."""
_MOST = 64
"""Files that are kept mapped. More of them are not mapped, as they could not be let go of."""
_HAS_MAPPINGS = os.name == "posix" and sys.platform != "emscripten" and mmap is not None

_guard = threading.Lock()
_all: list[LogHead] = []


class LogHead:
    """One file that is mapped; made by shared_head().

    A signal may end a call at any line: what there is to keep is put into lists by what C does in one step.
    """

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.maps: list[mmap.mmap] = []
        self.users: weakref.WeakSet[object] = weakref.WeakSet()

    def read(self) -> bytes:
        """The head. Only for a user, who has a connection open: the file is not cut short meanwhile."""
        return self.maps[0][:_BYTES]

    def map(self, path: str) -> bool:
        """Map the file; False where that is not possible."""
        try:
            self.descriptors.extend(map(os.open, [path], [os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW]))
            self.maps.extend(map(mmap.mmap, self.descriptors, [mmap.PAGESIZE], [mmap.MAP_SHARED], [mmap.PROT_READ]))
        except (OSError, ValueError):
            return False
        return True

    def is_needless(self) -> bool:
        """Whether nobody, in whatever process, has locks on the file."""
        return not self.users and not (self.descriptors and os.fstat(self.descriptors[0]).st_nlink)

    def close(self) -> None:
        self.maps.clear()
        while self.descriptors:
            os.close(self.descriptors.pop())


def shared_head(path: str, opened: Identity, user: object) -> LogHead | None:
    """The head of the index in a "-shm" file; None where it cannot be mapped, or the file is another one by now.

    Args:
        opened: the file that the user's connections have mapped
        user: has a connection open until it calls let_go(), or nobody refers to it any longer
    """
    if not _HAS_MAPPINGS:
        return None
    with _guard:
        head = next((head for head in _all if head.maps and _identity(head) == opened), None)
        if head is None:
            if len(_all) >= _MOST:
                return None
            head = LogHead()
            _all.append(head)
            if not head.map(path) or _identity(head) != opened:
                return None
        head.users.add(user)
        return head


def _identity(head: LogHead) -> Identity:
    info = os.fstat(head.descriptors[0])
    return info.st_dev, info.st_ino


def let_go(user: object) -> None:
    """The user's connections are closed. Close what is of no use to anybody any longer."""
    with _guard:
        for head in [*_all]:
            head.users.discard(user)
            if head.is_needless():
                _all.remove(head)
                head.close()


def _after_fork() -> None:
    """In a forked process, which has not the thread that may have held it."""
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
