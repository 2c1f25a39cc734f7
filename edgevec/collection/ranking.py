"""BM25 as FTS5 computes it, over what FTS5 has indexed, but in arrays: its own looks at one document after the other.

What a query needs of the index is kept in memory: the length of each document, and, for each word that was asked for,
the documents that hold it (its postings). Both are as of one version of the records. Documents that were written since
are indexed once more, in memory and by the same tokenizer, and count in place of what was kept of them.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import schema
from .changes import RecentWrites
from .records import RowIds

__all__ = [
    "MAX_POSTINGS",
    "NO_DOCUMENT",
    "Fresh",
    "Postings",
    "Ranking",
    "best",
    "read_lengths",
    "read_postings",
    "scores",
    "table_of_terms",
    "with_lengths",
]

_K1, _B = 1.2, 0.75
_LEAST_IDF = 1e-6
"""Of a word that half of the documents hold. As FTS5's, like the two above."""

MAX_POSTINGS = 8_000_000
"""Of all words together; each takes 8 bytes."""
_MAX_GAPS = 8
"""Rows for each document: with more, arrays by row would be mostly empty."""
_MAX_CHANGED = 2_000
_MAX_TERMS = 100_000
NO_DOCUMENT = -1


class Postings(NamedTuple):
    """The documents that hold a word, ascending, and how often each does."""

    rows: NDArray[np.int32]
    counts: NDArray[np.int32]


class _Kept(NamedTuple):
    """What is kept of the full-text index."""

    version: int
    """Of the records: `lengths` and `changed` are of it."""
    lengths: NDArray[np.int32]
    """Words of each document, by row."""
    changed: RowIds
    """Written since the postings were: the documents of these rows are in Fresh."""
    postings: OrderedDict[str, Postings]
    """By word, the least recently used first."""
    documents: int
    mean: float
    """Words of a document."""


class Fresh:
    """Documents indexed in memory. Not for several threads at a time."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._connection.close)  # Python 3.13 warns of one that is not closed
        for table in ("texts", "asked"):
            self._connection.execute(
                f'CREATE VIRTUAL TABLE {table} USING fts5(document, tokenize="{schema.TOKENIZER}")'
            )
            self._connection.execute(f"CREATE VIRTUAL TABLE {table}_terms USING fts5vocab({table}, instance)")
        self._tokens: dict[str, tuple[str, ...]] = {}

    def clear(self) -> None:
        self._connection.execute("DELETE FROM texts")

    def put(self, rows: RowIds, documents: Sequence[tuple[int, bytes]]) -> list[tuple[int, int]]:
        """Have these documents and no others of the rows; (row, length) of all that there are."""
        self._connection.executemany("DELETE FROM texts WHERE rowid = ?", [(row,) for row in rows.tolist()])
        self._connection.executemany("INSERT INTO texts(rowid, document) VALUES (?, ?)", documents)
        return read_lengths(self._connection)

    def postings(self, term: str) -> Postings:
        return read_postings(self._connection, "texts_terms", term)

    def term(self, phrase: str) -> str | None:
        """What a quoted word is in the index; None when it is several there, nothing, or the beginning of words."""
        found = self.tokens(phrase)
        return found[0] if len(found) == 1 and phrase.endswith('"') else None

    def tokens(self, phrase: str) -> tuple[str, ...]:
        """What a quoted word is in the index, in its order."""
        if phrase not in self._tokens:
            if len(self._tokens) >= _MAX_TERMS:
                self._tokens.clear()
            self._connection.execute("INSERT INTO asked(rowid, document) VALUES (1, ?)", (phrase,))
            found = self._connection.execute("SELECT term FROM asked_terms ORDER BY offset").fetchall()
            self._connection.execute("DELETE FROM asked")
            self._tokens[phrase] = tuple(term for (term,) in found)
        return self._tokens[phrase]


class Ranking:
    """Ranks documents by the words of queries. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fresh: Fresh | None = None
        self._kept: _Kept | None = None
        self._met: int | None = None
        """The version that a query met for which nothing is kept."""

    def search(
        self,
        connection: sqlite3.Connection,
        version: int,
        recent_writes: RecentWrites,
        phrases: Sequence[str],
        k: int,
        allowed: Callable[[RowIds], RowIds] | None,
    ) -> list[tuple[int, float]] | None:
        """(row, score), best first, of up to k documents that hold at least one of the words.

        None where FTS5 has to be asked: a phrase is not one word, or the first query after writes of another process.

        Args:
            version: of the records that the connection sees
            allowed: which of some rows may be found
        """
        with self._lock:
            fresh = self._fresh = self._fresh or Fresh()
            terms = [term for term in map(fresh.term, phrases) if term is not None]
            kept = self._kept_for(connection, version, recent_writes)
            if kept is None or len(terms) < len(phrases):
                return None
            written = [fresh.postings(term) for term in terms] if len(kept.changed) else None
        known = [self._postings(connection, kept, term) for term in terms]
        if written is not None:
            known = [_with_written(*both, kept.changed) for both in zip(known, written, strict=True)]
        holding = [len(postings.rows) for postings in known]
        return best(scores(kept.lengths, known, kept.documents, kept.mean, holding), k, allowed)

    def _kept_for(self, connection: sqlite3.Connection, version: int, recent_writes: RecentWrites) -> _Kept | None:
        kept = self._kept
        if kept is not None and kept.version < version:
            self._kept = None  # a signal may end what follows
            kept = self._kept = self._brought_up(connection, kept, version, recent_writes)
        if kept is None and self._met == version:
            kept = self._kept = self._from_start(connection, version)
        self._met = version
        return kept if kept is not None and kept.version == version else None

    def _from_start(self, connection: sqlite3.Connection, version: int) -> _Kept | None:
        assert self._fresh is not None
        self._fresh.clear()
        found = read_lengths(connection)
        last = max((row for row, _ in found), default=0)
        if not found or min(row for row, _ in found) < 0 or last > len(found) * _MAX_GAPS + 10_000:
            return None
        return _keep(version, with_lengths(np.empty(0, np.int32), found), np.empty(0, np.int64), OrderedDict())

    def _brought_up(
        self, connection: sqlite3.Connection, kept: _Kept, version: int, recent_writes: RecentWrites
    ) -> _Kept | None:
        """With what was written since; None where that is not known or too much."""
        assert self._fresh is not None
        rows = recent_writes.rows_between(kept.version, version)
        if rows is None or (len(rows) and rows[-1] > kept.documents * _MAX_GAPS + 10_000):
            return None
        changed = np.union1d(kept.changed, rows)
        if len(changed) > _MAX_CHANGED:
            return None
        documents = connection.execute(
            "SELECT row, CAST(document AS BLOB) FROM documents WHERE row IN (SELECT value FROM json_each(?))",
            (json.dumps(rows.tolist()),),
        ).fetchall()
        gone = [(row, NO_DOCUMENT) for row in rows.tolist()]
        lengths = with_lengths(kept.lengths, [*gone, *self._fresh.put(rows, documents)])
        return _keep(version, lengths, changed, kept.postings)

    def _postings(self, connection: sqlite3.Connection, kept: _Kept, term: str) -> Postings:
        """As they were at some version from the first of `kept.postings` to that of `kept`."""
        with self._lock:
            if term in kept.postings:
                kept.postings.move_to_end(term)
                return kept.postings[term]
        found = read_postings(connection, table_of_terms(connection), term)
        with self._lock:
            kept.postings[term] = found
            total = sum(len(postings.rows) for postings in kept.postings.values())
            while total > MAX_POSTINGS:
                total -= len(kept.postings.popitem(last=False)[1].rows)
        return found


