"""One ranking out of several: reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["reciprocal_rank"]

_K = 60


def reciprocal_rank(rankings: Sequence[Iterable[int]], weights: Sequence[float]) -> list[tuple[int, float]]:
    """(row, score), best first: the sum of weight / (60 + rank) over the rankings that a row is in."""
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, row in enumerate(ranking, 1):
            scores[row] = scores.get(row, 0.0) + weight / (_K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
