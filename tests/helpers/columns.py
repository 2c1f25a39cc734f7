"""Conditions asked of columns in memory, of every public way that takes a condition, and of SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from where_strategies import Metadata

from edgevec.collection import Collection, field_cache, field_columns, records
from edgevec.collection.where import compile_where


def vectors(count: int) -> Any:
    return np.eye(2, dtype=np.float32)[np.arange(count) % 2]


def put(made: Collection, held: dict[Any, Metadata]) -> None:
    made.upsert(list(held), vectors(len(held)), list(held.values()))


def by_sqlite(made: Collection, where: Any) -> set[Any]:
    """The ids that SQLite finds in the records themselves."""
    with made._store.read() as connection:
        return set(records.ids_where(connection, *compile_where(where)))


def in_memory(made: Collection, where: Any) -> set[Any] | None:
    """The ids that the columns find; None where they do not answer."""
    store = made._store
    with store.read() as connection:
        rows = store.fields.rows_where(connection, store.version, compile_where(where), store.recent_writes)
        return None if rows is None else set(records.ids_of(connection, rows.tolist()).values())


def check(made: Collection, where: Any, *, kept: bool = True) -> None:
    """By every way that takes a condition, the answer is SQLite's."""
    meant = by_sqlite(made, where)
    assert in_memory(made, where) == (meant if kept else None)
    assert set(made.ids(where)) == meant
    assert made.count(where) == len(meant)
    assert {hit.id for hit in made.search([1, 0], max(1, len(made)), where=where)} == meant


@contextmanager
def limits(**values: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(field_columns if hasattr(field_columns, name) else field_cache, name, value)
        yield
