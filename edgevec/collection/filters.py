"""Conditions as filters of the index: sets of rows, cached and updated with the records."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from ..index import IdFilter
from .changes import RecentWrites
from .field_cache import FieldCache
from .records import RowIds, rows_where
from .where import Condition

__all__ = ["Filters"]

_MAX_ENTRIES = 64
_MAX_ROWS = 2_000_000
"""In all cached filters together; each takes 16 bytes."""


class _CacheEntry(NamedTuple):
    version: int
    """Of the records that it is valid for."""
    filter: IdFilter
    rows: RowIds


class Filters:
    """A least-recently-used cache of filters by condition; safe to use from several threads."""

    def __init__(self, fields: FieldCache) -> None:
        self._fields = fields
        self._cache: OrderedDict[Condition, _CacheEntry] = OrderedDict()
        self._lock = threading.Lock()
        self._rows = 0

    def get(
        self, connection: sqlite3.Connection, version: int | None, condition: Condition, recent_writes: RecentWrites
    ) -> tuple[IdFilter, int]:
        """The filter, and how many rows it allows. version: of the records; None inside a batch: not cached."""
        with self._lock:
            entry = self._cache.get(condition)
            if entry is not None and entry.version == version:
                self._cache.move_to_end(condition)
                return entry.filter, len(entry.rows)
        rows = None
        if entry is not None and version is not None:
            rows = _update_incrementally(connection, entry, version, condition, recent_writes)
        if rows is None:
            rows = self._fields.rows_where(connection, version, condition, recent_writes)
        if rows is None:
            rows = rows_where(connection, *condition)
        made = IdFilter(rows)
        if version is not None and len(rows) <= _MAX_ROWS:
            self._insert(condition, _CacheEntry(version, made, rows))
        return made, len(rows)

    def _insert(self, condition: Condition, entry: _CacheEntry) -> None:
        with self._lock:
            replaced = self._cache.pop(condition, None)
            self._rows += len(entry.rows) - (len(replaced.rows) if replaced else 0)
            self._cache[condition] = entry
            while len(self._cache) > _MAX_ENTRIES or self._rows > _MAX_ROWS:
                _, dropped = self._cache.popitem(last=False)
                self._rows -= len(dropped.rows)


def _update_incrementally(
    connection: sqlite3.Connection, entry: _CacheEntry, version: int, condition: Condition, recent_writes: RecentWrites
) -> RowIds | None:
    """The rows of an older entry, corrected for what was written since; None when that is no longer known."""
    written = recent_writes.rows_between(entry.version, version)
    if written is None:
        return None
    unchanged = entry.rows[~np.isin(entry.rows, written)]
    return np.concatenate([unchanged, rows_where(connection, *condition, among=written)])
