"""Search by vector, by text, or by both, among the records that a condition allows."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._validation import as_array, as_int, as_rows, length_of_rows
from ..encoders import TextEncoder
from ..errors import NotFiniteError, ParameterError, ZeroVectorError
from ..index import IdFilter, Index
from ..single_search import SingleSearches
from . import encoding, fulltext, records
from .behind import nearest, nearest_of_many
from .filters import Filters
from .hits import Hit, Hits, HitStats, Included
from .ranking import Ranking
from .records import HitFields, RowIds
from .sqlite_errors import translate
from .store import Store
from .validation import are_valid
from .where import EVERYTHING, Condition, Where, compile_where

__all__ = [
    "ALL",
    "EQUAL",
    "MIN_FUSED",
    "SearchExecutor",
    "SearchRequest",
    "as_request",
    "as_requests",
    "reciprocal_rank",
]

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


def as_requests(
    store: Store,
    encoder: TextEncoder | None,
    vectors: Any,
    k: int,
    *,
    texts: Any,
    where: Where | None,
    params: Sequence[Any] | None,
    ef: int | None,
    exact: bool,
    recall: float | None,
    weights: tuple[float, float],
    include: Sequence[Included],
) -> list[SearchRequest]:
    """The arguments of Collection.search_many(), checked: one request a query, alike but for vector and text."""
    as_int(k, "k", 1)
    if vectors is None and texts is None:
        raise ParameterError("give vectors or texts to search for")
    if texts is not None:
        texts = _as_texts(texts, "texts")
    by_vector, by_text = _as_weights(weights)
    common = SearchRequest(
        None, None, k, ef, exact, recall, compile_where(where, params), (by_vector, by_text), _as_included(include)
    )
    if texts is not None and vectors is None and encoder is not None and by_vector:
        vectors = texts
    if vectors is not None:
        vectors = _as_queries(store, encoder, vectors)
    if vectors is not None and texts is not None:
        if len(vectors) != len(texts):
            raise ParameterError(f"{len(vectors)} vectors but {len(texts)} texts")
        vectors, texts = vectors if by_vector else None, texts if by_text else None
    count = len(texts if vectors is None else vectors)
    return [
        common._replace(vector=vector, text=text)
        for vector, text in zip(
            [None] * count if vectors is None else vectors, [None] * count if texts is None else texts, strict=True
        )
    ]


def _as_texts(texts: Any, what: str) -> list[str]:
    if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
        raise ParameterError(f"{what} must be a sequence of strings, not {type(texts).__name__}")
    made = list(texts)
    for at, text in enumerate(made):
        if not isinstance(text, str):
            raise ParameterError(f"query {at}: the text must be a string, not {type(text).__name__}")
    return made


def _as_queries(store: Store, encoder: TextEncoder | None, vectors: Any) -> NDArray[np.float32]:
    """float32[n, dim], each a vector that the index takes."""
    if isinstance(vectors, str):
        raise ParameterError("vectors must be [n, dim] or a sequence of texts, not str")
    if isinstance(vectors, (list, tuple, np.ndarray)) and any(isinstance(vector, str) for vector in vectors):
        return encoding.queries(store, encoder, _as_texts(vectors, "vectors"))
    rows = as_array(vectors, "vectors")
    dim = store.dim or length_of_rows(rows) or (rows.shape[-1] if rows.ndim else 0)
    rows = as_rows(vectors, dim, "vectors")
    if rows.ndim != 2:
        raise ParameterError(f"vectors must be [n, {dim}], one query a row; search() takes a single one")
    valid = are_valid(rows, store.metric)
    if not valid.all():
        at = int(np.flatnonzero(~valid)[0])
        if rows[at].any():
            raise NotFiniteError(f"query {at}: NaN, infinity or too long a vector")
        raise ZeroVectorError(f"query {at}: a zero vector has no direction")
    return rows


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


class _Found(NamedTuple):
    """What a query has found, best first, before its records are read."""

    rows: RowIds
    scores: list[float]
    distances: Sequence[float | None]
    stats: HitStats


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
            error: BaseException | None = None
            try:
                search = self._search_of(request)
                hits = search(connection, request)
                return self._refilled(connection, request, search, hits) if hits.stats.vanished else hits
            except BaseException as raised:
                error = raised
                raise
            finally:
                store.end_read(connection, release, error)
                error = None
        except Exception as error:
            translate(error, store.database.name)
            raise

    def _search_of(self, request: SearchRequest) -> Callable[[sqlite3.Connection, SearchRequest], Hits]:
        if request.text is None:
            return self._by_vector
        return self._by_text if request.vector is None else self._by_both

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
        return self.hits(connection, request, *self._found_by_text(connection, request))

    def _by_both(self, connection: sqlite3.Connection, request: SearchRequest) -> Hits:
        found = self.nearest(connection, request, max(request.k, MIN_FUSED))
        return self.hits(connection, request, *self._fused(connection, request, *found))

    def _found_by_text(self, connection: sqlite3.Connection, request: SearchRequest) -> _Found:
        found = self._matching(connection, request, request.k)
        rows = np.array([row for row, _ in found], np.int64)
        return _Found(rows, [score for _, score in found], [None] * len(rows), HitStats("text", None, 0, 0))

    def _fused(
        self,
        connection: sqlite3.Connection,
        request: SearchRequest,
        nearest: RowIds,
        distances: list[float],
        stats: HitStats,
    ) -> _Found:
        """What is nearest, fused with what holds the words."""
        near = nearest.tolist()
        matching = [row for row, _ in self._matching(connection, request, max(request.k, MIN_FUSED))]
        best = reciprocal_rank((near, matching), request.weights)[: request.k]
        known = dict(zip(near, distances, strict=True))
        known.update(self.distances_of(request, [row for row, _ in best if row not in known]))
        return _Found(
            np.array([row for row, _ in best], np.int64),
            [score for _, score in best],
            [known.get(row) for row, _ in best],
            stats._replace(strategy=f"{stats.strategy} + text"),
        )

    def search_many(self, requests: list[SearchRequest]) -> list[Hits]:
        """Of each request its hits, all as of one state of the records. The requests are those of as_requests()."""
        store = self._store
        with store.read(graph=bool(requests) and requests[0].vector is not None) as connection:
            if not requests:
                return []
            found = self._found_of_many(connection, requests)
            rows = np.unique(np.concatenate([each.rows for each in found]))
            known = self._known(connection, requests[0].include, rows)
            given: set[int] = set()
            answers = [_hits_of(known, each, given) for each in found]
            if any(hits.stats.vanished for hits in answers):
                store.graph.forget_ids()
            for at, hits in enumerate(answers):
                if hits.stats.vanished:
                    answers[at] = self._refilled(connection, requests[at], self._search_of(requests[at]), hits)
            return answers

    def _found_of_many(self, connection: sqlite3.Connection, requests: list[SearchRequest]) -> list[_Found]:
        first = requests[0]
        if first.vector is None:
            return [self._found_by_text(connection, request) for request in requests]
        k = first.k if first.text is None else max(first.k, MIN_FUSED)
        near = self._nearest_of_many(connection, requests, k)
        if first.text is not None:
            return [self._fused(connection, request, *each) for request, each in zip(requests, near, strict=True)]
        return [_Found(rows, self.scores(distances), distances, stats) for rows, distances, stats in near]

    def _nearest_of_many(
        self, connection: sqlite3.Connection, requests: list[SearchRequest], k: int
    ) -> list[tuple[RowIds, list[float], HitStats]]:
        """As nearest() of each."""
        index, behind = self._store.graph.index, self._store.graph.behind
        if index is None:
            return [(np.empty(0, np.int64), [], HitStats("exact", 0, 0, 0))] * len(requests)
        if behind is not None:
            self._store.follower.wake()
        first = requests[0]
        allowed, count = self._allowed(connection, first)
        queries = np.stack([request.vector for request in requests])
        found = nearest_of_many(
            index, behind, queries, k, allowed=allowed, ef=first.ef, exact=first.exact, recall=first.recall
        )
        stats = HitStats("batch", count, 0, 0)
        return [(each.ids, each.distances.tolist(), stats) for each in found]

    def _allowed(self, connection: sqlite3.Connection, request: SearchRequest) -> tuple[IdFilter | None, int | None]:
        """The filter of the condition, and how many records it allows."""
        if request.condition == EVERYTHING:  # in a request of another process it is another object
            return None, None
        store = self._store
        return self._filters.get(connection, store.version, request.condition, store.recent_writes)

    def _known(
        self, connection: sqlite3.Connection, include: tuple[Included, ...], rows: RowIds
    ) -> dict[int, HitFields]:
        """What hits show of each row whose record is there."""
        wanted = rows.tolist()
        if include or self._store.version is None:
            return records.read_hits(
                connection, wanted, metadata="metadata" in include, documents="document" in include
            )
        ids = self._store.graph.ids_of(connection, rows)
        return {row: (id, {}, None) for row, id in zip(wanted, ids, strict=True) if id is not None}

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
        allowed, count = self._allowed(connection, request)
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


def _hits_of(known: Mapping[int, HitFields], found: _Found, given: set[int]) -> Hits:
    """Hits of one query among several. given: rows whose metadata an earlier hit holds, which gets no second owner."""
    hits, rows = Hits(), found.rows.tolist()
    for row, score, distance in zip(rows, found.scores, found.distances, strict=True):
        if row in known:
            id, fields, document = known[row]
            hits.append(Hit(id, score, distance, deepcopy(fields) if row in given else fields, document))
            given.add(row)
    hits.stats = found.stats._replace(vanished=len(rows) - len(hits))
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
