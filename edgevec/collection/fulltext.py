"""Full-text search over the documents: SQLite's FTS5, ranked by BM25."""

from __future__ import annotations

import re
import sqlite3
from functools import partial

from . import schema
from .changes import RecentWrites
from .ranking import Ranking
from .records import rows_where
from .sql import select
from .where import EVERYTHING, Condition
from .words import phrases

__all__ = ["count", "search", "words_of"]

_MAX_WORDS = 256


def count(connection: sqlite3.Connection) -> int:
    """How many documents are indexed."""
    return int(connection.execute("SELECT count(*) FROM texts_docsize").fetchone()[0])


def words_of(text: str) -> list[str]:
    """Those that are looked for, as FTS5 takes them."""
    return phrases(text)[:_MAX_WORDS]


def search(
    connection: sqlite3.Connection,
    text: str,
    k: int,
    condition: Condition,
    ranking: Ranking,
    version: int | None,
    recent_writes: RecentWrites,
) -> list[tuple[int, float]]:
    """(row, score), best first, of up to k documents that hold at least one of the words and satisfy the condition.

    Args:
        version: of the records; None inside a batch
    """
    if schema.is_old(connection):
        words = [f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", text.lower()))][:_MAX_WORDS]
        version = None
    else:
        words = words_of(text)
    if not words:
        return []
    if version is not None:
        allowed = None if condition == EVERYTHING else partial(rows_where, connection, *condition)
        found = ranking.search(connection, version, recent_writes, words, k, allowed)
        if found is not None:
            return found
    query = " OR ".join(words)
    join, more = "", ""
    if condition != EVERYTHING:
        join, more = "JOIN records ON records.row = texts.rowid", f"AND ({condition.sql})"
    return select(
        connection,
        f"SELECT texts.rowid, -rank FROM texts {join} WHERE texts MATCH ? {more} ORDER BY rank, texts.rowid LIMIT ?",
        (query, *condition.parameters, k),
    )
