"""Search by vector, by text, or by both, among the records that a condition allows."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from ..index import Index, SearchContext
from . import fulltext, records
from .filters import Filters
from .fuse import reciprocal_rank
from .hits import Hit, Hits, HitStats
from .records import Rows, Shown
from .store import Store
from .unread import Details
from .validation import Id
from .where import EVERYTHING, Condition

__all__ = ["Question", "Searcher"]

log = logging.getLogger("edgevec")

_FUSED = 100
"""At least so many of each ranking are fused."""


class Question(NamedTuple):
    vector: Any
    text: str | None
    k: int
    ef: int | None
    exact: bool
    recall: float | None
    condition: Condition
    weights: tuple[float, float]


class Searcher:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._filters = Filters()
        self._contexts: list[tuple[Index, SearchContext]] = []

    def search(self, question: Question) -> Hits:
        with self._store.reading(graph=question.vector is not None) as connection:
            search = self._by_both
            if question.text is None:
                search = self._by_vector
            elif question.vector is None:
                search = self._by_text
            hits = search(connection, question)
            return self._filled_up(connection, question, search, hits) if hits.stats.vanished else hits

    def _filled_up(
        self,
        connection: sqlite3.Connection,
        question: Question,
        search: Callable[[sqlite3.Connection, Question], Hits],
        hits: Hits,
    ) -> Hits:
        """As many hits as if what has vanished had never been there."""
        vanished = 0
        while len(hits) < question.k and hits.stats.vanished > vanished:
            vanished = hits.stats.vanished
            hits = search(connection, question._replace(k=question.k + 2 * vanished))
        name = self._store.database.name
        log.warning("%s: %d records that a search met are gone: see Collection.check()", name, hits.stats.vanished)
        del hits[question.k :]
        return hits

    def _by_vector(self, connection: sqlite3.Connection, question: Question) -> Hits:
        rows, distances, stats = self._nearest(connection, question, question.k)
        if self._store.settings["metric"] == "l2":
            scores = [-distance for distance in distances]
        else:
            scores = [1 - distance for distance in distances]
        return self._hits(connection, rows, scores, distances, stats)

    def _by_text(self, connection: sqlite3.Connection, question: Question) -> Hits:
        found = fulltext.search(connection, question.text or "", question.k, question.condition)
        rows = np.array([row for row, _ in found], np.int64)
        scores = [score for _, score in found]
        return self._hits(connection, rows, scores, [None] * len(rows), HitStats("text", None, 0, 0))

    def _by_both(self, connection: sqlite3.Connection, question: Question) -> Hits:
        k = max(question.k, _FUSED)
        nearest, distances, stats = self._nearest(connection, question, k)
        near = nearest.tolist()
        said = [row for row, _ in fulltext.search(connection, question.text or "", k, question.condition)]
        best = reciprocal_rank((near, said), question.weights)[: question.k]
        known = dict(zip(near, distances, strict=True))
        known.update(self._distances(question, [row for row, _ in best if row not in known]))
        return self._hits(
            connection,
            np.array([row for row, _ in best], np.int64),
            [score for _, score in best],
            [known.get(row) for row, _ in best],
            stats._replace(strategy=f"{stats.strategy} + text"),
        )

    def _nearest(
        self, connection: sqlite3.Connection, question: Question, k: int
    ) -> tuple[Rows, list[float], HitStats]:
        index = self._store.graph.index
        if index is None:
            return np.empty(0, np.int64), [], HitStats("exact", 0, 0, 0)
        allowed, count = None, None
        if question.condition is not EVERYTHING:
            allowed, count = self._filters.get(connection, self._store.version, question.condition, self._store.commits)
        context = self._context(index)
        found = index.search(
            question.vector,
            k,
            ef=question.ef,
            filter=allowed,
            exact=question.exact,
            recall=question.recall,
            context=context,
        )
        strategy, visited, computed = context.cost()
        self._contexts.append((index, context))
        return found.ids, found.distances.tolist(), HitStats(strategy, count, visited, computed)

    def _distances(self, question: Question, rows: list[int]) -> dict[int, float]:
        """Of rows that only the text has found."""
        index = self._store.graph.index
        if not rows or index is None:
            return {}
        found = index.search(question.vector, len(rows), filter=rows, exact=True)
        return dict(zip(found.ids.tolist(), found.distances.tolist(), strict=True))

    def _context(self, index: Index) -> SearchContext:
        """A free one, of this very index."""
        while self._contexts:
            try:
                owner, context = self._contexts.pop()
            except IndexError:  # another thread was faster
                break
            if owner is index:
                return context
        return SearchContext(index)

    def _hits(
        self,
        connection: sqlite3.Connection,
        found: Rows,
        scores: Sequence[float],
        distances: Sequence[float | None],
        stats: HitStats,
    ) -> Hits:
        """What they show is read with the first look at it; at once where that could be too late."""
        store, rows = self._store, found.tolist()
        known: dict[int, Shown] | None = None
        ids: Sequence[Id | None]
        if store.writable and store.version is not None:
            ids = store.graph.ids_of(connection, found)
        else:  # inside the thread's own batch, or while another process writes
            known = records.shown(connection, rows)
            ids = [known[row][0] if row in known else None for row in rows]
        if None in ids:
            there = [at for at, id in enumerate(ids) if id is not None]
            stats = stats._replace(vanished=len(ids) - len(there))
            ids, rows = [ids[at] for at in there], [rows[at] for at in there]
            scores, distances = [scores[at] for at in there], [distances[at] for at in there]
        details = store.unread.later(rows) if known is None else Details(rows, known)
        hits = Hits(map(Hit, ids, scores, distances, rows, repeat(details)))  # type: ignore[arg-type]
        hits.stats = stats
        return hits
