"""The filter box over a data set: `where` as collections speak it, on the metadata, `text` and `id` of each row.

The rows are put into a table in memory the first time that a filter is typed, since the language compiles to SQL.
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
    """Turns a condition on this data set into what it lets through; None when it is empty."""
    with _lock:
        return _known.setdefault(data, _Rows(data))


def fields_of(data: Data) -> list[str]:
    """What a filter may name."""
    more = [] if data.collection else [*(["text"] if data.texts is not None else []), "id"]
    return [*data.columns, *more]


_lock = threading.Lock()


class _Rows:
    """As long as the data set is open."""

    def __init__(self, data: Data) -> None:
        self._ids = data.ids
        self._source: Iterator[tuple[int, str]] | None = _as_json(data)
        self._table = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._turn = threading.Lock()

    def __del__(self) -> None:
        self._table.close()

    def __call__(self, text: str) -> FilterResult | None:
        if not text.strip():
            return None
        from edgevec.collection.where import compile_where  # collections take long to import: not at the top

        condition = compile_where(text)
        with self._turn:
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
    """As collections store it; what they would refuse, as its text."""
    from edgevec.collection.where import json_default

    try:
        return json_default(value)
    except (TypeError, ValueError):
        return str(value)
