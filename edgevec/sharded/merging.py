"""The nearest of what several shards found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .._types import SearchResult

__all__ = ["merge"]

_AT_ONCE = 1 << 16
"""Neighbors that are sorted together, beside those of one part."""


def merge(parts: Iterable[SearchResult], k: int) -> SearchResult:
    """The k nearest of the results for the same queries, by (distance, id).

    Args:
        parts: at least one; of one query [found], or of a batch [n, columns] with padding

    Returns:
        [min(k, found)], or [n, min(k, columns of all)], in which padding comes last. Of large parts memory holds
        two, and their sum.
    """
    waiting: list[SearchResult] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += part.ids.size
        if size > _AT_ONCE and len(waiting) > 1:
            waiting = [_nearest(waiting, k)]
            size = waiting[0].ids.size
    return _nearest(waiting, k) if len(waiting) > 1 else waiting[0]


def _nearest(parts: Sequence[SearchResult], k: int) -> SearchResult:
    ids = np.concatenate([part.ids for part in parts], axis=-1)
    distances = np.concatenate([part.distances for part in parts], axis=-1)
    order = np.lexsort((ids, distances), axis=-1)[..., :k]
    return SearchResult(np.take_along_axis(ids, order, -1), np.take_along_axis(distances, order, -1))
