"""Records in SQL: the statements that read and write them."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptCollectionError
from .ahead import EVERY_ROW, highest_row, last_row
from .sql import pages, select
from .validation import Id, NewRecords
from .words import indexed

__all__ = [
    "HitFields",
    "Plan",
    "Record",
    "RowIds",
    "bounds",
    "create_index",
    "delete",
    "drop_index",
    "explain",
    "fetch",
    "format_ids",
    "highest_row",
    "ids_after",
    "ids_of",
    "ids_where",
    "indexes",
    "new_rows",
    "page",
    "parse_metadata",
    "read_hits",
    "rows_of",
    "rows_where",
    "upsert",
    "upsert_rows",
    "vector_count",
    "vector_pages",
    "vectors_of",
]

RowIds = NDArray[np.int64]
T = TypeVar("T")

IDS_PER_STATEMENT = 4096
"""Ids in one statement."""
IDS_PER_MESSAGE = 10
"""Ids in a message."""
PARAMETERS_PER_STATEMENT = 999
"""Parameters in one statement that every SQLite admits."""
MAX_ROW_PARAMETERS = 256
"""Up to this number of rows, a parameter each is quicker than one JSON parameter."""

log = logging.getLogger("edgevec")

HitFields = tuple[Id, dict[str, Any], str | None]
"""id, metadata and document; {} and None for what was not asked for."""


class Record(NamedTuple):
    """What is stored under an id.

    Example:
        >>> import edgevec
        >>> with edgevec.open(":memory:", dim=2) as notes:
        ...     _ = notes.upsert("a", [1, 0], {"year": 1999}, "a text")
        ...     [record] = notes.get("a")
        >>> record.vector, record.metadata, record.document
        (array([1., 0.], dtype=float32), {'year': 1999}, 'a text')
    """

    id: Id
    vector: NDArray[np.float32]
    """[dim], as it was given; rounded where the collection's dtype is "float16"."""
    metadata: dict[str, Any]
    """{} where there is none."""
    document: str | None
    """None where there is none."""


class Plan(NamedTuple):
    """How a condition is evaluated.

    Example:
        >>> import edgevec
        >>> with edgevec.open(":memory:", dim=2) as notes:
        ...     notes.create_index("year")
        ...     notes.explain("year >= 2000").indexes
        ('year',)
    """

    sql: str
    """The condition in SQL."""
    parameters: tuple[Any, ...]
    """Its parameters."""
    steps: tuple[str, ...]
    """SQLite's query plan."""
    indexes: tuple[str, ...]
    """The fields whose index is used; with none, every record is looked at."""

    def __str__(self) -> str:
        return "\n".join(self.steps)


def _runs(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + IDS_PER_STATEMENT] for at in range(0, len(items), IDS_PER_STATEMENT))


def format_ids(keys: Sequence[Any]) -> str:
    """Some ids for a message, however many and however long they are."""
    shown = ", ".join(text if len(text := repr(key)) <= 80 else f"{text[:76]}..." for key in keys[:IDS_PER_MESSAGE])
    more = f" and {len(keys) - IDS_PER_MESSAGE:,} more" if len(keys) > IDS_PER_MESSAGE else ""
    return f"id{'s' * (len(keys) != 1)} {shown}{more}"


_decode = json.JSONDecoder().raw_decode


def parse_metadata(metadata: Any) -> dict[str, Any] | None:
    """Metadata from their JSON; None when they are damaged."""
    if not isinstance(metadata, str):
        return None
    try:
        # json.loads() looks for spaces around a value first, which takes longer than to decode a small object.
        fields, end = _decode(metadata) if metadata.startswith("{") else (None, 0)
        if end < len(metadata):
            fields = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def rows_of(connection: sqlite3.Connection, keys: Sequence[Id]) -> dict[Id, int]:
    """The rows of those ids that exist."""
    found: dict[Id, int] = {}
    for run in _runs(keys):
        # One parameter for any number of ids; their types survive in JSON.
        found.update(
            select(
                connection,
                "SELECT id, row FROM records WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(run, ensure_ascii=False),),
            )
        )
    return found


def new_rows(connection: sqlite3.Connection, ids: Sequence[Id]) -> tuple[int, list[int]]:
    """The row that the first new record would have, the next one the next; and the positions of new ids."""
    known = rows_of(connection, ids)
    return highest_row(connection) + 1, [at for at, id in enumerate(ids) if id not in known]


