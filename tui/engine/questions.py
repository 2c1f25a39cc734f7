"""Queries for the load generator and the comparison, and their true answers by exact search."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edgevec
from edgevec import measure

from ..model import Data, Floats, Ids, Queries
from ..protocols import Progress, Searcher

__all__ = ["DEPTH", "make"]

DEPTH = 100
"""True neighbours known of each query: so many may be asked for with recall shown."""

_AT_ONCE = 50
"""Queries between two looks at whether to go on."""


def make(data: Data, searcher: Searcher, source: str, progress: Progress, *, count: int) -> Queries | None:
    """None when progress said stop. The rows drawn are the same each time."""
    own = np.full(count, -1, np.int64)
    if source == "rows":
        own = np.random.default_rng(0).permutation(searcher.ids())[:count]
        if not len(own):
            raise edgevec.ParameterError("the index is empty: there is nothing to ask for")
        vectors, name = _stored(data, searcher, own), "random rows"
    elif source == "test set":
        if data.queries is None:
            raise edgevec.ParameterError(f"{data.name} comes without a test set; use random rows or a file")
        vectors, name = data.queries[:count], "the test set"
    else:
        vectors = edgevec.read_vectors(source, limit=count).vectors
        name = Path(source).name
    if vectors.shape[1] != searcher.dim:
        raise edgevec.ParameterError(
            f"{name}: queries of {vectors.shape[1]} dimensions cannot be asked of an index of {searcher.dim}"
        )
    truth = _truth(data, searcher, vectors, progress)
    return None if truth is None else Queries(vectors, truth, own[: len(vectors)], name)


def _stored(data: Data, searcher: Searcher, ids: Ids) -> Floats:
    if data.vectors is None:
        return np.stack([searcher.vector(id) for id in ids.tolist()])
    rows: Floats = data.vectors[data.rows_of(ids)]
    return rows


def _truth(data: Data, searcher: Searcher, vectors: Floats, progress: Progress) -> Ids | None:
    blocks = []
    for start in range(0, len(vectors), _AT_ONCE):
        if not progress(start, len(vectors)):
            return None
        block = vectors[start : start + _AT_ONCE]
        if data.vectors is None:
            found = [searcher.search(row, DEPTH, ef=DEPTH, allowed=None, exact=True).ids for row in block]
            blocks.append(np.stack(found))
        else:
            rows = measure.exact_neighbors(data.vectors, block, min(DEPTH, len(data)), searcher.settings.metric)
            blocks.append(data.ids[rows])
    return np.concatenate(blocks)
