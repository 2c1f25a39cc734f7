"""Plain records that screens and backends share. The first screen does without NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import edgevec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevec import Metric, Quantization
    from edgevec.evaluation import Point

__all__ = [
    "SAMPLE",
    "Answer",
    "BuildSettings",
    "Clock",
    "CollectionInfo",
    "Curve",
    "Data",
    "FilterResult",
    "Floats",
    "Health",
    "Id",
    "Ids",
    "Measurements",
    "Part",
    "Progress",
    "Queries",
    "QuerySetSpec",
    "QuerySpec",
    "Reads",
    "SearchCost",
]

Clock = Callable[[], float]
"""Seconds from some moment on."""

Progress = Callable[[int, int], bool]
"""progress(done, total) says whether to go on."""

if TYPE_CHECKING:
    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]
else:
    Floats = Ids = Any
Id = int | str
"""Of a record; those of an index are integers."""

SAMPLE = "sample:wordnet"
"""The name of the bundled sample where others have a path."""


@dataclass(frozen=True)
class BuildSettings:
    """What an index is built with. M and ef_construction are 0 where that is not known: of a graph on disk."""

    metric: Metric = "cosine"
    quantization: Quantization = "sq8"
    M: int = 16
    ef_construction: int = 200

    @property
    def short(self) -> str:
        """In a word or three, for the line at the top."""
        return self.quantization if self.M else "graph on disk"


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: rows of vectors, and what is known about each.

    vectors     float32 [n, dim]; None when an index was opened without the data it was built from
    ids         int64 [n], row by row
    columns     metadata, a column each: object [n]
    queries     float32 [q, dim], when the file brings a test set
    encode      makes the vector of a text, where the set knows how
    unknown_words
                those of a text that encode passes over
    collection  these are the first records of a collection, to show what there is: its backend knows all of them,
                and ids is object [n], integers and texts
    """

    name: str
    dim: int
    ids: NDArray[Any]
    vectors: Floats | None = None
    texts: Sequence[str] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metric: Metric | None = None
    queries: Floats | None = None
    encode: Callable[[str], Floats] | None = None
    unknown_words: Callable[[str], list[str]] | None = None
    path: Path | None = None
    """The file it was read from; None for the sample."""
    collection: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: Ids) -> Ids:
        """The rows of ids; -1 where there is none."""
        import numpy as np

        if not len(self):
            return np.full(len(ids), -1, np.int64)
        order, ordered = self._by_id
        at = np.minimum(np.searchsorted(ordered, ids), len(self) - 1)
        return np.where(ordered[at] == ids, order[at], -1)

    @cached_property
    def _by_id(self) -> tuple[Ids, Ids]:
        """Rows in the order of their ids, and the ids in order."""
        import numpy as np

        order = np.argsort(self.ids, kind="stable")
        return order, self.ids[order]


class QuerySpec(NamedTuple):
    """What is searched for: a vector, words, or both (the two rankings are fused)."""

    vector: Floats | None
    words: str | None = None


class FilterResult(NamedTuple):
    """What passes a filter. rows: how many; selection: the ids of an index, or the condition for a collection."""

    rows: int
    selection: Ids | str


class Reads(NamedTuple):
    """What searches read of a file: how often, how much, and the distances that they estimated from its codes."""

    queries: int
    reads: int
    bytes: int
    estimates: int

    def since(self, before: Reads) -> Reads:
        return Reads(*(now - then for now, then in zip(self, before, strict=True)))


class SearchCost(NamedTuple):
    """The cost of a search. None: not known.

    strategy  as in SearchStats and HitStats: whether the graph was searched, all matches compared, or words looked up
    visited   nodes of the graph whose links were read
    core      seconds in the C core
    read      of the file of an index whose graph lies on disk
    """

    strategy: str
    visited: int | None
    distances: int | None
    reranked: int | None
    core: float | None
    read: Reads | None = None


class Answer(NamedTuple):
    """Search results, best first, and what they cost.

    ids        [found]: int64, or integers and texts
    distances  None for a search by words alone
    seconds    of the call from Python, the core included
    scores     higher is better; None if the backend has only distances
    records    text and metadata of each, if they come from the backend and not from the data set
    """

    ids: NDArray[Any]
    distances: Floats | None
    cost: SearchCost
    seconds: float
    scores: Floats | None = None
    records: Sequence[tuple[str, Mapping[str, Any]]] | None = None

    def recall(self, truth: Answer, metric: Metric) -> float:
        """The share of the true results that is in this answer, by distance."""
        import numpy as np

        places = [np.arange(len(answer.ids)) for answer in (self, truth)]  # recall wants numbers, and ids may be texts
        far, true_far = self.distances, truth.distances
        return edgevec.evaluation.recall(*places, found_distances=far, true_distances=true_far, metric=metric)


