"""BM25 of documents that are a part of more: what scores need to know of all of them is added up first.

A part is not written to, so what is kept of it stays. FTS5 itself knows no documents but its own, and is not asked to
rank: words that are several in its index, and beginnings of words, are found by the places where their terms stand.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ranking import (
    MAX_POSTINGS,
    NO_DOCUMENT,
    Fresh,
    Postings,
    read_lengths,
    read_postings,
    scores,
    table_of_terms,
    with_lengths,
)

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
    """Ranks the documents of one part. Safe to use from several threads.

    Args:
        read: read(), a block with a connection, for what is not kept yet; the caller is in no such block
    """

    def __init__(self, read: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._fresh: Fresh | None = None
        self._lengths: NDArray[np.int32] | None = None
        self._size = 0, 0
        """Documents, and words of all of them."""
        self._postings: OrderedDict[str, Postings] = OrderedDict()

    def stats(self, phrases: Sequence[str]) -> TextStats:
        """Of this part alone."""
        self._lengths_of_all()
        return TextStats(*self._size, tuple(len(self._known(phrase).rows) for phrase in phrases))

    def scores(self, phrases: Sequence[str], every: TextStats) -> NDArray[np.float64]:
        """The score of each row of this part, 0 where none of the words is.

        Args:
            every: of all parts
        """
        known = [self._known(phrase) for phrase in phrases]
        mean = every.words / max(every.documents, 1)
        return scores(self._lengths_of_all(), known, every.documents, mean, every.holding)

    def _lengths_of_all(self) -> NDArray[np.int32]:
        if self._lengths is None:  # what two threads make at once is the same
            with self._read() as connection:
                lengths = with_lengths(np.empty(0, np.int32), read_lengths(connection))
            there = lengths[lengths != NO_DOCUMENT]
            self._size = len(there), int(there.sum(dtype=np.int64))
            self._lengths = lengths
        return self._lengths

    def _known(self, phrase: str) -> Postings:
        with self._lock:
            found = self._postings.get(phrase)
            if found is not None:
                self._postings.move_to_end(phrase)
                return found
            fresh = self._fresh = self._fresh or Fresh()
            terms = fresh.tokens(phrase)
        with self._read() as connection:
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
