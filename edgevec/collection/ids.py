"""The id of each row, in memory: every hit needs one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import records
from .records import RowIds
from .sql import BEFORE_ALL
from .validation import Id

__all__ = ["IdsByRow"]

_INT64 = np.dtype(np.int64)
_NONE, _UNKNOWN = -(2**63), -(2**63) + 1
"""In an array of numbers: no such row, and not yet read. Where a record has such an id, the array is of objects."""
_NOT_READ: Any = object()
"""In an array of objects, or a dict."""
_MAX_FREE_ROWS = 2**20
"""Above this and four times the number of records, a dict takes the place of the array."""
_READ_ALONG, _MOST_READ_ALONG = 64, 512
"""Further rows that are read when one is missing, twice as many each time up to the second: soon none is, and no search
waits for all of them."""


class IdsByRow:
    """The ids that were read so far. Several threads may read; nobody does while forget() runs.

    An array indexed by row (of int64, or of objects when some ids are strings) takes one memory access a hit, a dict
    four. A dict is used where most rows that ever existed are deleted.
    """

    def __init__(self, connection: sqlite3.Connection, count: int) -> None:
        """count: of the records, roughly."""
        first, last, least, greatest = records.bounds(connection)
        self._count, self._last = count, last
        self._read_to: int | None = BEFORE_ALL
        """The last row that was read along; None after the last there is."""
        self._along = _READ_ALONG
        self._by_row: dict[int, Id | None] | NDArray[Any] = {}
        if first >= 0 and not self._is_sparse(last):
            numbers = least is None or (_is_number(least) and _is_number(greatest))
            self._by_row = _unread(last, _INT64 if numbers else np.dtype(object))

    def of(self, connection: sqlite3.Connection, rows: RowIds) -> list[Id | None]:
        """The ids; None for a row that does not exist. connection: at the version of the rows."""
        known = self.known(rows)
        return self._read(connection, rows.tolist()) if known is None else known

    def known(self, rows: RowIds) -> list[Id | None] | None:
        """As of(), where the ids are in an array and were all read: it may do without a connection."""
        by_row = self._by_row
        if isinstance(by_row, dict):
            return None
        try:
            found: list[Id | None] = by_row[rows].tolist()
        except LookupError:
            return None
        if by_row.dtype is _INT64:
            return found if not found or min(found) > _UNKNOWN else None  # type: ignore[type-var, operator]
        return None if _NOT_READ in found else found

    def forget(self, rows: RowIds) -> bool:
        """These rows were added, replaced or deleted. False where this object no longer fits the records."""
        last = int(rows.max(initial=0))
        if last > self._last:  # what is new is read along again
            self._read_to = self._last if self._read_to is None else min(self._read_to, self._last)
            self._last = last
        by_row = self._by_row
        if isinstance(by_row, dict):
            for row in rows.tolist():
                by_row.pop(row, None)
            return True
        if rows.min(initial=0) < 0 or self._is_sparse(last):
            return False
        if last >= len(by_row):
            grown = _unread(last, by_row.dtype)
            grown[: len(by_row)] = by_row
            self._by_row = by_row = grown
        by_row[rows] = _unread_value(by_row.dtype)
        return True

    def _is_sparse(self, last: int) -> bool:
        return last > 4 * self._count + _MAX_FREE_ROWS

    def _read(self, connection: sqlite3.Connection, rows: Sequence[int]) -> list[Id | None]:
        known = {row: self._known(row) for row in rows}
        missing = [row for row, id in known.items() if id is _NOT_READ]
        if missing:
            found = records.ids_of(connection, missing)
            known.update((row, found.get(row)) for row in missing)
            self._keep([(row, known[row]) for row in missing])
            self._read_along(connection)
        return [known[row] for row in rows]

    def _read_along(self, connection: sqlite3.Connection) -> None:
        if self._read_to is not None:
            count, self._along = self._along, min(2 * self._along, _MOST_READ_ALONG)
            page = records.ids_after(connection, self._read_to, count)
            self._keep(page)
            self._read_to = page[-1][0] if len(page) == count else None

    def _known(self, row: int) -> Any:
        by_row = self._by_row
        if isinstance(by_row, dict):
            return by_row.get(row, _NOT_READ)
        if not 0 <= row < len(by_row):
            return _NOT_READ
        id = by_row[row]
        if by_row.dtype is _INT64:
            return _NOT_READ if id == _UNKNOWN else None if id == _NONE else int(id)
        return id

    def _keep(self, found: Sequence[tuple[int, Id | None]]) -> None:
        by_row = self._by_row
        if isinstance(by_row, dict):
            by_row.update(found)
            return
        if by_row.dtype is _INT64:
            if all(id is None or _is_number(id) for _, id in found):
                found = [(row, _NONE if id is None else id) for row, id in found]
            else:
                self._by_row = by_row = _as_objects(by_row)
        for row, id in found:
            if 0 <= row < len(by_row):
                by_row[row] = id


def _is_number(id: Any) -> bool:
    return type(id) is int and id > _UNKNOWN


def _unread(last: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.full(last + last // 2 + 1024, _unread_value(dtype), dtype)


def _unread_value(dtype: np.dtype[Any]) -> Any:
    return _UNKNOWN if dtype is _INT64 else _NOT_READ


def _as_objects(numbers: NDArray[np.int64]) -> NDArray[Any]:
    objects = numbers.astype(object)
    objects[numbers == _UNKNOWN] = _NOT_READ
    objects[numbers == _NONE] = None
    return objects
