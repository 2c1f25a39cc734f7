"""Full-text search over the documents: SQLite's FTS5, ranked by BM25."""

from __future__ import annotations

import re
import sqlite3

from . import schema
from .sql import select
from .where import EVERYTHING, Condition
from .words import phrases

__all__ = ["count", "search"]

_MAX_WORDS = 256


def count(connection: sqlite3.Connection) -> int:
    """How many documents are indexed."""
    return int(connection.execute("SELECT count(*) FROM texts_docsize").fetchone()[0])


def search(connection: sqlite3.Connection, text: str, k: int, condition: Condition) -> list[tuple[int, float]]:
    """(row, score), best first, of up to k documents that hold at least one of the words and satisfy the condition."""
    if schema.is_old(connection):
        words = [f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", text.lower()))]
    else:
        words = phrases(text)
    if not words:
        return []
    query = " OR ".join(words[:_MAX_WORDS])
    join, more = "", ""
    if condition != EVERYTHING:
        join, more = "JOIN records ON records.row = texts.rowid", f"AND ({condition.sql})"
    return select(
        connection,
        f"SELECT texts.rowid, -rank FROM texts {join} WHERE texts MATCH ? {more} ORDER BY rank, texts.rowid LIMIT ?",
        (query, *condition.parameters, k),
    )
