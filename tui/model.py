"""The words that screens and engine share: plain records without behaviour of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgevec import SearchStats
from edgevec.index import Metric, Quantization
from edgevec.measure import Point

__all__ = [
    "SAMPLE",
    "Answer",
    "BuildSettings",
    "Curve",
    "Data",
    "Floats",
    "Health",
    "Ids",
    "Queries",
    "Samples",
]

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

SAMPLE = "sample:wordnet"
"""The name of the bundled sample where others have a path."""


@dataclass(frozen=True)
class BuildSettings:
    """What an index is built with."""

    metric: Metric = "cosine"
    quantization: Quantization = "sq8"
    M: int = 16
    ef_construction: int = 200


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: rows of vectors, and what is known about each.

    vectors  float32 [n, dim]; None when an index was opened without the data it was built from
    ids      int64 [n], row by row
    columns  metadata, a column each: object [n]
    queries  float32 [q, dim], when the file brings a test set
    encode   makes the vector of a text, where the set knows how
    """

    name: str
    dim: int
    ids: Ids
    vectors: Floats | None = None
    texts: Sequence[str] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metric: Metric | None = None
    queries: Floats | None = None
    encode: Callable[[str], Floats] | None = None
    path: Path | None = None
    """The file it was read from; None for the sample."""

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: Ids) -> Ids:
        """The rows of ids; -1 where there is none."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        order, ordered = self._by_id
        at = np.minimum(np.searchsorted(ordered, ids), len(self) - 1)
        return np.where(ordered[at] == ids, order[at], -1)

    @cached_property
    def _by_id(self) -> tuple[Ids, Ids]:
        """Rows in the order of their ids, and the ids in order."""
        order = np.argsort(self.ids, kind="stable")
        return order, self.ids[order]


class Answer(NamedTuple):
    """What a search found, nearest first, and what it cost.

    ids      int64 [found]
    work     visited nodes, distances computed, seconds in the core
    seconds  of the call from Python, the core included
    """

    ids: Ids
    distances: Floats
    work: SearchStats
    seconds: float


class Health(NamedTuple):
    """What a check of an index says: whether all is well, and the findings, a line each."""

    ok: bool
    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Queries:
    """What the load generator asks, and the truth.

    vectors  float32 [q, dim]
    truth    int64 [q, m]: the nearest ids of each by exact search, nearest first
    own      int64 [q]: the id of the row that a query is, which finding proves nothing and is not counted; else -1
    name     how the screen calls them
    """

    vectors: Floats
    truth: Ids
    own: Ids
    name: str

    def wanted(self, k: int) -> list[frozenset[int]]:
        """For each query the ids that a search of k should find."""
        rows = zip(self.truth[:, :k].tolist(), self.own.tolist(), strict=True)
        return [frozenset(row) - {own, -1} for row, own in rows]


class Samples(NamedTuple):
    """What the load generator measured since it was asked last.

    core     float64 [calls]: seconds a query took inside the core
    call     float64 [calls]: seconds a query took as a call from Python
    found    of `wanted` true neighbours, in those queries that were compared
    seconds  the time this covers
    """

    core: NDArray[np.float64]
    call: NDArray[np.float64]
    queries: int
    found: int
    wanted: int
    seconds: float


@dataclass(frozen=True)
class Curve:
    """One contender of a comparison, over ef.

    name               "sq8", or "avx2": what the comparison varies
    bytes_per_vector   of the whole index in memory
    build_seconds      None when it was not built for this
    """

    name: str
    points: tuple[Point, ...] = ()
    bytes_per_vector: int = 0
    build_seconds: float | None = None
