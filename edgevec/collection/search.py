"""Search by vector, by text, or by both, among the records that a condition allows."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._validation import as_int, as_rows
from ..encoders import TextEncoder
from ..errors import ParameterError
from ..index import Index
from ..single_search import SingleSearches
from . import encoding, fulltext, records
from .behind import nearest
from .filters import Filters
from .hits import Hit, Hits, HitStats, Included
from .ranking import Ranking
from .records import RowIds
from .sqlite_errors import translate
from .store import Store
from .where import EVERYTHING, Condition, Where, compile_where

__all__ = ["ALL", "EQUAL", "MIN_FUSED", "SearchExecutor", "SearchRequest", "as_request", "reciprocal_rank"]

log = logging.getLogger("edgevec")

_INF = float("inf")
EQUAL = (1.0, 1.0)
"""Weights."""
ALL: tuple[Included, ...] = ("metadata", "document")
MIN_FUSED = 100
"""Results of each ranking that are fused, at least."""


class SearchRequest(NamedTuple):
    """The arguments of Collection.search(), checked."""

    vector: Any
    text: str | None
    k: int
    ef: int | None
    exact: bool
    recall: float | None
    condition: Condition
    weights: tuple[float, float]
    include: tuple[Included, ...]


def as_request(
    store: Store,
    encoder: TextEncoder | None,
    vector: Any,
    k: int,
    *,
    text: str | None,
    where: Where | None,
    params: Sequence[Any] | None,
    ef: int | None,
    exact: bool,
    recall: float | None,
    weights: tuple[float, float],
    include: Sequence[Included],
) -> SearchRequest:
    """The arguments of Collection.search(), checked; the vector of a text is made."""
    as_int(k, "k", 1)
    if vector is None and text is None:
        raise ParameterError("give a vector or a text to search for")
    if text is not None and not isinstance(text, str):
        raise ParameterError(f"text must be a string, not {type(text).__name__}")
    vector_weight, text_weight = _as_weights(weights)
    if text is not None and vector is None and encoder is not None and vector_weight:
        vector = text
    if vector is not None and text is not None:
        vector, text = vector if vector_weight else None, text if text_weight else None
    if isinstance(vector, str):
        vector = encoding.query(store, encoder, vector)
    elif vector is not None:
        vector = _as_query(vector, store.dim)
    return SearchRequest(
        vector,
        text,
        k,
        ef,
        exact,
        recall,
        compile_where(where, params),
        (vector_weight, text_weight),
        _as_included(include),
    )


def _as_query(vector: Any, dim: int | None) -> Any:
    if not (isinstance(vector, np.ndarray) and vector.ndim == 1) and dim is not None:
        vector = as_rows(vector, dim, "vector")
        if vector.ndim != 1:
            raise ParameterError(f"vector must be one vector [{dim}], not [{len(vector)}, {dim}]: one query a call")
    return vector


def _as_weights(weights: Sequence[float]) -> tuple[float, float]:
    if weights is EQUAL:
        return EQUAL
    try:
        vector, text = (float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise ParameterError(f"weights must be two numbers, not {weights!r}") from None
    if not (0 <= vector < float("inf") and 0 <= text < float("inf") and vector + text > 0):
        raise ParameterError(f"weights must be positive, not {weights!r}")
    return vector, text


def _as_included(include: Sequence[Included]) -> tuple[Included, ...]:
    if include is ALL:
        return ALL
    names = (include,) if isinstance(include, str) else tuple(include)
    for name in names:
        if name not in ALL:
            raise ParameterError(f"include takes 'metadata' and 'document', not {name!r}")
    return names  # type: ignore[return-value]


class SearchExecutor:
    """Runs searches, with the filters and contexts that they share. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._filters = Filters(store.fields)
        self._ranking = Ranking()
        self._idle: list[SingleSearches] = []

    def search(self, request: SearchRequest) -> Hits:
        store = self._store
        try:  # as store.read(), with fewer calls
            hits = self._for_ids(request)
            if hits is not None:
                return hits
            connection, release = store.begin_read(request.vector is not None, None)
            try:
                search = self._by_both
                if request.text is None:
                    search = self._by_vector
                elif request.vector is None:
                    search = self._by_text
                hits = search(connection, request)
                return self._refilled(connection, request, search, hits) if hits.stats.vanished else hits
            finally:
                store.end_read(connection, release)
        except Exception as error:
            translate(error, store.database.name)
            raise

    def _for_ids(self, request: SearchRequest) -> Hits | None:
        """A search of the graph for ids alone, which needs no connection; None where the request takes more."""
        vector, text, k, ef, exact, recall, condition, _, include = request
        if include or text is not None or condition is not EVERYTHING or recall is not None or k > SingleSearches.MOST:
            return None
        ef = 0 if ef is None else as_int(ef, "ef", 1, 1_000_000)
        store = self._store
        try:
            if not store.begin_search() or (index := store.graph.index) is None:
                return None
            query = as_rows(vector, index.dim, "queries")
            searches = self._searches(index)
            distances = searches.search(query, k, ef, bool(exact))
            if distances[-1] == _INF:
                distances = distances[: distances.index(_INF)]
            ids = store.ids_of(searches.ids[: len(distances)])
            strategy, visited, computed = searches.cost()
            self._idle.append(searches)
        finally:
            store.end_search()
        if None in ids:  # others take the places of those whose records are gone
            return None
        hits = Hits(map(Hit, ids, self.scores(distances), distances))  # type: ignore[arg-type]
        hits.stats = HitStats(strategy, None, visited, computed)
        return hits

    def scores(self, distances: list[float]) -> list[float]:
        """Of hits by vector alone."""
        if self._store.settings["metric"] == "l2":
            return [-distance for distance in distances]
        return [1 - distance for distance in distances]

    def _refilled(
        self,
        connection: sqlite3.Connection,
        request: SearchRequest,
        search: Callable[[sqlite3.Connection, SearchRequest], Hits],
        hits: Hits,
    ) -> Hits:
        """Search for more in place of hits whose records are gone, until there are k or no more."""
        vanished = 0
        while len(hits) < request.k and hits.stats.vanished > vanished:
            vanished = hits.stats.vanished
            hits = search(connection, request._replace(k=request.k + 2 * vanished))
        name = self._store.database.name
        log.warning("%s: %d records that a search met are gone: see Collection.check()", name, hits.stats.vanished)
        del hits[request.k :]
        return hits

    def _by_vector(self, connection: sqlite3.Connection, request: SearchRequest) -> Hits:
        rows, distances, stats = self.nearest(connection, request, request.k)
        return self.hits(connection, request, rows, self.scores(distances), distances, stats)

    def _by_text(self, connection: sqlite3.Connection, request: SearchRequest) -> Hits:
        found = self._matching(connection, request, request.k)
        rows = np.array([row for row, _ in found], np.int64)
        scores = [score for _, score in found]
        return self.hits(connection, request, rows, scores, [None] * len(rows), HitStats("text", None, 0, 0))

    def _by_both(self, connection: sqlite3.Connection, request: SearchRequest) -> Hits:
        k = max(request.k, MIN_FUSED)
        nearest, distances, stats = self.nearest(connection, request, k)
        near = nearest.tolist()
        matching = [row for row, _ in self._matching(connection, request, k)]
        best = reciprocal_rank((near, matching), request.weights)[: request.k]
        known = dict(zip(near, distances, strict=True))
        known.update(self.distances_of(request, [row for row, _ in best if row not in known]))
        return self.hits(
            connection,
            request,
            np.array([row for row, _ in best], np.int64),
            [score for _, score in best],
            [known.get(row) for row, _ in best],
            stats._replace(strategy=f"{stats.strategy} + text"),
        )

    def _matching(self, connection: sqlite3.Connection, request: SearchRequest, k: int) -> list[tuple[int, float]]:
        store = self._store
        return fulltext.search(
            connection, request.text or "", k, request.condition, self._ranking, store.version, store.recent_writes
        )

    def nearest(
        self, connection: sqlite3.Connection, request: SearchRequest, k: int
    ) -> tuple[RowIds, list[float], HitStats]:
        """Rows, nearest first, their distances, and how they were found."""
        index, behind = self._store.graph.index, self._store.graph.behind
        if index is None:
            return np.empty(0, np.int64), [], HitStats("exact", 0, 0, 0)
        if behind is not None:
            self._store.follower.wake()
        allowed, count = None, None
        if request.condition != EVERYTHING:  # in a request of another process it is another one
            allowed, count = self._filters.get(
                connection, self._store.version, request.condition, self._store.recent_writes
            )
        searches = self._searches(index)
        context = searches.context
        _, _, _, ef, exact, recall, _, _, _ = request
        if behind is None:  # as nearest() has it: most searches, and a call less
            found = index.search(request.vector, k, ef=ef, filter=allowed, exact=exact, recall=recall, context=context)
        else:
            found = nearest(
                index, behind, request.vector, k, allowed=allowed, ef=ef, exact=exact, recall=recall, context=context
            )
        strategy, visited, computed = context.cost()
        self._idle.append(searches)
        return found.ids, found.distances.tolist(), HitStats(strategy, count, visited, computed)

    def distances_of(self, request: SearchRequest, rows: list[int]) -> dict[int, float]:
        """The distances of rows that only the text search has found."""
        index, behind = self._store.graph.index, self._store.graph.behind
        if not rows or index is None:
            return {}
        found = nearest(index, behind, request.vector, len(rows), allowed=np.array(rows, np.int64), exact=True)
        return dict(zip(found.ids.tolist(), found.distances.tolist(), strict=True))

    def _searches(self, index: Index) -> SingleSearches:
        """Free ones of this index, or new ones."""
        while self._idle:
            try:
                searches = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if searches.index is index:
                return searches
        return SingleSearches(index)

    def hits(
        self,
        connection: sqlite3.Connection,
        request: SearchRequest,
        found: RowIds,
        scores: Sequence[float],
        distances: Sequence[float | None],
        stats: HitStats,
    ) -> Hits:
        """Hits with what the request includes, without those whose records are gone."""
        rows, metadata, documents = found.tolist(), "metadata" in request.include, "document" in request.include
        if not (metadata or documents) and self._store.version is not None:
            ids = self._store.graph.ids_of(connection, found)
            made = [*map(Hit, ids, scores, distances)]  # type: ignore[arg-type]
            if None in ids:
                made = [hit for hit in made if hit.id is not None]
        else:
            known, made = records.read_hits(connection, rows, metadata=metadata, documents=documents), []
            for row, score, distance in zip(rows, scores, distances, strict=True):
                if row in known:
                    id, fields, document = known[row]
                    made.append(Hit(id, score, distance, fields, document))
        hits = Hits(made)
        hits.stats = stats
        if len(made) < len(rows):
            self._store.graph.forget_ids()
            hits.stats = stats._replace(vanished=len(rows) - len(made))
        return hits


_RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""


def reciprocal_rank(rankings: Sequence[Iterable[int]], weights: Sequence[float]) -> list[tuple[int, float]]:
    """(row, score), best first: the sum of weight / (60 + rank) over the rankings that a row is in."""
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, row in enumerate(ranking, 1):
            scores[row] = scores.get(row, 0.0) + weight / (_RRF_K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
