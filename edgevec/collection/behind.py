"""The vectors that a reader's graph has yet to take in: until then, searches compare with each of them.

Another process writes; to insert what it wrote before the next answer would hold that up by a third of a millisecond a
vector. So the rows that have changed leave the graph, which is quick, and their vectors lie beside it. A thread lets
the graph follow (following.py). It puts rows into the graph before it takes them away from here, and a search looks
here first: it may meet a row twice, and never misses one.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import NotFiniteError, ZeroVectorError
from ..index import IdFilter, Index, SearchContext, SearchResult
from ..staging import Stage
from .records import RowIds
from .validation import are_valid

__all__ = ["Behind", "add", "nearest", "nearest_of_many"]

log = logging.getLogger("edgevec")

_MAX_ROWS, _MAX_BYTES, _MAX_SHARE = 2**18, 2**29, 8
"""That lie beside the graph, the bytes of their vectors, and how many for each vector in the graph. Comparing with that
many takes tens of milliseconds a search, for as long as the graph follows; to insert them first would take minutes."""
_BYTES_A_NUMBER = 8
"""Of a vector, with links, and with the room for more that its part has."""
_ROWS_PER_PART = 1024
"""Few enough that adding one does not take long, and so many that a search has few parts to look at."""


class Behind:
    """Vectors by row, in indexes that are only scanned. One thread at a time changes it, while others search."""

    def __init__(self, graph: Index) -> None:
        self._graph = graph
        self._parts: tuple[Index, ...] = ()
        """The oldest first, none of them empty."""

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def nbytes(self) -> int:
        return sum(part.memory_usage()["total"] for part in self._parts)

    def rows(self) -> RowIds:
        return np.fromiter((row for part in self._parts for row in part), np.int64)

    def may_take(self, more: int) -> bool:
        """Whether so many more may lie here. A graph that hardly holds anything is built first."""
        most = min(_MAX_ROWS, _MAX_BYTES // (4 * self._graph.dim), _MAX_SHARE * len(self._graph))
        fit = len(self) + more <= most
        return fit and self._is_within_limit(more)

    def _is_within_limit(self, more: int) -> bool:
        """What lies here counts to the limit of the graph."""
        limit = self._graph.memory_limit
        return limit is None or (
            self._graph.memory_usage()["held"] + self.nbytes + more * self._graph.dim * _BYTES_A_NUMBER <= limit
        )

    def put(self, rows: RowIds, vectors: NDArray[np.float32]) -> None:
        """Rows that are not here yet, and their vectors, float32[n, dim]."""
        while len(rows):
            if not self._parts or len(self._parts[-1]) >= _ROWS_PER_PART:
                part = Index(self._graph.dim, self._graph.metric, quantization="none", M=2, ef_construction=1)
                self._parts = (*self._parts, part)
            part = self._parts[-1]
            room = _ROWS_PER_PART - len(part)
            add(part, rows[:room], vectors[:room], threads=1)
            rows, vectors = rows[room:], vectors[room:]
        self._drop_empty()

    def remove(self, rows: RowIds) -> None:
        """Those of the rows that are here."""
        for part in self._parts:
            part.remove(rows)
        self._drop_empty()

    def oldest(self, count: int) -> RowIds:
        """Up to so many rows, of those that have been here for longest."""
        return np.fromiter(islice(self._parts[0], count) if self._parts else (), np.int64)

    def search(self, query: Any, k: int, allowed: IdFilter | RowIds | None) -> list[SearchResult]:
        """Of each part the k nearest."""
        return [part.search(query, k, filter=allowed, exact=True) for part in self._parts]

    def _drop_empty(self) -> None:
        self._parts = tuple(part for part in self._parts if len(part))


def add(index: Index | Stage, rows: RowIds, vectors: NDArray[np.float32], **how: Any) -> RowIds:
    """Add vectors to an index; the rows that it holds now: all but those whose vector is not valid."""
    if not len(rows):
        return rows
    try:
        index.add(vectors, rows, **how)
    except (NotFiniteError, ZeroVectorError):  # nothing was added
        sound = are_valid(vectors, index.metric)
        wrong = len(rows) - int(sound.sum())
        log.warning("%d stored vectors that are not finite, or zero, are left out (see Collection.check())", wrong)
        return add(index, rows[sound], vectors[sound], **how)
    return rows


def nearest(
    index: Index,
    behind: Behind | None,
    query: Any,
    k: int,
    *,
    allowed: IdFilter | RowIds | None = None,
    ef: int | None = None,
    exact: bool = False,
    recall: float | None = None,
    context: SearchContext | None = None,
) -> SearchResult:
    """The k nearest rows in the graph and beside it, as Index.search returns them."""
    # In this order: a row goes from the one to the other.
    late, held = [] if behind is None else behind.search(query, k, allowed), -1
    found = None
    # All that there was, and there is more by now: some of what was not there may have been here.
    while found is None or (late and held <= len(found.ids) < k and held < len(index)):
        held = len(index)
        found = index.search(query, k, ef=ef, filter=allowed, exact=exact, recall=recall, context=context)
    return _merged(late, found, k)


def _merged(late: list[SearchResult], found: SearchResult, k: int) -> SearchResult:
    """The k nearest of one query, of what lies beside the graph and in it; where both have a row, as it is beside."""
    if not any(len(part.ids) for part in late):
        return found
    rows = np.concatenate([part.ids for part in late])
    stays = ~np.isin(found.ids, rows)
    rows = np.concatenate([rows, found.ids[stays]])
    distances = np.concatenate([*(part.distances for part in late), found.distances[stays]])
    order = np.lexsort((rows, distances))[:k]
    return SearchResult(rows[order], distances[order])


def nearest_of_many(
    index: Index,
    behind: Behind | None,
    queries: NDArray[np.float32],
    k: int,
    *,
    allowed: IdFilter | RowIds | None,
    ef: int | None,
    exact: bool,
    recall: float | None,
) -> list[SearchResult]:
    """As nearest(), of each of the queries [n, dim], which the graph and each part beside it answer as one batch."""
    late, held = [] if behind is None else behind.search(queries, k, allowed), -1
    found = None
    while found is None or (late and held <= found.ids.shape[1] < k and held < len(index)):  # as in nearest()
        held = len(index)
        found = index.search(queries, k, ef=ef, filter=allowed, exact=exact, recall=recall)
    beside = [_of_each(part) for part in late]
    return [_merged([part[at] for part in beside], each, k) for at, each in enumerate(_of_each(found))]


def _of_each(found: SearchResult) -> list[SearchResult]:
    """The results of a batch by query, without what fills up the rows of those that found less."""
    counts = np.count_nonzero(found.ids >= 0, axis=1).tolist()
    return [
        SearchResult(ids[:count], distances[:count])
        for ids, distances, count in zip(found.ids, found.distances, counts, strict=True)
    ]
