"""Which rows the last commits wrote, so that what was derived from the records can follow them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from .records import Rows

__all__ = ["Commits"]

_MOST_ROWS = 200_000


class Commits:
    """Of this process; written by the one thread whose batch is open, read while no batch is committed."""

    def __init__(self) -> None:
        self._done: deque[tuple[int, Rows]] = deque()
        self._open: list[int] = []
        self._rows = 0

    def note(self, rows: Iterable[int]) -> None:
        """The open batch writes these, whether or not a part of it goes back."""
        self._open.extend(rows)

    def end(self, version: int | None) -> None:
        """The batch has made this version of the records, or none."""
        if version is not None:
            rows = np.unique(np.array(self._open, np.int64))
            self._done.append((version, rows))
            self._rows += len(rows)
            while self._rows > _MOST_ROWS:
                self._rows -= len(self._done.popleft()[1])
        self._open.clear()

    def between(self, old: int, new: int) -> Rows | None:
        """The rows that may differ between two versions; None when that is not known any more."""
        wanted = [rows for version, rows in self._done if old < version <= new]
        return np.unique(np.concatenate(wanted)) if len(wanted) == new - old > 0 else None
