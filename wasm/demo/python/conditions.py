"""Conditions on the rows of a source, in the language of `where` as collections have it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgevec.collection.where import compile_where

from .sources import Source


class Conditions:
    """The rows' metadata in a table in memory, since the language compiles to SQL; filled when first asked."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._table: sqlite3.Connection | None = None

    def ids(self, where: str) -> NDArray[np.int64]:
        """The ids of the rows that a condition lets through. WhereError, with the place, when it makes no sense."""
        condition = compile_where(where)
        found = self._filled().execute(f"SELECT row FROM records WHERE {condition.sql}", condition.parameters)
        return self._source.ids[np.fromiter((row for (row,) in found), np.int64)]

    def _filled(self) -> sqlite3.Connection:
        if self._table is None:
            table = sqlite3.connect(":memory:", isolation_level=None)
            table.execute("CREATE TABLE records (row INTEGER PRIMARY KEY, metadata TEXT)")
            table.executemany("INSERT INTO records VALUES (?, ?)", self._rows())
            self._table = table
        return self._table

    def _rows(self) -> Iterator[tuple[int, str]]:
        for row in range(len(self._source)):
            yield row, json.dumps(self._source.fields(row), default=str)