class Health(NamedTuple):
    """The result of checking an index. lines: the findings, as texts."""

    ok: bool
    lines: tuple[str, ...]


class CollectionInfo(NamedTuple):
    """Counts and sizes of a collection; sizes in bytes.

    changes  committed changes that the snapshot on the disk lacks; the graph in memory has them
    indexes  fields with an index for conditions
    """

    records: int
    documents: int
    dtype: str
    file: int
    log: int
    snapshot: int
    memory: int
    changes: int
    indexes: tuple[str, ...]


class Part(NamedTuple):
    """One file of an index that has several. ids: the smallest and the largest; bytes: of the file."""

    file: str
    vectors: int
    removed: int
    ids: str
    bytes: int


class QuerySetSpec(NamedTuple):
    """Which queries to make, and for which filter. source: as query_set.make takes it; filter: as typed."""

    source: str
    metric: Metric
    filter: str = ""


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries for the load generator and the comparison, with their true answers.

    vectors  float32 [q, dim]
    truth    int64 [q, m]: the nearest ids of each by exact search, nearest first, padded with -1. Of a collection:
             object, integers and texts, padded with None
    distances  float64 [q, m]: how far those are, padded with inf
    own      [q]: if a query is a stored row, its id, which does not count as found; else the padding
    name     for the screen
    metric   of the distances
    filter_result  the filter that all of them are searched with
    data     if its vectors are in memory, distances are computed from them; else the backend gives them
    """

    vectors: Floats
    truth: NDArray[Any]
    distances: NDArray[np.float64]
    own: NDArray[Any]
    name: str
    metric: Metric
    filter_result: FilterResult | None = None
    data: Data | None = None

    @property
    def padding(self) -> int | None:
        return None if self.truth.dtype == object else -1

    def expected(self, k: int) -> list[frozenset[Id]]:
        """For each query the ids that a search for k should find; others at the same distance count as well."""
        rows = zip(self.truth[:, :k].tolist(), self.own.tolist(), strict=True)
        return [frozenset(row) - {own, self.padding} for row, own in rows]

    def limits(self, k: int) -> list[float]:
        """For each query the largest distance at which a result counts as found."""
        import numpy as np

        others = (self.truth[:, :k] != self.own[:, None]) & (self.distances[:, :k] < np.inf)
        last = np.where(others, self.distances[:, :k], -1e300).max(axis=1, initial=-1e300)
        limits: list[float] = edgevec.evaluation.farthest_found(last, self.metric).tolist()
        return limits

    def found(self, row: int, k: int, ids: Any, distances: Any, limit: float) -> int:
        """How many results of one query count as found. Its own row counts only if the truth holds others as near."""
        if self.data is not None and self.data.vectors is not None:
            import numpy as np

            rows, query = self.data.rows_of(np.asarray(ids))[None], self.vectors[row : row + 1]
            distances = edgevec.evaluation.distances(self.data.vectors, query, rows, self.metric)[0]
        passed = {self.own[row]} & set(self.truth[row, :k].tolist())
        return sum(bool(far <= limit) for id, far in zip(ids, distances, strict=True) if id not in passed)


class Measurements(NamedTuple):
    """What the load generator measured since the last drain.

    core     float64 [calls]: seconds a query took inside the core
    call     float64 [calls]: seconds a query took as a call from Python
    found    of `expected` true neighbors, in those queries that were compared
    seconds  the time this covers
    """

    core: NDArray[np.float64]
    call: NDArray[np.float64]
    queries: int
    found: int
    expected: int
    seconds: float


@dataclass(frozen=True)
class Curve:
    """The measured curve of one index of a comparison, over ef.

    name               of what the comparison varies: "sq8", "avx2", "filter"
    bytes_per_vector   of the whole index in memory
    build_seconds      None when it was not built for this
    """

    name: str
    points: tuple[Point, ...] = ()
    bytes_per_vector: int = 0
    build_seconds: float | None = None
