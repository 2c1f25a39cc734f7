"""One search of shards: what each finds, merged before it is fused, so that ranks are those among all records.

A record is known by one number: its shard, and its row there. In the order of these numbers records were imported.
A search asks in rounds: what is nearest, and what of the words is to be known of all shards; then whose documents
match; then for the records that were chosen. What is asked can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..collection import Hit, Hits, HitStats
from ..collection.fulltext import words_of
from ..collection.part_ranking import TextStats
from ..collection.parts import Part
from ..collection.search import MIN_FUSED, SearchRequest, reciprocal_rank
from ..sharded.searching import Helpers

__all__ = ["Found", "Here", "Question", "SearchParts", "Shards"]

_BITS = 32
"""Of a row: shards have fewer records."""
_LEAST = 2e-3
"""Seconds that one shard must take before others are asked by other threads: of less, too much goes on in Python."""
Numbers = npt.NDArray[np.int64]
Question = partial[Any]
"""question(part), what a shard is asked: of a method of Part, so that it can be sent."""
Found = dict[int, Any]
"""Answers by shard, in the order of the shards: of those that can be had."""


class Shards(Protocol):
    """Those of one manifest, each known by its place in there, and how to ask them."""

    def each(self, questions: Mapping[str, Question]) -> dict[str, Found]:
        """What all of them answer to each question, by its name; one round."""
        ...

    def some(self, questions: Mapping[int, Question]) -> Found:
        """What each of these answers to a question of its own; one round."""
        ...


class Here:
    """Shards that are open in this process.

    Args:
        parts: by place
        helpers, threads: to ask several at a time
        kind: of searches that take about as long
    """

    def __init__(
        self, parts: Mapping[int, Part], helpers: Helpers, threads: int = 0, kind: tuple[bool, ...] = ()
    ) -> None:
        self._parts, self._helpers, self._threads, self._kind = parts, helpers, threads, kind

    def each(self, questions: Mapping[str, Question]) -> dict[str, Found]:
        """Words are looked up in Python and SQLite, where threads wait for each other: by one of them."""
        found = {}
        for name, question in questions.items():
            threads = self._threads or (0 if name == NEAREST else 1)
            answers = self._helpers.ask(question, [*self._parts.values()], threads, (name, self._kind), _LEAST)
            found[name] = dict(zip(self._parts, answers, strict=True))
        return found

    def some(self, questions: Mapping[int, Question]) -> Found:
        return {at: question(self._parts[at]) for at, question in questions.items() if at in self._parts}


NEAREST, WORDS, MATCHING = "nearest", "words", "matching"
"""Names of questions."""


class SearchParts:
    """One search.

    Args:
        scores: scores(distances), those of hits by vector alone
    """

    def __init__(self, shards: Shards, request: SearchRequest, scores: Callable[[list[float]], list[float]]) -> None:
        self._shards, self._request, self._scores = shards, request, scores

    def hits(self) -> Hits:
        """The best, as of one collection with all records."""
        request = self._request
        fuses = request.text is not None and request.vector is not None
        k = max(request.k, MIN_FUSED) if fuses else request.k
        words = [] if request.text is None else words_of(request.text)
        first: dict[str, Question] = {}
        if request.vector is not None:
            first[NEAREST] = partial(Part.nearest, request=request, k=k)
        if words:
            first[WORDS] = partial(Part.text_stats, words=words)
        found = self._shards.each(first)
        if request.text is None:
            return self._by_vector(found)
        numbers, scores = self._matching(words, found.get(WORDS, {}), k)
        if not fuses:
            return self._hits(numbers, scores, [None] * len(scores), HitStats("text", None, 0, 0))
        return self._by_both(found, numbers, k)

    def _by_vector(self, found: Mapping[str, Found]) -> Hits:
        numbers, distances, stats = _nearest(found[NEAREST], self._request.k)
        return self._hits(numbers, self._scores(distances), distances, stats)

    def _by_both(self, found: Mapping[str, Found], matching: Numbers, k: int) -> Hits:
        nearest, distances, stats = _nearest(found[NEAREST], k)
        near = nearest.tolist()
        best = reciprocal_rank((near, matching.tolist()), self._request.weights)[: self._request.k]
        known = dict(zip(near, distances, strict=True))
        return self._hits(
            np.array([number for number, _ in best], np.int64),
            [score for _, score in best],
            [known.get(number) for number, _ in best],
            stats._replace(strategy=f"{stats.strategy} + text"),
        )

    def _matching(self, words: Sequence[str], stats: Found, k: int) -> tuple[Numbers, list[float]]:
        if not stats:
            return np.empty(0, np.int64), []
        every = TextStats.of_all([*stats.values()])
        question = partial(Part.matching, request=self._request, words=words, every=every, k=k)
        found = self._shards.each({MATCHING: question})[MATCHING]
        numbers = _numbers({at: rows for at, (rows, _) in found.items()})
        scores = np.concatenate([np.array(each, np.float64) for _, each in found.values()])
        order = np.lexsort((numbers, -scores))[:k]
        return numbers[order], scores[order].tolist()

    def _hits(
        self, numbers: Numbers, scores: Sequence[float], distances: Sequence[float | None], stats: HitStats
    ) -> Hits:
        made: list[Hit | None] = [None] * len(numbers)
        shards, rows = numbers >> _BITS, numbers & ((1 << _BITS) - 1)
        places = {at: np.flatnonzero(shards == at) for at in np.unique(shards).tolist()}
        questions: dict[int, Question] = {}
        for at, here in places.items():
            few = here.tolist()
            questions[at] = partial(
                Part.hits,
                request=self._request,
                rows=rows[here],
                scores=[scores[place] for place in few],
                distances=[distances[place] for place in few],
            )
        for at, found in self._shards.some(questions).items():
            for place, hit in zip(places[at].tolist(), found, strict=True):
                made[place] = hit
        hits = Hits(hit for hit in made if hit is not None)
        hits.stats = stats._replace(vanished=len(made) - len(hits))
        return hits


def _nearest(found: Found, k: int) -> tuple[Numbers, list[float], HitStats]:
    numbers = _numbers({at: rows for at, (rows, _, _) in found.items()})
    distances = np.concatenate([np.array(each, np.float64) for _, each, _ in found.values()])
    order = np.lexsort((numbers, distances))[:k]
    return numbers[order], distances[order].tolist(), _together([stats for _, _, stats in found.values()])


def _numbers(rows: Mapping[int, Numbers]) -> Numbers:
    return np.concatenate([each + (at << _BITS) for at, each in rows.items()])


def _together(stats: Sequence[HitStats]) -> HitStats:
    strategies = dict.fromkeys(each.strategy for each in stats)
    allowed = [each.allowed for each in stats if each.allowed is not None]
    return HitStats(
        " / ".join(sorted(strategies)),
        sum(allowed) if allowed else None,
        sum(each.visited for each in stats),
        sum(each.distances for each in stats),
    )
