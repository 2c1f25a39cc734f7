"""BM25 of documents that are a part of more: what scores need to know of all of them is added up first.

A part is not written to, so what is kept of it stays. FTS5 itself knows no documents but its own, and is not asked to
rank: words that are several in its index, and beginnings of words, are found by the places where their terms stand.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ranking import (
    MAX_POSTINGS,
    NO_DOCUMENT,
    Fresh,
    Postings,
    best,
    read_lengths,
    read_postings,
    scores,
    table_of_terms,
    with_lengths,
)
from .records import RowIds

__all__ = ["PartRanking", "TextStats"]

_LAST = "\U0010ffff"
"""No character is higher."""


class TextStats(NamedTuple):
    """What scores depend on, beside the document itself."""

    documents: int
    words: int
    """Of all documents."""
    holding: tuple[int, ...]
    """Documents that hold each of the words that are looked for."""

    @staticmethod
    def of_all(parts: Sequence[TextStats]) -> TextStats:
        """Of the documents of all parts, at least one."""
        holding = tuple(map(sum, zip(*(part.holding for part in parts), strict=True)))
        return TextStats(sum(part.documents for part in parts), sum(part.words for part in parts), holding)


class PartRanking:
    """Ranks the documents of one part. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fresh: Fresh | None = None
        self._lengths: NDArray[np.int32] | None = None
        self._size = 0, 0
        """Documents, and words of all of them."""
        self._postings: OrderedDict[str, Postings] = OrderedDict()

    def stats(self, connection: sqlite3.Connection, phrases: Sequence[str]) -> TextStats:
        """Of this part alone."""
        self._lengths_of(connection)
        return TextStats(*self._size, tuple(len(self._known(connection, phrase).rows) for phrase in phrases))

    def search(
        self,
        connection: sqlite3.Connection,
        phrases: Sequence[str],
        every: TextStats,
        k: int,
        allowed: Callable[[RowIds], RowIds] | None,
    ) -> list[tuple[int, float]]:
        """(row, score), best first, of up to k documents of this part that hold at least one of the words.

        Args:
            every: of all parts
            allowed: which of some rows may be found
        """
        known = [self._known(connection, phrase) for phrase in phrases]
        mean = every.words / max(every.documents, 1)
        return best(scores(self._lengths_of(connection), known, every.documents, mean, every.holding), k, allowed)

    def _lengths_of(self, connection: sqlite3.Connection) -> NDArray[np.int32]:
        with self._lock:
            if self._lengths is None:
                lengths = with_lengths(np.empty(0, np.int32), read_lengths(connection))
                there = lengths[lengths != NO_DOCUMENT]
                self._size = len(there), int(there.sum(dtype=np.int64))
                self._lengths = lengths
            return self._lengths

    def _known(self, connection: sqlite3.Connection, phrase: str) -> Postings:
        with self._lock:
            found = self._postings.get(phrase)
            if found is not None:
                self._postings.move_to_end(phrase)
                return found
            fresh = self._fresh = self._fresh or Fresh()
            terms = fresh.tokens(phrase)
        found = _of_phrase(connection, terms, begins=not phrase.endswith('"'))
        with self._lock:
            self._postings[phrase] = found
            total = sum(len(postings.rows) for postings in self._postings.values())
            while total > MAX_POSTINGS and len(self._postings) > 1:
                total -= len(self._postings.popitem(last=False)[1].rows)
        return found


def _of_phrase(connection: sqlite3.Connection, terms: Sequence[str], *, begins: bool) -> Postings:
    """The documents in which these terms follow each other. begins: the last of them is the beginning of one."""
    table = table_of_terms(connection)
    if len(terms) == 1 and not begins:
        return read_postings(connection, table, terms[0])
    starts = np.empty(0, np.int64)
    for at, term in enumerate(terms):
        which, parameters = "term = ?", (term,)
        if begins and at == len(terms) - 1:
            which, parameters = "term >= ? AND term < ?", (term, term + _LAST)  # type: ignore[assignment]
        found = connection.execute(f"SELECT doc, offset FROM {table} WHERE {which}", parameters).fetchall()
        documents, offsets = np.array(found, np.int64).reshape(-1, 2).T
        here = (documents << 32) + offsets - at
        starts = np.unique(here) if not at else np.intersect1d(starts, here)
    rows, counts = np.unique(starts >> 32, return_counts=True)
    return Postings(rows.astype(np.int32), counts.astype(np.int32))
