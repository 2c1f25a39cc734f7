"""What a condition names and no record has: most often a name that was mistyped."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from .records import parse_metadata
from .where import Condition, Field, field_name, field_raw, fields_of

__all__ = ["merge", "unknown"]

_SAMPLE = 1_000
"""Records whose names of fields are offered."""
_OFFERED = 3


def unknown(connection: sqlite3.Connection, condition: Condition) -> dict[str, list[str]]:
    """As Collection.unknown_fields()."""
    if condition.node is None or _is_empty(connection):
        return {}
    fields = dict.fromkeys(fields_of(condition.node))
    missing = [field_name(field) for field in fields if not _is_held(connection, field)]
    names = {field_name(field) for record in _sample(connection) for field in _paths(record)} if missing else set()
    return {name: get_close_matches(name, sorted(names), _OFFERED) for name in missing}


def merge(of_parts: Iterable[dict[str, list[str]] | None]) -> dict[str, list[str]]:
    """What none of several files that hold parts of the records knows; None of one that holds no records."""
    parts = [part for part in of_parts if part is not None]
    missing = [name for name in (parts[0] if parts else ()) if all(name in part for part in parts)]
    return {
        name: get_close_matches(name, sorted({near for part in parts for near in part[name]}), _OFFERED)
        for name in missing
    }


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None


def _is_held(connection: sqlite3.Connection, field: Field) -> bool:
    held = connection.execute(f"SELECT 1 FROM records WHERE ({field_raw(field)}) IS NOT NULL LIMIT 1")
    return held.fetchone() is not None


def _sample(connection: sqlite3.Connection) -> Iterator[Any]:
    for (metadata,) in connection.execute("SELECT metadata FROM records LIMIT ?", (_SAMPLE,)):
        yield parse_metadata(metadata) or {}


def _paths(record: dict[str, Any]) -> Iterator[Field]:
    """Of the fields of an object, and of the objects in it. Without recursion: objects may be nested very deeply."""
    waiting: list[tuple[Field, Any]] = [((), record)]
    while waiting:
        field, value = waiting.pop()
        if field:
            yield field
        if isinstance(value, dict):
            waiting.extend(((*field, name), inner) for name, inner in value.items())
