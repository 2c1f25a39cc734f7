"""One search of shards: which are asked, by which thread, and what they found together."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._types import Metric, SearchResult
from ..errors import NotFiniteError, ZeroVectorError
from ..index import Index
from .merging import merge
from .shards import OpenShard

__all__ = ["Ask", "Helpers", "Searcher"]

_HANDOVER = 200e-6
"""Seconds that threads must save a single query. To hand it over takes 35 to 110 us: `benches/shards.py`."""

Ask = Callable[[Index, "npt.NDArray[np.float32]", int], SearchResult]
"""ask(index, queries, threads): the search of one shard."""


Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Helpers:
    """Threads that help with what single queries ask of shards, and what these took. Any number may use it at once."""

    def __init__(self) -> None:
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._seconds: dict[Hashable, float] = {}
        """What one shard took of the last single query of a kind."""

    def close(self) -> None:
        """End the threads."""
        pool, self._pool = self._pool, None
        if pool is not None and pool[0] == os.getpid():
            pool[1].shutdown()

    def ask(
        self,
        call: Callable[[Item], Answer],
        items: Sequence[Item],
        threads: int,
        kind: Hashable,
        least: float = 0.0,
    ) -> list[Answer]:
        """call() of each item. Each thread takes some, the calling one among them; it takes all where that is faster.

        Args:
            threads: 0: as many as there are cores, if that saves enough by what the last of its kind took
            least: seconds that one item must then have taken
        """
        if not items:
            return []
        count = min(len(items), threads or os.cpu_count() or 1)
        taken = [math.inf]

        def some(start: int) -> list[Answer]:
            return [call(item) for item in items[start::count]]

        def timed() -> list[Answer]:
            results = []
            for item in items[::count]:
                start = time.perf_counter()
                results.append(call(item))
                taken.append(time.perf_counter() - start)
            return results

        last = self._seconds.get(kind, math.inf)
        saved = last * (len(items) - math.ceil(len(items) / count))
        if not threads and (saved < _HANDOVER or last < least):
            count = 1
        others = [self._threads().submit(some, start) for start in range(1, count)]
        try:
            mine = timed()
        finally:
            for other in others:  # also after an error: nothing goes on behind the caller's back
                other.exception()
        self._seconds[kind] = min(taken)  # the least: the others may have waited for a core
        every = [mine, *(other.result() for other in others)]
        return [every[at % count][at // count] for at in range(len(items))]

    def _threads(self) -> ThreadPoolExecutor:
        """A forked process has the threads of its parent no more. What two threads make at once one of them drops."""
        pool = self._pool
        if pool is None or pool[0] != os.getpid():
            pool = self._pool = os.getpid(), ThreadPoolExecutor(os.cpu_count() or 1, "edgevec-shards")
        return pool[1]


class Searcher:
    """Searches of shards. Any number may use it at once."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers

    def search(
        self,
        ask: Ask,
        queries: npt.NDArray[np.float32],
        held: Sequence[OpenShard],
        asked: npt.NDArray[np.bool_] | None,
        k: int,
        threads: int,
        kind: Hashable,
        metric: Metric,
    ) -> SearchResult:
        """What these shards find together.

        Args:
            queries: [dim] or [n, dim]
            asked: which query is asked of which of them: bool[n, len(held)]; None: each of all
            kind: of queries that take about as long
            metric: of the shards, of which there may be none
        """
        single = queries.ndim == 1
        if single and asked is not None:
            held = [each for each, is_asked in zip(held, asked[0], strict=True) if is_asked]
        if not held or (asked is not None and not asked.any()):
            with Index(queries.shape[-1], metric) as nothing:  # which sees what is wrong with the arguments
                found = ask(nothing, queries, 1)
            if single or not held:
                return found
        if single:
            return merge(self._helpers.ask(lambda each: ask(each.index, queries, 1), held, threads, kind), k)
        # All cores are busy with one shard after the other.
        if asked is None:
            return merge((ask(each.index, queries, threads) for each in held), k)
        return _of_some(ask, queries, held, asked, k, threads)


def _of_some(
    ask: Ask,
    queries: npt.NDArray[np.float32],
    held: Sequence[OpenShard],
    asked: npt.NDArray[np.bool_],
    k: int,
    threads: int,
) -> SearchResult:
    """A batch of which each shard is asked some queries, in one call."""
    columns = min(k, sum(len(each.index) for each in held))
    ids = np.full((len(queries), columns), -1, np.int64)
    distances = np.full((len(queries), columns), np.inf, np.float32)
    for each, rows in zip(held, asked.T, strict=True):
        if rows.any():
            try:
                found = ask(each.index, queries[rows], threads)
            except (NotFiniteError, ZeroVectorError):
                ask(each.index, queries, threads)  # which names the row of the batch
                raise
            nearest = merge([SearchResult(ids[rows], distances[rows]), found], columns)
            ids[rows], distances[rows] = nearest.ids, nearest.distances
    return SearchResult(ids, distances)
