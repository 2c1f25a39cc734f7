"""The nearest of what several shards found."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .._types import SearchResult

__all__ = ["merge"]


def merge(parts: Iterable[SearchResult], k: int) -> SearchResult:
    """The k nearest of the results for the same queries, by (distance, id).

    Args:
        parts: at least one; of one query [found], or of a batch [n, columns] with padding

    Returns:
        [min(k, found)], or [n, min(k, columns of all)], in which padding comes last. Beside the parts memory holds
        twice as much at most.
    """
    best: SearchResult | None = None
    for part in parts:
        best = part if best is None else _merged(best, part, k)
    assert best is not None
    return best


def _merged(one: SearchResult, other: SearchResult, k: int) -> SearchResult:
    ids = np.concatenate([one.ids, other.ids], axis=-1)
    distances = np.concatenate([one.distances, other.distances], axis=-1)
    order = np.lexsort((ids, distances), axis=-1)[..., :k]
    return SearchResult(np.take_along_axis(ids, order, -1), np.take_along_axis(distances, order, -1))
