"""What the methods of Collection do to records, each in one transaction. Their arguments are checked already."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._types import Progress
from ..encoders import TextEncoder
from ..errors import NotFiniteError, ParameterError, UnknownIdError, ZeroVectorError
from . import ahead, changes, encoding, import_export, known_fields, records, validation
from .graph import Write
from .numbering import Numbers
from .records import Plan, Record, RowIds
from .sql import BEFORE_ALL
from .store import Store
from .validation import Id, NewRecords
from .where import Condition
from .write_buffer import write

__all__ = [
    "contains",
    "count",
    "create_index",
    "delete",
    "drop_index",
    "explain",
    "get",
    "ids_where",
    "import_from",
    "import_table",
    "indexes",
    "pages",
    "unknown_fields",
    "upsert",
]

# ---- writing ---------------------------------------------------------------------------------------------------------


def upsert(
    store: Store, new: NewRecords, vectors: Any, progress: Progress | None = None, encoder: TextEncoder | None = None
) -> int:
    """As Collection.upsert(). encoder: the one that has made the vectors, if one has."""
    if encoding.keep_name(store, encoder) and new.ids:
        with store.batch(progress):
            with store.write() as connection:
                store.set_encoder(connection, encoder.name)  # type: ignore[union-attr, arg-type]
            return upsert(store, new, vectors)
    if store.buffers():
        store.add_to_buffer(new, validation.as_vectors(vectors, len(new.ids), store.dim, store.metric, store.dtype))
        return len(new.ids)
    early = _Early(store, new, vectors) if len(new.ids) >= ahead.MIN_RECORDS else None
    with store.write(progress, early) as connection:
        stored = None if early is None else early.vectors
        if stored is None:
            stored = validation.as_vectors(vectors, len(new.ids), store.dim, store.metric, store.dtype)
        write(store, connection, new, stored, (0, 0) if early is None else early.rows)
    return len(new.ids)


class _Early:
    """The vectors of an upsert() that are stored ahead of its transaction.

    Attributes:
        vectors: All of the call, in the type that is stored; None before store().
        rows: The first row of those that are stored, and how many there are.
    """

    def __init__(self, store: Store, new: NewRecords, vectors: Any) -> None:
        self._store, self._new, self._given = store, new, vectors
        self.vectors: NDArray[Any] | None = None
        self.rows = (0, 0)

    def store(self, connection: sqlite3.Connection) -> None:
        """As ahead.store(), where there are enough of them."""
        store, new = self._store, self._new
        self.vectors = validation.as_vectors(self._given, len(new.ids), store.dim, store.metric, store.dtype)
        first, places = records.new_rows(connection, new.ids)
        if self.vectors[:1].nbytes * len(places) >= ahead.MIN_BYTES:
            ahead.store(connection, first, self.vectors, places, store.copy_log)
            self.rows = first, len(places)


def delete(store: Store, ids: list[Id] | None, condition: Condition) -> int:
    """Delete the records of these ids or, where they are None, those that satisfy a condition; how many there were."""
    with store.write() as connection:
        if ids is None:
            rows = records.rows_where(connection, *condition)
        else:
            rows = np.unique(np.array([*records.rows_of(connection, ids).values()], np.int64))
        if len(rows):
            changes.begin_listing(connection)
        store.add_write(rows, Write(rows, None))
        return records.delete(connection, rows.tolist())


def import_from(
    store: Store, data: Any, columns: import_export.Columns, encoder: TextEncoder | None, progress: Progress | None
) -> int:
    """As Collection.import_from()."""
    count = 0
    with store.batch(progress):
        with store.read() as connection:
            numbers = Numbers(records.next_number(connection))
        with closing(
            import_export.tables(data, columns, store.progress_guard.wrap(progress), encodes=encoder is not None)
        ) as tables:
            for table in tables:
                count += import_table(store, numbers.complete(table.ids, table.start), table, encoder)
    return count


def import_table(store: Store, ids: list[Id], table: import_export.Table, encoder: TextEncoder | None) -> int:
    """Store the rows of a table under these ids; how many there are. Errors name the row of the source."""
    try:
        encoded = _encode_missing(store, table, encoder)
        new = validation.as_records(ids, table.metadata, table.documents)
        vectors = import_export.stacked(table.vectors, table.start)
        return upsert(store, new, vectors, encoder=encoder if encoded else None)
    except (ParameterError, NotFiniteError, ZeroVectorError) as error:
        if not table.start:
            raise
        raise type(error)(f"{error} (counted from row {table.start})") from error


def _encode_missing(store: Store, table: import_export.Table, encoder: TextEncoder | None) -> bool:
    """Make the vectors that the table lacks from its documents; whether it lacked some."""
    lacking = [at for at, vector in enumerate(table.vectors) if vector is None]
    if not lacking:
        return False
    texts = [table.documents[at] for at in lacking]
    if encoder is not None and None in texts:
        at = table.start + lacking[texts.index(None)]
        raise ParameterError(f"row {at} has neither a vector nor a document to make one from")
    problem = f"row {table.start + lacking[0]}: vectors are missing: give them"
    made = encoding.encode(store, encoder, texts, problem)  # type: ignore[arg-type]
    for at, vector in zip(lacking, made, strict=True):
        table.vectors[at] = vector
    return True


# ---- reading ---------------------------------------------------------------------------------------------------------


def get(store: Store, ids: list[Id], missing: Literal["raise", "skip"]) -> list[Record]:
    """As Collection.get()."""
    with store.read() as connection:
        found = records.fetch(connection, ids, store.dim, store.dtype, damaged=missing)
    if missing == "raise":
        unknown = [id for id in dict.fromkeys(ids) if id not in found]
        if unknown:
            raise UnknownIdError(f"no record has the {records.format_ids(unknown)}")
    return [found[id] for id in ids if id in found]


def count(store: Store, condition: Condition) -> int:
    with store.read() as connection:
        rows = _rows_in_memory(store, connection, condition)
        return records.count(connection, *condition) if rows is None else len(rows)


def ids_where(store: Store, condition: Condition) -> list[Id]:
    with store.read() as connection:
        rows = _rows_in_memory(store, connection, condition)
        if rows is None:
            return records.ids_where(connection, *condition)
        found = records.ids_of(connection, rows.tolist())
        return [found[row] for row in rows.tolist() if row in found]


def _rows_in_memory(store: Store, connection: sqlite3.Connection, condition: Condition) -> RowIds | None:
    """The rows that satisfy a condition, where that is known without SQLite."""
    return store.fields.rows_where(connection, store.version, condition, store.recent_writes)


def contains(store: Store, id: Id) -> bool:
    with store.read() as connection:
        return bool(records.rows_of(connection, [id]))


def pages(store: Store, size: int, condition: Condition) -> Iterator[list[Record]]:
    """As Collection.pages(). Each page is read in a transaction of its own."""
    start, last = None, BEFORE_ALL
    while last != start:
        start = last
        with store.read() as connection:
            last, page = records.page(connection, start, size, store.dim, store.dtype, *condition)
        if page:
            yield page


# ---- indexes of fields -----------------------------------------------------------------------------------------------


def create_index(store: Store, field: str, sql: str) -> None:
    with store.exclusive() as connection:
        records.create_index(connection, field, sql)


def drop_index(store: Store, field: str) -> None:
    with store.exclusive() as connection:
        records.drop_index(connection, field)


def indexes(store: Store) -> list[str]:
    with store.read() as connection:
        return sorted(records.indexes(connection).values())


def explain(store: Store, condition: Condition) -> Plan:
    with store.read() as connection:
        return records.explain(connection, *condition)


def unknown_fields(store: Store, condition: Condition) -> dict[str, list[str]]:
    with store.read() as connection:
        return known_fields.unknown(connection, condition)
