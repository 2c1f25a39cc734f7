"""Filters over the rows of a data set, in the `where` language of collections.

The language compiles to SQL, so metadata, `text` and `id` of the rows are copied into an SQLite table in memory when
the first filter is typed.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .models import Data, FilterResult

__all__ = ["fields_of", "where_over"]


def where_over(data: Data) -> Callable[[str], FilterResult | None]:
    """A function from a condition to the rows of this data set that pass it; None for an empty condition."""
    with _lock:
        return _known.setdefault(data, _Rows(data))


def fields_of(data: Data) -> list[str]:
    """The fields that a filter may name."""
    more = [] if data.collection else [*(["text"] if data.texts is not None else []), "id"]
    return [*data.columns, *more]


_lock = threading.Lock()


class _Rows:
    """The table of one data set."""

    def __init__(self, data: Data) -> None:
        self._ids = data.ids
        self._source: Iterator[tuple[int, str]] | None = _as_json(data)
        self._table = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()

    def __del__(self) -> None:
        self._table.close()

    def __call__(self, text: str) -> FilterResult | None:
        if not text.strip():
            return None
        from edgevec.collection.where import compile_where  # collections take long to import: not at the top

        condition = compile_where(text)
        with self._lock:
            self._fill()
            found = self._table.execute(f"SELECT row FROM records WHERE {condition.sql}", condition.parameters)
            rows = np.fromiter((row for (row,) in found), np.int64)
        return FilterResult(len(rows), self._ids[rows])

    def _fill(self) -> None:
        if self._source is None:
            return
        self._table.execute("CREATE TABLE records (row INTEGER PRIMARY KEY, metadata TEXT)")
        self._table.executemany("INSERT INTO records VALUES (?, ?)", self._source)
        self._source = None


_known: WeakKeyDictionary[Data, _Rows] = WeakKeyDictionary()


def _as_json(data: Data) -> Iterator[tuple[int, str]]:
    from edgevec.collection.where import json_name

    names = [json_name(name) for name in fields_of(data)]
    texts = [] if data.texts is None else [data.texts]
    encode = json.JSONEncoder(ensure_ascii=False, default=_json_or_text).encode
    for row, values in enumerate(zip(*data.columns.values(), *texts, data.ids.tolist(), strict=True)):
        known = ("null" if _is_nan(value) else encode(value) for value in values)
        fields = dict(zip(names, known, strict=True))
        text = ",".join(f"{name}:{value}" for name, value in fields.items())
        yield row, f"{{{text}}}".encode(errors="replace").decode()  # half of a surrogate pair is no UTF-8


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _json_or_text(value: Any) -> Any:
    """For json.dumps(default=...): a value as collections store it, or its text if they would refuse it."""
    from edgevec.collection.where import json_default

    try:
        return json_default(value)
    except (TypeError, ValueError):
        return str(value)
