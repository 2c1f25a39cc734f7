"""One search of shards: what each finds, merged before it is fused, so that ranks are those among all records.

A record is known by one number: its shard, and its row there. In the order of these numbers records were imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..collection import Hit, Hits, HitStats
from ..collection.fulltext import words_of
from ..collection.part_ranking import TextStats
from ..collection.parts import Part
from ..collection.search import MIN_FUSED, SearchRequest, reciprocal_rank
from ..collection.where import EVERYTHING
from ..sharded.searching import Helpers

__all__ = ["SearchParts"]

_BITS = 32
"""Of a row: shards have fewer records."""
_LEAST = 2e-3
"""Seconds that one shard must take before others are asked by other threads: of less, too much goes on in Python."""
Numbers = npt.NDArray[np.int64]
_Answer = TypeVar("_Answer")


class SearchParts:
    """One search.

    Args:
        helpers, threads: to ask several shards at a time
    """

    def __init__(self, parts: Sequence[Part], request: SearchRequest, helpers: Helpers, threads: int) -> None:
        self._parts, self._request, self._helpers, self._threads = parts, request, helpers, threads

    def hits(self) -> Hits:
        """The best, as of one collection with all records."""
        request = self._request
        if request.text is None:
            return self._by_vector()
        if request.vector is None:
            return self._by_text()
        return self._by_both()

    def _by_vector(self) -> Hits:
        numbers, distances, stats = self._nearest(self._request.k)
        return self._hits(numbers, self._parts[0].scores(distances), distances, stats)

    def _by_text(self) -> Hits:
        numbers, scores = self._matching(self._request.k)
        return self._hits(numbers, scores, [None] * len(scores), HitStats("text", None, 0, 0))

    def _by_both(self) -> Hits:
        k = max(self._request.k, MIN_FUSED)
        nearest, distances, stats = self._nearest(k)
        near = nearest.tolist()
        matching, _ = self._matching(k)
        best = reciprocal_rank((near, matching.tolist()), self._request.weights)[: self._request.k]
        known = dict(zip(near, distances, strict=True))
        known.update(self._distances([number for number, _ in best if number not in known]))
        return self._hits(
            np.array([number for number, _ in best], np.int64),
            [score for _, score in best],
            [known.get(number) for number, _ in best],
            stats._replace(strategy=f"{stats.strategy} + text"),
        )

    def _ask(self, what: str, call: Callable[[Part], _Answer]) -> list[_Answer]:
        """What each shard answers. Words are looked up in Python and SQLite, where threads wait for each other."""
        kind = what, self._request.exact, self._request.condition is not EVERYTHING
        threads = self._threads or (0 if what == "vector" else 1)
        return self._helpers.ask(call, self._parts, threads, kind, _LEAST)

    def _nearest(self, k: int) -> tuple[Numbers, list[float], HitStats]:
        found = self._ask("vector", lambda part: part.nearest(self._request, k))
        numbers = _numbers([rows for rows, _, _ in found])
        distances = np.concatenate([np.array(each, np.float64) for _, each, _ in found])
        order = np.lexsort((numbers, distances))[:k]
        return numbers[order], distances[order].tolist(), _together([stats for _, _, stats in found])

    def _matching(self, k: int) -> tuple[Numbers, list[float]]:
        words = words_of(self._request.text or "")
        if not words:
            return np.empty(0, np.int64), []
        every = TextStats.of_all(self._ask("words", lambda part: part.text_stats(words)))
        found = self._ask("text", lambda part: part.matching(self._request, words, every, k))
        numbers = _numbers([rows for rows, _ in found])
        scores = np.concatenate([np.array(each, np.float64) for _, each in found])
        order = np.lexsort((numbers, -scores))[:k]
        return numbers[order], scores[order].tolist()

    def _distances(self, numbers: Sequence[int]) -> dict[int, float]:
        """Of records that only the words have found."""
        known: dict[int, float] = {}
        for at, part in enumerate(self._parts):
            rows = [number - (at << _BITS) for number in numbers if number >> _BITS == at]
            if rows:
                found = part.distances_of(self._request, rows)
                known.update({(at << _BITS) + row: distance for row, distance in found.items()})
        return known

    def _hits(
        self, numbers: Numbers, scores: Sequence[float], distances: Sequence[float | None], stats: HitStats
    ) -> Hits:
        made: list[Hit | None] = [None] * len(numbers)
        shards, rows = numbers >> _BITS, numbers & ((1 << _BITS) - 1)
        for at in np.unique(shards).tolist():
            places = np.flatnonzero(shards == at)
            few = places.tolist()
            found = self._parts[at].hits(
                self._request, rows[places], [scores[place] for place in few], [distances[place] for place in few]
            )
            for place, hit in zip(few, found, strict=True):
                made[place] = hit
        hits = Hits(hit for hit in made if hit is not None)
        hits.stats = stats._replace(vanished=len(made) - len(hits))
        return hits


def _numbers(rows: Sequence[Numbers]) -> Numbers:
    return np.concatenate([each + (at << _BITS) for at, each in enumerate(rows)])


def _together(stats: Sequence[HitStats]) -> HitStats:
    strategies = dict.fromkeys(each.strategy for each in stats)
    allowed = [each.allowed for each in stats if each.allowed is not None]
    return HitStats(
        " / ".join(sorted(strategies)),
        sum(allowed) if allowed else None,
        sum(each.visited for each in stats),
        sum(each.distances for each in stats),
    )
