"""Types that several modules share: what parameters may be, and what searches and checks return."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "CheckReport",
    "KeepVectors",
    "Metric",
    "PathLike",
    "Progress",
    "Quantization",
    "SearchResult",
    "SearchStats",
    "Storage",
]

Metric = Literal["cosine", "ip", "l2"]
"""Cosine similarity, inner product or squared Euclidean distance."""

Quantization = Literal["none", "sq8", "binary"]
"""What the graph is searched with: float32, 8 bits a dimension, or 1 bit."""

KeepVectors = bool | Literal["float32"]
"""Whether vectors are kept beside their codes; "float32" keeps every bit."""

Storage = Literal["memory", "disk"]
"""Where the vectors lie that are kept beside codes."""

PathLike = str | os.PathLike[str]

Progress = Callable[[int, int], object]
"""Called now and then as progress(done, total); returning False stops the calls that say so."""


class SearchResult(NamedTuple):
    """The ids and distances that a search found, nearest first.

    For one query they are [found]; for a batch [n, min(k, len(index))], where rows with fewer matches are padded with
    id -1 and distance inf.

    Example:
        >>> from edgevec import Index
        >>> index = Index(2, "l2")
        >>> _ = index.add([[0, 0], [3, 4]])
        >>> ids, distances = index.search([[0, 0], [3, 3]], k=1)
        >>> ids.tolist(), distances.tolist()
        ([[0], [1]], [[0.0], [1.0]])
    """

    ids: npt.NDArray[np.int64]
    """int64"""
    distances: npt.NDArray[np.float32]
    """float32; lower is closer"""


class SearchStats(NamedTuple):
    """What the last search with a context did: see SearchContext.stats.

    Example:
        >>> from edgevec import Index, SearchContext
        >>> index = Index(2)
        >>> _ = index.add([[1, 0], [0, 1]])
        >>> context = SearchContext(index)
        >>> _ = index.search([0, 1], k=1, exact=True, context=context)
        >>> context.stats.strategy, context.stats.ef
        ('exact', 0)
    """

    queries: int
    """Searches made with the context so far."""
    visited: int
    """Nodes whose links were read."""
    distances: int
    """Distances computed while the graph was searched or all vectors were compared."""
    prefiltered: int
    """Distances estimated from 1-bit codes, to skip computing those that are too large; 0 where codes are short or not
    8-bit."""
    reranked: int
    """Exact distances computed in the final pass."""
    strategy: str
    """"graph", "exact", or "filtered_graph"."""
    seconds: float
    """Time that the core spent on it, in seconds: without Python, and without waiting for the GIL."""
    ef: int
    """Candidates kept; 0 when every vector was compared."""


class CheckReport(NamedTuple):
    """What Index.check() counted; `ok` is False where anything is wrong.

    Example:
        >>> from edgevec import Index
        >>> index = Index(2)
        >>> _ = index.add([[1, 0], [0, 1]])
        >>> report = index.check()
        >>> report.ok, report.live, report.edges
        (True, 2, 2)
    """

    live: int
    dead: int
    """Removed vectors whose slots are not reused yet."""
    free_slots: int
    duplicates: int
    """Vectors that share the graph node of an equal one."""
    nodes: int
    edges: int
    mutual_edges: int
    min_degree: int
    max_degree: int
    unreachable: int
    """Nodes that cannot be reached from the entry point. A few may appear between repairs; compact() links them."""
    bad_links: int
    bad_codes: int
    bad_ids: int
    levels: int
    walk: int
    """What searches should go by, for the vectors as they are now: see Index.stats(). Where stats() differs from it,
    compact() puts that right. It is no damage, so `ok` does not depend on it."""

    @property
    def ok(self) -> bool:
        """Whether no link, code or id is broken and every node can be reached."""
        return not (self.unreachable or self.bad_links or self.bad_codes or self.bad_ids)
