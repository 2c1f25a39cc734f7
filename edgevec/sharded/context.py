"""What a search of shards did, shard by shard."""

from __future__ import annotations

from typing import NamedTuple

from .._types import SearchStats
from ..index import Index, SearchContext

__all__ = ["ShardContext", "ShardStats"]


class ShardStats(NamedTuple):
    """What the last search did in one shard; see ShardContext.stats.

    Example:
        >>> from edgevec.sharded import ShardStats
        >>> ShardStats("a.ev", 1000, None, "a.ev: no such file").problem
        'a.ev: no such file'
    """

    file: str
    live: int
    """Vectors of it that are not removed."""
    search: SearchStats | None
    """None where it was not searched."""
    problem: str | None
    """Why it could not be."""
    queries: int = 1
    """Queries that asked it, or would have: with nprobe, those that it is near to."""


class ShardContext:
    """Scratch memory for a thread that searches a ShardedIndex in a loop, and the statistics of its last search.

    One search at a time may use it, as a SearchContext.

    Args:
        index: the ShardedIndex that is searched with it, and no other

    Example:
        >>> import numpy as np
        >>> from edgevec import ShardedIndex
        >>> from edgevec.sharded import ShardContext
        >>> with ShardedIndex.build(np.eye(4), "corners", rows_per_shard=2) as index:
        ...     context = ShardContext(index)
        ...     _ = index.search([1, 0, 0, 0], k=1, context=context)
        ...     [stats.search.distances for stats in context.stats], context.share
        ([2, 2], 1.0)
    """

    def __init__(self, index: object) -> None:
        self.index = index
        self.stats: tuple[ShardStats, ...] = ()
        """Of each shard in the last search: of one query, or with threads=1."""
        self._contexts: dict[Index, SearchContext] = {}

    @property
    def share(self) -> float:
        """The share of the vectors that the last search had before it, of those in shards that it was to ask.

        1.0 where none of these was missing.
        """
        every = sum(shard.live * shard.queries for shard in self.stats)
        searched = sum(shard.live * shard.queries for shard in self.stats if shard.problem is None)
        return searched / every if every else 1.0

    def of(self, index: Index) -> SearchContext:
        """That of a shard."""
        if index not in self._contexts:
            self._contexts[index] = SearchContext(index)
        return self._contexts[index]

    def keep(self, indexes: set[Index]) -> None:
        """Forget the contexts of other shards, which they would keep alive."""
        for gone in self._contexts.keys() - indexes:
            del self._contexts[gone]
