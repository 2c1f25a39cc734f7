"""Metadata fields as columns in the file, so that the first condition after opening need not read all records.

They are derived from the records, and of a mark in their history: whoever loads them reads again what was written
since. Triggers count what other programs write, so columns that lack that are not used.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import WhereError
from .changes import Mark
from .field_columns import MAX_LENGTH, Column, load
from .records import RowIds, parse_metadata
from .schema import WATCHING
from .where import Field, field_sql

__all__ = ["SavedFields", "drop", "found_fields", "is_watched", "read", "write"]

_ROWS = ""
"""In place of the name of a field: all rows, and the mark."""
_SAMPLE, _MAX_FOUND, _MAX_DEPTH = 256, 32, 4
"""Records in which fields are looked for, fields that are taken from there, and names that lead to one."""
_MAX_SAVED = 256
"""Fields, and names of such as cannot be saved."""


class SavedFields(NamedTuple):
    """What a file holds of fields."""

    mark: Mark
    """Of the records that they were made of."""
    rows: RowIds
    """All of them, ascending."""
    names: frozenset[Field]
    """Of all fields that are saved."""
    refused: frozenset[Field]
    """Of those that cannot be."""
    columns: Mapping[Field, Column]
    """Those that were asked for, as far as they are there."""


def is_watched(connection: sqlite3.Connection) -> bool:
    """Whether triggers count what other programs write, and there is a table for columns."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'trigger')")
    return {name for (name,) in found}.issuperset(("fields", *WATCHING))


def read(connection: sqlite3.Connection, wanted: Collection[Field]) -> SavedFields | None:
    """None where there is nothing, it is damaged, or nobody has watched what other programs write."""
    if not is_watched(connection):
        return None
    names = [_ROWS, *map(json.dumps, wanted)]
    found = connection.execute(  # one statement, so that all of it is of one commit
        f"SELECT field, about, content, checksum FROM fields WHERE field IN ({', '.join('?' * len(names))})", names
    ).fetchall()
    try:
        kept = {
            name: (json.loads(about), content)
            for name, about, content, checksum in found
            if _checksum(about, content) == checksum
        }
        about, content = kept.pop(_ROWS)
        rows = _from_runs(np.frombuffer(content, "<i8"), _file_bytes(connection))
        columns = {}
        for name, saved in kept.items():
            column = load(saved, len(rows))
            if column is not None:
                columns[_field(json.loads(name))] = column
        saved_names, refused = (frozenset(map(_field, about[part])) for part in ("names", "refused"))
        return SavedFields(Mark(**about["mark"]), rows, saved_names, refused, columns)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def write(
    connection: sqlite3.Connection,
    mark: Mark,
    rows: RowIds,
    columns: Mapping[Field, Column],
    also: Collection[Field],
    refused: Collection[Field],
) -> None:
    """Save columns in the open transaction, which sees the records at the mark. also: those that stay as they are."""
    if not also:
        connection.execute("DELETE FROM fields")
    about = {
        "mark": mark._asdict(),
        "names": [*also, *columns][:_MAX_SAVED],
        "refused": [*refused][:_MAX_SAVED],
    }
    _insert(connection, _ROWS, about, _as_runs(rows).astype("<i8").tobytes())
    for field, column in columns.items():
        _insert(connection, json.dumps(field), *column.saved())


def drop(connection: sqlite3.Connection) -> None:
    """Delete them; nothing is written where there are none."""
    if connection.execute("SELECT 1 FROM fields").fetchone():
        connection.execute("DELETE FROM fields")


def found_fields(connection: sqlite3.Connection, rows: RowIds) -> list[Field]:
    """The fields of a sample of these records, the most frequent first, save those of long texts."""
    sample = np.unique(rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows)), dtype=np.int64)])
    texts = connection.execute(
        "SELECT metadata FROM records WHERE row IN (SELECT value FROM json_each(?))", (json.dumps(sample.tolist()),)
    )
    met: Counter[Field] = Counter()
    long: set[Field] = set()
    for (text,) in texts:
        for field, value in _values(parse_metadata(text) or {}, ()):
            met[field] += 1
            if isinstance(value, str) and len(value) > MAX_LENGTH:
                long.add(field)
    return [field for field, _ in met.most_common(_MAX_FOUND) if field not in long and _is_name(field)]


def _values(fields: dict[str, Any], above: Field) -> Iterator[tuple[Field, Any]]:
    for name, value in fields.items():
        field = (*above, name)
        if not isinstance(value, dict):
            yield field, value
        elif len(field) < _MAX_DEPTH:
            yield from _values(value, field)


def _is_name(field: Field) -> bool:
    try:
        return bool(field_sql(field))
    except WhereError:
        return False


def _field(names: Sequence[Any]) -> Field:
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names are texts")
    return tuple(names)


def _insert(connection: sqlite3.Connection, name: str, about: dict[str, Any], content: bytes) -> None:
    text = json.dumps(about)
    connection.execute(
        "INSERT OR REPLACE INTO fields VALUES (?, ?, ?, ?)", (name, text, content, _checksum(text, content))
    )


def _checksum(about: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(about.encode()))


def _as_runs(rows: RowIds) -> NDArray[np.int64]:
    """The first row of each run of consecutive ones, and then how long each is."""
    starts = np.concatenate([[0], np.flatnonzero(rows[1:] != rows[:-1] + 1) + 1])
    return np.concatenate([rows[starts], np.diff(starts, append=len(rows))])


def _file_bytes(connection: sqlite3.Connection) -> int:
    (pages,), (size,) = (connection.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size"))
    return int(pages) * int(size)


def _from_runs(runs: NDArray[np.int64], most: int) -> RowIds:
    """ValueError where the rows are none, or more than there are bytes of the file, which need not be trusted."""
    firsts, lengths = np.split(runs, 2)
    if not len(lengths) or (lengths < 1).any() or lengths.sum(dtype=np.float64) > most:
        raise ValueError("these are no runs of rows")
    ends = np.cumsum(lengths)
    rows: RowIds = np.arange(ends[-1]) + np.repeat(firsts - (ends - lengths), lengths.astype(np.intp))
    return rows
