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
]

Metric = Literal["cosine", "ip", "l2"]
"""Cosine similarity, inner product or squared Euclidean distance."""

Quantization = Literal["none", "sq8", "binary"]
"""What the graph is searched with: float32, 8 bits a dimension, or 1 bit."""

KeepVectors = bool | Literal["float32"]
"""Whether vectors are kept beside their codes; "float32" keeps every bit."""

PathLike = str | os.PathLike[str]

Progress = Callable[[int, int], object]
"""Called now and then as progress(done, total); returning False stops the calls that say so."""


class SearchResult(NamedTuple):
    """Nearest first. For one query [found]; for a batch [n, min(k, len(index))], rows with fewer matches padded with id
    -1 and distance inf.
    """

    ids: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]


class SearchStats(NamedTuple):
    """What the last search with a context did."""

    queries: int
    """Searches made with the context so far."""
    visited: int
    """Nodes whose links were read."""
    distances: int
    """Distances computed while walking or scanning."""
    prefiltered: int
    """Distances estimated from signs, to tell which are worth computing; 0 where codes are short or not 8-bit."""
    reranked: int
    """Exact distances computed in the final pass."""
    strategy: str
    """"graph", "exact", or "filtered_graph"."""
    seconds: float
    """Time that the core spent on it: without Python, and without waiting for the GIL."""
    ef: int
    """Candidates kept; 0 when every vector was compared."""


class CheckReport(NamedTuple):
    """What Index.check() found. `ok` says whether anything is wrong."""

    live: int
    dead: int
    """Removed vectors whose room is not yet reused."""
    free_slots: int
    duplicates: int
    """Vectors that share the graph node of an equal one."""
    nodes: int
    edges: int
    mutual_edges: int
    min_degree: int
    max_degree: int
    unreachable: int
    """Nodes that no walk from the entry reaches. A few may appear between mendings; compact() links them."""
    bad_links: int
    bad_codes: int
    bad_ids: int
    levels: int
    walk: int
    """What searches should go by, of the vectors as they are now: see Index.stats(). Where it differs from what stats()
    says, compact() puts it right. It says nothing of damage, so `ok` does not hang on it."""

    @property
    def ok(self) -> bool:
        """No broken link, code or id; and no node out of reach."""
        return not (self.unreachable or self.bad_links or self.bad_codes or self.bad_ids)
