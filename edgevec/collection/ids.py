"""The id of each row, in memory: every hit of every search needs one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import records
from .records import Rows
from .validation import Id

__all__ = ["Ids"]

_NONE = -(2**63)
"""In an array of numbers: no such row. Should it be someone's id, the array is one of objects."""
_MOST_ROOM = 2**20
"""Places for rows that are gone, beside a few for each that is there."""


class Ids:
    """An array by row, which costs a search one access to memory a hit where a dict costs four.

    Of numbers if all ids are; of objects if some are strings; a dict where most of the rows there ever were are gone.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._none: Any = None
        """What stands in the array for a row that does not exist."""
        self._load(connection)

    def of(self, rows: Rows) -> list[Id | None]:
        """None for a row of which there is no record."""
        if isinstance(self._by_row, dict):
            return [self._by_row.get(row) for row in rows.tolist()]
        try:
            found: list[Id | None] = self._by_row[rows].tolist()
        except LookupError:
            last = len(self._by_row)
            found = [self._by_row[row] if 0 <= row < last else self._none for row in rows.tolist()]
        if self._none is not None and self._none in found:
            found = [None if key == self._none else key for key in found]
        return found

    def follow(self, connection: sqlite3.Connection, rows: Sequence[int]) -> None:
        """Records came or went under these rows."""
        found = records.ids_of(connection, rows)
        if not self._holds(found):
            self._load(connection)
        elif isinstance(self._by_row, dict):
            for row in rows:
                self._by_row.pop(row, None)
            self._by_row.update(found)
        else:
            for row in rows:
                if row < len(self._by_row):
                    self._by_row[row] = found.get(row, self._none)

    def _holds(self, found: dict[int, Id]) -> bool:
        if isinstance(self._by_row, dict):
            return True
        room = max(found, default=0) < len(self._by_row)
        return room and (self._none is None or _are_numbers(found))

    def _load(self, connection: sqlite3.Connection) -> None:
        found = records.ids(connection)
        last = max(found, default=0)
        self._by_row: dict[int, Id] | NDArray[Any] = found
        if last > 4 * len(found) + _MOST_ROOM or min(found, default=0) < 0:
            return
        numbers = _are_numbers(found)
        self._none = _NONE if numbers else None
        by_row = np.full(last + last // 2 + 1024, self._none, np.int64 if numbers else object)
        by_row[list(found)] = list(found.values())
        self._by_row = by_row


def _are_numbers(found: dict[int, Id]) -> bool:
    return all(type(key) is int and key != _NONE for key in found.values())