def upsert(
    connection: sqlite3.Connection, new: NewRecords, vectors: NDArray[Any], stored: tuple[int, int] = (0, 0)
) -> tuple[RowIds, list[int]]:
    """Insert records, or replace those whose id exists.

    Args:
        vectors: [n, dim] in the type that is stored
        stored: the first of the rows whose vectors are stored already, as new_rows() has them, and how many there are

    Returns:
        Their rows, int64[n], and the positions of those whose vector changed: one that stays the same is no change to
        the graph.
    """
    known = rows_of(connection, new.ids)
    last = highest_row(connection)
    numbers = iter(range(last + 1, last + 1 + len(new.ids) - len(known)))
    rows = [known[id] if id in known else next(numbers) for id in new.ids]
    is_stored = stored == (last + 1, len(new.ids) - len(known))
    blobs = [vector.tobytes() for vector in vectors]
    changed = list(range(len(rows)))
    if known:
        same = _unchanged(connection, {row: blob for row, blob in zip(rows, blobs, strict=True) if row <= last})
        changed = [at for at in changed if rows[at] not in same]
    _write_records(connection, zip(rows, new.ids, new.metadata, new.documents, strict=True))
    connection.executemany(
        "INSERT OR REPLACE INTO vectors(row, vector) VALUES (?, ?)",
        ((rows[at], blobs[at]) for at in changed if not is_stored or rows[at] <= last),
    )
    connection.executemany("INSERT INTO changes(row) VALUES (?)", ((rows[at],) for at in changed))
    return np.array(rows, np.int64), changed


def upsert_rows(
    connection: sqlite3.Connection, new: Sequence[tuple[int, Id, str, str | None, bytes | None]], first: int
) -> tuple[RowIds, RowIds]:
    """As upsert(), of records whose rows are known.

    Args:
        new: (row, id, metadata, document, vector; None: it is stored already), ascending
        first: the first row that is new

    Returns:
        Their rows, int64[n], and those of them whose vector changed.
    """
    blobs = {row: vector for row, *_, vector in new if vector is not None}
    same = _unchanged(connection, {row: blob for row, blob in blobs.items() if row < first})
    _write_records(connection, (fields[:4] for fields in new))
    connection.executemany(
        "INSERT OR REPLACE INTO vectors(row, vector) VALUES (?, ?)",
        ((row, blob) for row, blob in blobs.items() if row not in same),
    )
    rows = [row for row, *_ in new]
    changed = [row for row in rows if row not in same]
    connection.executemany("INSERT INTO changes(row) VALUES (?)", ((row,) for row in changed))
    return np.array(rows, np.int64), np.array(changed, np.int64)


