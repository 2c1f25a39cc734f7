"""Makes the queries for the load generator and the comparison, with their true answers by exact search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgevec
from edgevec import evaluation
from edgevec.file_kind import require

from .backends.base import SearchBackend
from .models import Data, FilterResult, Floats, Progress, Queries, QuerySpec

__all__ = ["DEPTH", "make"]

DEPTH = 100
"""True neighbors found for each query: the largest k whose recall can be shown."""

_QUERIES_PER_CHECK = 50
"""Queries between two calls of progress."""

_MOST_READ, _FEWEST = 20_000_000_000, 20
"""Bytes read from a file to find the truth, from which follows how many queries there are; but at least so many."""


def make(
    data: Data,
    backend: SearchBackend,
    source: str,
    progress: Progress,
    *,
    filter_result: FilterResult | None,
    count: int = 500,
) -> Queries | None:
    """Make `count` queries from `source`: "rows" (random ones), "test set" or the path of a file.

    Fewer where each truth means to read a large file.
    None when progress returned False. The random rows are the same each time, whatever the filter.
    """
    if backend.whole_scan:
        count = min(count, max(_FEWEST, _MOST_READ // backend.whole_scan))
    if not len(backend):
        raise edgevec.ParameterError("the index is empty: there is nothing to ask for")
    if filter_result is not None and not filter_result.rows:
        raise edgevec.ParameterError("nothing passes the filter: there is nothing to find")
    own = np.full(count, None, object) if data.collection else np.full(count, -1, np.int64)
    if source == "rows":
        own = np.random.default_rng(0).permutation(backend.ids())[:count]
        vectors, name = _stored(data, backend, own), "random rows"
    elif source == "test set":
        if data.queries is None:
            raise edgevec.ParameterError(f"{data.name} comes without a test set; use random rows or a file")
        vectors, name = data.queries[:count], "the test set"
    else:
        require(source, "vectors")
        vectors = edgevec.read_vectors(source, limit=count).vectors
        name = Path(source).name
    if vectors.shape[1] != backend.dim:
        raise edgevec.ParameterError(
            f"{name}: queries of {vectors.shape[1]} dimensions cannot be asked of an index of {backend.dim}"
        )
    found = _truth(data, backend, vectors, filter_result, progress)
    if found is None:
        return None
    metric, known = backend.settings.metric, None if data.vectors is None else data
    return Queries(vectors, *found, own[: len(vectors)], name, metric, filter_result, known)


def _stored(data: Data, backend: SearchBackend, ids: NDArray[Any]) -> Floats:
    if data.vectors is None:
        return np.stack([backend.vector(id) for id in ids.tolist()])
    rows: Floats = data.vectors[data.rows_of(ids)]
    return rows


def _truth(
    data: Data, backend: SearchBackend, vectors: Floats, filter_result: FilterResult | None, progress: Progress
) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """The nearest rows that pass the filter, and their distances: by NumPy if the vectors are in memory, else by exact
    search."""
    blocks, far = [], []
    ids, rows, metric = data.ids, data.vectors, backend.settings.metric
    if rows is not None and filter_result is not None:
        ids = np.asarray(filter_result.selection)
        rows = rows[data.rows_of(ids)]
    for start in range(0, len(vectors), _QUERIES_PER_CHECK):
        if not progress(start, len(vectors)):
            return None
        block = vectors[start : start + _QUERIES_PER_CHECK]
        if rows is None:
            answers = []
            for at, row in enumerate(block, start):  # each may take long
                if not progress(at, len(vectors)):
                    return None
                answers.append(backend.search(QuerySpec(row), DEPTH, ef=DEPTH, filter_result=filter_result, exact=True))
            blocks += [answer.ids for answer in answers]
            far += [np.asarray(answer.distances, np.float64) for answer in answers]
        else:
            nearest = evaluation.exact_neighbors(rows, block, min(DEPTH, len(ids)), metric)
            blocks += list(ids[nearest])
            far += list(evaluation.distances(rows, block, nearest, metric))
    return _padded(blocks, None if data.collection else -1), _padded(far, np.inf)


def _padded(rows: list[Any], padding: Any) -> NDArray[Any]:
    """One array, padded where a collection changed between two searches."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), padding, rows[0].dtype)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return padded
