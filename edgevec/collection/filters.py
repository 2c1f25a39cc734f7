"""From a condition to the set of rows that the index may return; kept for as long as the records stay the same."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from typing import NamedTuple

from ..index import IdFilter
from .records import rows_where
from .where import Condition

__all__ = ["Filters"]

_MOST = 64
_MOST_ROWS = 4_000_000
"""In all kept filters together, 8 bytes each and a bit of the index."""


class _Kept(NamedTuple):
    version: int
    filter: IdFilter
    rows: int


class Filters:
    def __init__(self) -> None:
        self._kept: OrderedDict[Condition, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._rows = 0

    def get(self, connection: sqlite3.Connection, version: int | None, condition: Condition) -> tuple[IdFilter, int]:
        """The filter, and how many rows it allows. version: of the records; None when they have none yet."""
        with self._lock:
            kept = self._kept.get(condition)
            if kept is not None and kept.version == version:
                self._kept.move_to_end(condition)
                return kept.filter, kept.rows
        rows = rows_where(connection, *condition)
        made = IdFilter(rows)
        if version is not None and len(rows) <= _MOST_ROWS:
            self._keep(condition, _Kept(version, made, len(rows)))
        return made, len(rows)

    def _keep(self, condition: Condition, kept: _Kept) -> None:
        with self._lock:
            replaced = self._kept.pop(condition, None)
            self._rows += kept.rows - (replaced.rows if replaced else 0)
            self._kept[condition] = kept
            while len(self._kept) > _MOST or self._rows > _MOST_ROWS:
                _, dropped = self._kept.popitem(last=False)
                self._rows -= dropped.rows