def _keep(version: int, lengths: NDArray[np.int32], changed: RowIds, postings: OrderedDict[str, Postings]) -> _Kept:
    there = lengths[lengths != NO_DOCUMENT]
    mean = int(there.sum(dtype=np.int64)) / max(len(there), 1)
    return _Kept(version, lengths, changed, postings, len(there), mean)


def read_lengths(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """(row, words) of each document that the table `texts` of FTS5 indexes."""
    found = connection.execute("SELECT id, sz FROM texts_docsize").fetchall()
    return [(row, size[0] if len(size) == 1 else _varint(size)) for row, size in found]


def _varint(data: bytes) -> int:
    """SQLite's number of variable length, as long as it is below 2^56."""
    value = 0
    for byte in data:
        value = value << 7 | byte & 127
    return value


def with_lengths(lengths: NDArray[np.int32], found: Iterable[tuple[int, int]]) -> NDArray[np.int32]:
    rows, sizes = np.array(list(found), np.int64).reshape(-1, 2).T
    made = np.full(max(len(lengths), int(rows.max(initial=-1)) + 1), NO_DOCUMENT, np.int32)
    made[: len(lengths)] = lengths
    made[rows] = sizes
    return made


def table_of_terms(connection: sqlite3.Connection) -> str:
    """The terms of all documents, of each where it stands, as a table."""
    connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.texts_terms USING fts5vocab(main, texts, instance)")
    return "temp.texts_terms"


def read_postings(connection: sqlite3.Connection, table: str, term: str) -> Postings:
    # One text of all rows: a tuple for each would take three times as long.
    [(joined,)] = connection.execute(f"SELECT group_concat(doc) FROM {table} WHERE term = ?", (term,))
    rows, counts = np.unique(np.fromstring(joined or "", np.int32, sep=","), return_counts=True)
    return Postings(rows, counts.astype(np.int32))


def _with_written(known: Postings, written: Postings, changed: RowIds) -> Postings:
    stays = ~np.isin(known.rows, changed)
    return Postings(
        np.concatenate([known.rows[stays], written.rows]), np.concatenate([known.counts[stays], written.counts])
    )


def scores(
    lengths: NDArray[np.int32], known: Sequence[Postings], documents: int, mean: float, holding: Sequence[int]
) -> NDArray[np.float64]:
    """The score of each row, 0 where none of the words is.

    Args:
        lengths: words of each document, by row
        known: the postings of each word
        documents, mean: how many there are, and their mean length
        holding: how many of them hold each word
    """
    found = np.zeros(len(lengths))
    for (rows, counts), held in zip(known, holding, strict=True):
        if len(rows):
            idf = math.log((documents - held + 0.5) / (held + 0.5))
            norm = _K1 * (1 - _B + _B * lengths[rows] / mean)
            found[rows] += (idf if idf > 0 else _LEAST_IDF) * (counts * (_K1 + 1) / (counts + norm))
    return found


def best(scores: NDArray[np.float64], k: int, allowed: Callable[[RowIds], RowIds] | None) -> list[tuple[int, float]]:
    """The rows of the k highest scores that are allowed; of equal ones the lower rows."""
    rows = np.flatnonzero(scores)
    chosen: list[int] = []
    size = k if allowed is None else max(4 * k, 64)
    while len(rows) and len(chosen) < k:
        found = scores[rows]
        least = np.partition(found, -size)[-size] if size < len(rows) else 0.0
        first = rows[found >= least]
        first = first[np.lexsort((first, -scores[first]))]
        if allowed is not None:
            first = first[np.isin(first, allowed(first))]
        chosen += first.tolist()
        rows = rows[found < least]
        size *= 4
    return [(row, float(scores[row])) for row in chosen[:k]]
