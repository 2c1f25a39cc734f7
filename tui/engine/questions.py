"""Queries for the load generator and the comparison, and their true answers by exact search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgevec
from edgevec import measure
from edgevec.file_kind import require

from ..model import Allowed, Data, Floats, Queries, Question
from ..protocols import Progress, Searcher

__all__ = ["DEPTH", "make"]

DEPTH = 100
"""True neighbours known of each query: so many may be asked for with recall shown."""

_AT_ONCE = 50
"""Queries between two looks at whether to go on."""


def make(
    data: Data, searcher: Searcher, source: str, progress: Progress, *, allowed: Allowed | None, count: int
) -> Queries | None:
    """None when progress said stop. The rows drawn are the same each time, whatever the filter."""
    if not len(searcher):
        raise edgevec.ParameterError("the index is empty: there is nothing to ask for")
    if allowed is not None and not allowed.rows:
        raise edgevec.ParameterError("nothing passes the filter: there is nothing to find")
    own = np.full(count, None, object) if data.collection else np.full(count, -1, np.int64)
    if source == "rows":
        own = np.random.default_rng(0).permutation(searcher.ids())[:count]
        vectors, name = _stored(data, searcher, own), "random rows"
    elif source == "test set":
        if data.queries is None:
            raise edgevec.ParameterError(f"{data.name} comes without a test set; use random rows or a file")
        vectors, name = data.queries[:count], "the test set"
    else:
        require(source, "vectors")
        vectors = edgevec.read_vectors(source, limit=count).vectors
        name = Path(source).name
    if vectors.shape[1] != searcher.dim:
        raise edgevec.ParameterError(
            f"{name}: queries of {vectors.shape[1]} dimensions cannot be asked of an index of {searcher.dim}"
        )
    truth = _truth(data, searcher, vectors, allowed, progress)
    return None if truth is None else Queries(vectors, truth, own[: len(vectors)], name, allowed)


def _stored(data: Data, searcher: Searcher, ids: NDArray[Any]) -> Floats:
    if data.vectors is None:
        return np.stack([searcher.vector(id) for id in ids.tolist()])
    rows: Floats = data.vectors[data.rows_of(ids)]
    return rows


def _truth(
    data: Data, searcher: Searcher, vectors: Floats, allowed: Allowed | None, progress: Progress
) -> NDArray[Any] | None:
    """The nearest of all rows that are allowed: by NumPy where the vectors are at hand, else by exact search."""
    blocks = []
    ids, rows = data.ids, data.vectors
    if rows is not None and allowed is not None:
        ids = np.asarray(allowed.by)
        rows = rows[data.rows_of(ids)]
    for start in range(0, len(vectors), _AT_ONCE):
        if not progress(start, len(vectors)):
            return None
        block = vectors[start : start + _AT_ONCE]
        if rows is None:
            blocks += [
                searcher.search(Question(row), DEPTH, ef=DEPTH, allowed=allowed, exact=True).ids for row in block
            ]
        else:
            blocks += list(ids[measure.exact_neighbors(rows, block, min(DEPTH, len(ids)), searcher.settings.metric)])
    return _level(blocks)


def _level(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """One array, padded where a collection changed between two searches."""
    level = np.full((len(rows), max(map(len, rows), default=0)), None if rows[0].dtype == object else -1, rows[0].dtype)
    for at, row in enumerate(rows):
        level[at, : len(row)] = row
    return level
