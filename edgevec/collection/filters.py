"""From a condition to the set of rows that the index may return; kept, and led along when records change."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from ..index import IdFilter
from .changes import RecentWrites
from .records import RowIds, rows_where
from .where import Condition

__all__ = ["Filters"]

_MOST = 64
_MOST_ROWS = 2_000_000
"""In all kept filters together, 16 bytes each and a bit of the index."""


class _Kept(NamedTuple):
    version: int
    filter: IdFilter
    rows: RowIds


class Filters:
    def __init__(self) -> None:
        self._kept: OrderedDict[Condition, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._rows = 0

    def get(
        self, connection: sqlite3.Connection, version: int | None, condition: Condition, commits: RecentWrites
    ) -> tuple[IdFilter, int]:
        """The filter, and how many rows it allows. version: of the records; None when they have none yet."""
        with self._lock:
            kept = self._kept.get(condition)
            if kept is not None and kept.version == version:
                self._kept.move_to_end(condition)
                return kept.filter, len(kept.rows)
        rows = None
        if kept is not None and version is not None:
            rows = _led_along(connection, kept, version, condition, commits)
        if rows is None:
            rows = rows_where(connection, *condition)
        made = IdFilter(rows)
        if version is not None and len(rows) <= _MOST_ROWS:
            self._keep(condition, _Kept(version, made, rows))
        return made, len(rows)

    def _keep(self, condition: Condition, kept: _Kept) -> None:
        with self._lock:
            replaced = self._kept.pop(condition, None)
            self._rows += len(kept.rows) - (len(replaced.rows) if replaced else 0)
            self._kept[condition] = kept
            while len(self._kept) > _MOST or self._rows > _MOST_ROWS:
                _, dropped = self._kept.popitem(last=False)
                self._rows -= len(dropped.rows)


def _led_along(
    connection: sqlite3.Connection, kept: _Kept, version: int, condition: Condition, commits: RecentWrites
) -> RowIds | None:
    """The rows of an older version, and what the commits since then make of them; None where those are forgotten."""
    written = commits.between(kept.version, version)
    if written is None:
        return None
    stayed = kept.rows[~np.isin(kept.rows, written)]
    return np.concatenate([stayed, rows_where(connection, *condition, among=written)])
