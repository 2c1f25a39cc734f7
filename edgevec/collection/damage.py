"""Records that something other than edgevec has damaged: finding them, and moving them to a table of their own."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from . import ahead, changes, records, schema
from .records import format_ids, parse_metadata
from .sql import pages
from .validation import are_valid

__all__ = ["Damage", "find_damage", "set_apart"]

RECORDS_PER_PAGE = 2048

_RECORDS = """SELECT
    row, typeof(id), id, typeof(metadata), metadata,
    CASE WHEN typeof(metadata) = 'text' THEN json_valid(metadata) ELSE 0 END,
    typeof(document), document, typeof(vector), vector
FROM records LEFT JOIN vectors USING (row) WHERE row > ?"""

_DAMAGED = """CREATE TABLE IF NOT EXISTS damaged (
    row INTEGER, id, metadata, document, vector, problem TEXT, set_apart_at TEXT DEFAULT CURRENT_TIMESTAMP
)"""


class Damage(NamedTuple):
    """What is wrong with the records."""

    records: dict[int, tuple[Any, str]]
    """By row: id and problem."""
    orphans: list[int]
    """Rows of vectors without a record."""
    changes: bool
    """Whether the list of changes is damaged."""

    def problems(self) -> list[str]:
        """A line for each kind of problem, with the ids."""
        by_problem = defaultdict(list)
        for key, problem in self.records.values():
            by_problem[problem].append(key)
        lines = [f"{format_ids(keys)}: {problem}" for problem, keys in by_problem.items()]
        if self.orphans:
            lines.append(f"{len(self.orphans):,} vectors without a record")
        if self.changes:
            lines.append("the list of changes is damaged")
        return lines

    def __bool__(self) -> bool:
        return bool(self.records or self.orphans or self.changes)


def find_damage(connection: sqlite3.Connection) -> Damage:
    settings = schema.read_settings(connection)
    found: dict[int, tuple[Any, str]] = {}
    for page in pages(connection, _RECORDS, RECORDS_PER_PAGE, text=bytes):
        found.update(_damaged(page, settings))
    orphans = [
        row
        for (row,) in connection.execute(
            "SELECT row FROM vectors WHERE row <= ? AND row NOT IN (SELECT row FROM records)",
            (ahead.last_row(connection),),
        )
    ]
    return Damage(found, orphans, not changes.is_whole(connection))


def _damaged(page: list[Any], settings: schema.Settings) -> Iterator[tuple[int, tuple[Any, str]]]:
    dtype, dim = np.dtype(settings["dtype"]), int(settings.get("dim") or 0)
    whole = []
    for row, id_kind, key, metadata_kind, metadata, valid, document_kind, document, vector_kind, vector in page:
        shown = key.decode(errors="replace") if id_kind == b"text" else key
        problem = ""
        if id_kind not in (b"integer", b"text") or not _is_utf8(key):
            problem = "the id is neither a number nor a text"
        elif (
            metadata_kind != b"text" or not valid or not _is_utf8(metadata) or parse_metadata(metadata.decode()) is None
        ):
            problem = "the metadata are not a JSON object"
        elif document_kind not in (b"text", b"null") or not _is_utf8(document):
            problem = "the document is not a text"
        elif vector_kind == b"null":
            problem = "there is no vector"
        elif vector_kind != b"blob" or len(vector) != dim * dtype.itemsize:
            problem = "the vector is of another length than the rest"
        else:
            whole.append((row, shown, vector))
        if problem:
            yield row, (shown, problem)
    if whole:
        vectors = np.frombuffer(b"".join(vector for *_, vector in whole), dtype).reshape(len(whole), dim)
        for at in np.flatnonzero(~are_valid(vectors.astype(np.float32), settings["metric"])).tolist():
            yield whole[at][0], (whole[at][1], "the vector is not finite, or zero where it must not be")


def _is_utf8(value: Any) -> bool:
    if isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return True


def set_apart(connection: sqlite3.Connection, damage: Damage) -> list[int]:
    """Move damaged records to the table `damaged`, and delete vectors without a record; the rows of both.

    The caller has begun a transaction.
    """
    indexes = schema.drop_field_indexes(connection)  # SQLite cannot update them where the metadata are not JSON
    if damage.records:
        connection.execute(_DAMAGED)
        connection.executemany(
            "INSERT INTO damaged(row, id, metadata, document, vector, problem) "
            "SELECT row, id, metadata, document, vector, ? FROM records LEFT JOIN vectors USING (row) WHERE row = ?",
            ((problem, row) for row, (_, problem) in damage.records.items()),
        )
    rows = sorted([*damage.records, *damage.orphans])
    records.delete(connection, rows)
    if damage.changes:
        changes.restart(connection)
    for sql in indexes:
        connection.execute(sql)
    return rows