def _write_records(connection: sqlite3.Connection, new: Iterable[tuple[int, Id, str, str | None]]) -> None:
    """Insert (row, id, metadata, document), or replace what the row holds.

    Many in a statement: at the end of each, the full-text index writes what it has gathered, a multiple of the work.
    """
    columns = ("row", "id", "metadata", "document", "words")
    values = f"({', '.join('?' * len(columns))})"
    remaining = iter(new)
    while run := list(islice(remaining, PARAMETERS_PER_STATEMENT // len(columns))):
        connection.execute(
            f"INSERT INTO records({', '.join(columns)}) VALUES {', '.join([values] * len(run))} ON CONFLICT(row) "
            "DO UPDATE SET metadata = excluded.metadata, document = excluded.document, words = excluded.words",
            [value for fields in run for value in (*fields, indexed(fields[3]))],
        )


def _unchanged(connection: sqlite3.Connection, blobs: dict[int, bytes]) -> set[int]:
    same: set[int] = set()
    for run in _runs(list(blobs)):
        stored = connection.execute(
            "SELECT row, vector FROM vectors WHERE row IN (SELECT value FROM json_each(?))", (json.dumps(run),)
        )
        same.update(row for row, blob in stored if blobs[row] == blob)
    return same


def delete(connection: sqlite3.Connection, rows: Iterable[int]) -> int:
    """Delete the records of these rows; how many there were.

    Many in a statement, for the reason that _write_records() gives.
    """
    gone = 0
    for run in _runs(sorted(rows)):
        these = (json.dumps(run),)
        connection.execute("DELETE FROM vectors WHERE row IN (SELECT value FROM json_each(?))", these)
        connection.execute("INSERT INTO changes(row) SELECT value FROM json_each(?)", these)
        gone += connection.execute("DELETE FROM records WHERE row IN (SELECT value FROM json_each(?))", these).rowcount
    return gone


def rows_where(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[Any], among: RowIds | None = None
) -> RowIds:
    """The rows, of all or among some, whose record satisfies a compiled condition."""
    if among is not None:
        sql = f"row IN (SELECT value FROM json_each(?)) AND ({sql})"
        parameters = (json.dumps(among.tolist()), *parameters)
    found = select(connection, f"SELECT row FROM records WHERE {sql}", parameters)
    return np.fromiter((row for (row,) in found), np.int64, len(found))


def ids_where(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> list[Id]:
    """The ids of the records that satisfy a compiled condition, in order of insertion."""
    return [key for (key,) in select(connection, f"SELECT id FROM records WHERE {sql} ORDER BY row", parameters)]


def count(connection: sqlite3.Connection, sql: str = "1", parameters: Sequence[Any] = ()) -> int:
    return int(select(connection, f"SELECT count(*) FROM records WHERE {sql}", parameters)[0][0])


def next_number(connection: sqlite3.Connection) -> int:
    """One more than the highest integer id, and at least 0."""
    found = connection.execute("SELECT max(id) FROM records WHERE id < ''").fetchone()[0]
    return 0 if found is None else max(0, found + 1)


def bounds(connection: sqlite3.Connection) -> tuple[int, int, Any, Any]:
    """The first and the last row (0 where there is none), and the least and the greatest id."""
    extremes = (f"(SELECT {which}({name}) FROM records)" for name in ("row", "id") for which in ("min", "max"))
    first, last, least, greatest = select(connection, f"SELECT {', '.join(extremes)}")[0]
    return first or 0, last or 0, least, greatest


def ids_after(connection: sqlite3.Connection, row: int, count: int) -> list[tuple[int, Id]]:
    """The next rows, up to `count` in order, with their ids."""
    return select(connection, "SELECT row, id FROM records WHERE row > ? ORDER BY row LIMIT ?", (row, count))


def ids_of(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, Id]:
    """The ids of those rows that exist."""
    found = select(
        connection, "SELECT row, id FROM records WHERE row IN (SELECT value FROM json_each(?))", (json.dumps(rows),)
    )
    return dict(found)


def read_hits(
    connection: sqlite3.Connection, rows: Sequence[int], *, metadata: bool = True, documents: bool = True
) -> dict[int, HitFields]:
    """What a hit shows of each row that exists. Metadata that are damaged are {}, and the log names the record."""
    columns = f"row, id, {'metadata' if metadata else 'NULL'}, {'document' if documents else 'NULL'}"
    found: dict[int, HitFields] = {}
    for run in _runs(rows):
        if len(run) <= MAX_ROW_PARAMETERS:
            wanted, parameters = f"SELECT column1 AS value FROM (VALUES {','.join(['(?)'] * len(run))})", run
        else:
            wanted, parameters = "SELECT value FROM json_each(?)", [json.dumps(run)]  # type: ignore[list-item]
        # A join in this order, and not IN, for which SQLite would first make a sorted table of the rows.
        selected = select(connection, f"SELECT {columns} FROM ({wanted}) CROSS JOIN records ON row = value", parameters)
        for row, id, text, document in selected:
            fields = parse_metadata(text) if metadata else {}
            if fields is None:
                log.warning("the metadata of the record with %s are damaged and count as none", format_ids([id]))
                fields = {}
            found[row] = (id, fields, document if isinstance(document, str) else None)
    return found


def fetch(
    connection: sqlite3.Connection, keys: Sequence[Id], dim: int | None, dtype: str, *, damaged: str = "raise"
) -> dict[Id, Record]:
    """The records of those ids that exist. damaged: "raise" CorruptCollectionError for one, or "skip" it."""
    found: dict[Id, Record] = {}
    for run in _runs(keys):
        selected = select(
            connection,
            "SELECT id, vector, metadata, document FROM records LEFT JOIN vectors USING (row) "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(run, ensure_ascii=False),),
        )
        found.update((record.id, record) for record in _records(selected, dim, dtype, damaged))
    return found


def page(
    connection: sqlite3.Connection,
    after: int,
    size: int,
    dim: int | None,
    dtype: str,
    sql: str,
    parameters: Sequence[Any],
) -> tuple[int, list[Record]]:
    """The last row of the page, and its records: `size` in order of insertion, after a row, without damaged ones."""
    selected = select(
        connection,
        "SELECT id, vector, metadata, document, row FROM records LEFT JOIN vectors USING (row) "
        f"WHERE row > ? AND ({sql}) ORDER BY row LIMIT ?",
        (after, *parameters, size),
    )
    return (selected[-1][-1] if selected else after), list(_records(selected, dim, dtype, "skip"))


def _records(selected: Iterable[tuple[Any, ...]], dim: int | None, dtype: str, damaged: str) -> Iterator[Record]:
    for key, blob, metadata, document, *_ in selected:
        fields, problem = parse_metadata(metadata), ""
        if not isinstance(blob, bytes) or len(blob) != (dim or 0) * np.dtype(dtype).itemsize:
            problem = "it has no vector" if blob is None else "its vector is damaged"
        elif fields is None:
            problem = "its metadata are not a JSON object"
        elif not (document is None or isinstance(document, str)):
            problem = "its document is not a text"
        else:
            yield Record(key, np.frombuffer(blob, dtype).astype(np.float32), fields, document)
            continue
        problem = f"the record with {format_ids([key])} is damaged: {problem}; check(repair=True) sets it apart"
        if damaged == "raise":
            raise CorruptCollectionError(problem)
        log.warning("left out: %s", problem)


def vectors_of(
    connection: sqlite3.Connection, rows: Sequence[int], dim: int, dtype: str
) -> tuple[RowIds, NDArray[np.float32]]:
    """Those of the rows that exist, ascending int64[n], and their vectors, float32[n, dim].

    What cannot be one is left out.
    """
    selected = connection.execute(
        "SELECT row, vector FROM vectors WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row",
        (json.dumps(rows),),
    ).fetchall()
    return _vectors(selected, dim, dtype)


def vector_pages(
    connection: sqlite3.Connection, size: int, dim: int, dtype: str
) -> Iterator[tuple[RowIds, NDArray[np.float32]]]:
    """All rows with their vectors, as vectors_of() returns them, up to `size` at a time."""
    sql = f"SELECT row, vector FROM vectors WHERE row <= {last_row(connection)} AND row > ?"
    for page in pages(connection, sql, size):
        yield _vectors(page, dim, dtype)


def vector_count(connection: sqlite3.Connection) -> int:
    last = last_row(connection)
    where = "" if last == EVERY_ROW else f"WHERE row <= {last}"  # without, SQLite counts more quickly
    return int(connection.execute(f"SELECT count(*) FROM vectors {where}").fetchone()[0])


def _vectors(selected: list[Any], dim: int, dtype: str) -> tuple[RowIds, NDArray[np.float32]]:
    size = dim * np.dtype(dtype).itemsize
    if any(type(blob) is not bytes or len(blob) != size for _, blob in selected):
        sound = [(row, blob) for row, blob in selected if type(blob) is bytes and len(blob) == size]
        wrong, selected = len(selected) - len(sound), sound
        log.warning("%d stored vectors of another length are left out (see Collection.check())", wrong)
    found = np.array([row for row, _ in selected], np.int64)
    data = b"".join(blob for _, blob in selected)
    return found, np.frombuffer(data, dtype).reshape(len(found), dim).astype(np.float32, copy=False)


# ---- indexes of fields ---------------------------------------------------------------------------------------------

_INDEX = "field:"


def create_index(connection: sqlite3.Connection, field: str, sql: str) -> None:
    """Create the index of a field unless there is one. field: its canonical name; sql: its value in SQL."""
    if field not in indexes(connection).values():
        # SQLite ignores case in names of indexes, so a bit mask of the capital letters is appended.
        capitals = sum(1 << at for at, letter in enumerate(field) if "A" <= letter <= "Z")
        connection.execute(f"CREATE INDEX {_quoted(f'{_INDEX}{field}~{capitals:x}')} ON records ({sql})")
    connection.execute("ANALYZE records")


def drop_index(connection: sqlite3.Connection, field: str) -> None:
    for name, of in indexes(connection).items():
        if of == field:
            connection.execute(f"DROP INDEX {_quoted(name)}")


def indexes(connection: sqlite3.Connection) -> dict[str, str]:
    """The name of each index, and its field. Earlier versions named them by the field alone."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB ? ORDER BY name", (f"{_INDEX}*",)
    )
    return {name: re.sub(r"~[0-9a-f]+\Z", "", name[len(_INDEX) :]) for (name,) in names}


def explain(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> Plan:
    """How SQLite evaluates a compiled condition."""
    plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT row FROM records WHERE {sql}", parameters)
    steps = tuple(detail for *_, detail in plan)
    known = indexes(connection)
    used = (field for name, field in known.items() if any(f"INDEX {name} " in f"{step} " for step in steps))
    return Plan(sql, parameters, steps, tuple(used))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
