"""Search by vector, by text, or by both, among the records that a condition allows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..index import Index, SearchContext
from . import fulltext
from .filters import Filters
from .fuse import reciprocal_rank
from .hits import Hit, Hits, HitStats
from .recent import Recent
from .store import Store
from .where import EVERYTHING, Condition

__all__ = ["Question", "Searcher"]

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
        self._recent = Recent()
        self._contexts: list[tuple[Index, SearchContext]] = []

    def search(self, question: Question) -> Hits:
        with self._store.reading(graph=question.vector is not None) as connection:
            if question.text is None:
                return self._by_vector(connection, question)
            if question.vector is None:
                return self._by_text(connection, question)
            return self._by_both(connection, question)

    def _by_vector(self, connection: sqlite3.Connection, question: Question) -> Hits:
        rows, distances, stats = self._nearest(connection, question, question.k)
        l2 = self._store.settings["metric"] == "l2"
        scores = [-distance if l2 else 1 - distance for distance in distances]
        return self._hits(connection, rows, scores, distances, stats)

    def _by_text(self, connection: sqlite3.Connection, question: Question) -> Hits:
        found = fulltext.search(connection, question.text or "", question.k, question.condition)
        rows, scores = [row for row, _ in found], [score for _, score in found]
        return self._hits(connection, rows, scores, [None] * len(rows), HitStats("text", None, 0, 0))

    def _by_both(self, connection: sqlite3.Connection, question: Question) -> Hits:
        k = max(question.k, _FUSED)
        near, distances, stats = self._nearest(connection, question, k)
        said = [row for row, _ in fulltext.search(connection, question.text or "", k, question.condition)]
        best = reciprocal_rank((near, said), question.weights)[: question.k]
        known = dict(zip(near, distances, strict=True))
        known.update(self._distances(question, [row for row, _ in best if row not in known]))
        return self._hits(
            connection,
            [row for row, _ in best],
            [score for _, score in best],
            [known.get(row) for row, _ in best],
            stats._replace(strategy=f"{stats.strategy} + text"),
        )

    def _nearest(
        self, connection: sqlite3.Connection, question: Question, k: int
    ) -> tuple[list[int], list[float], HitStats]:
        index = self._store.graph.index
        if index is None:
            return [], [], HitStats("exact", 0, 0, 0)
        allowed, count = None, None
        if question.condition is not EVERYTHING:
            allowed, count = self._filters.get(connection, self._store.version, question.condition)
        context = self._context(index)
        how: dict[str, Any] = {"ef": question.ef, "exact": question.exact, "recall": question.recall}
        found = index.search(question.vector, k, filter=allowed, context=context, **how)
        stats = context.stats
        self._contexts.append((index, context))
        return (
            found.ids.tolist(),
            found.distances.tolist(),
            HitStats(stats.strategy, count, stats.visited, stats.distances),
        )

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
        rows: Sequence[int],
        scores: Sequence[float],
        distances: Sequence[float | None],
        stats: HitStats,
    ) -> Hits:
        known = self._recent.get(connection, self._store.version, rows)
        hits = Hits(
            [Hit(score, distance, *known[row]) for row, score, distance in zip(rows, scores, distances, strict=True)]
        )
        hits.stats = stats
        return hits
