"""What the page searches: the WordNet sample, a file of the user's, or what an index file holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevec import (
    Dataset,
    DuplicateIdError,
    IdFilter,
    Index,
    NotFiniteError,
    ParameterError,
    ZeroVectorError,
    read_vectors,
    samples,
)
from edgevec.index import Metric

SAMPLE_FOLDER = Path("/data")
SAMPLE = "WordNet"
TOPIC_NAMES = ("topic", "category", "label", "class", "genre", "type", "tag", "lang", "language")
MOST_TOPICS = 200


@dataclass(frozen=True, eq=False)
class Source:
    """Rows with what is known about them.

    vectors  float32 [n, dim]
    ids      int64 [n], all different
    texts    one a row, or None
    topics   one a row, or None
    encode   from text to float32 [dim], or None where only rows can be asked for
    """

    name: str
    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    metric: Metric
    texts: list[str] | None = None
    topics: list[str] | None = None
    encode: Callable[[str], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        order = np.argsort(self.ids, kind="stable")
        return self.ids[order], order

    def position(self, id: int) -> int:
        """The row of an id; ParameterError when there is none."""
        ids, order = self._sorted
        at = int(np.searchsorted(ids, id))
        if at == len(ids) or ids[at] != id:
            raise ParameterError(f"there is no row with the id {id}")
        return int(order[at])

    def row(self, id: int) -> dict[str, Any]:
        """What the page shows of a row."""
        at = self.position(id)
        return {
            "id": id,
            "text": self.texts[at] if self.texts else None,
            "topic": self.topics[at] if self.topics else None,
        }

    def find(self, text: str) -> int:
        """The id that a text names: a number is an id, anything else is looked for in the rows' texts."""
        if text.lstrip("-").isdigit():
            id = int(text)
            self.position(id)
            return id
        if self.texts is None:
            raise ParameterError("these rows have no texts: type the number of a row, or a vector such as [0.1, ...]")
        sought = text.lower()
        at = next((at for at, held in enumerate(self.texts) if sought in held.lower()), None)
        if at is None:
            raise ParameterError(f"no row's text contains {text!r}")
        return int(self.ids[at])

    @cached_property
    def topic_counts(self) -> list[tuple[str, int]]:
        return sorted(Counter(self.topics or ()).items())

    def topic_filter(self, topic: str) -> IdFilter:
        return IdFilter(self.ids[np.array([held == topic for held in self.topics or ()], bool)])

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rows": len(self),
            "dim": int(self.vectors.shape[1]),
            "metric": self.metric,
            "topics": self.topic_counts,
            "texts": self.texts is not None,
            "encodes": self.encode is not None,
        }


def sample() -> Source:
    held = samples.wordnet(SAMPLE_FOLDER)
    return Source(SAMPLE, held.vectors, held.ids, "cosine", held.texts, held.topics, held.encode)


def from_file(path: Path) -> Source:
    """Read a file of vectors. What an index would refuse is refused here, where the row can be named."""
    data = read_vectors(path)
    if not len(data):
        raise ParameterError(f"{path.name} holds no rows")
    ids = np.arange(len(data)) if data.ids is None else data.ids
    source = Source(path.name, data.vectors, ids, data.metric or "cosine", data.texts, _topics(data))
    if len(np.unique(ids)) != len(ids):
        raise DuplicateIdError(f"{path.name}: the same id stands in several rows")
    return source


def from_index(index: Index, name: str, texts: list[str] | None = None, topics: list[str] | None = None) -> Source:
    """The rows of an index, in the order in which it holds them."""
    ids = np.fromiter(index, np.int64, len(index))
    return Source(name, index.get(ids), ids, index.metric, texts, topics)


def holds_rows_of(index: Index, source: Source) -> bool:
    """Whether an index is one over these rows: every id is known, and vectors picked here and there are the same."""
    ids = np.fromiter(index, np.int64, len(index))
    if not len(ids) or index.dim != source.vectors.shape[1] or not np.isin(ids, source.ids).all():
        return False
    picked = ids[:: max(1, len(ids) // 64)]
    held, known = (_unit(rows) for rows in (index.get(picked), source.vectors[[source.position(i) for i in picked]]))
    return bool((np.einsum("nd,nd->n", held, known) > 0.98).all())  # codes alone come back rounded


def refuse_bad_rows(source: Source, metric: Metric) -> None:
    """Raise what the index would, with the row counted from the start of the source."""
    lengths = np.einsum("nd,nd->n", source.vectors, source.vectors)
    bad = np.flatnonzero(~np.isfinite(lengths))
    if bad.size:
        raise NotFiniteError(f"row {bad[0]} of {source.name} holds NaN, infinity or numbers too large")
    zero = np.flatnonzero(lengths == 0) if metric == "cosine" else bad
    if zero.size:
        raise ZeroVectorError(f"row {zero[0]} of {source.name} is all zeros, which has no direction for cosine")


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30), np.float32)


def _topics(data: Dataset) -> list[str] | None:
    """The metadata column that rows can be filtered by: one with a telling name and not too many values."""
    if not data.metadata:
        return None
    for name in TOPIC_NAMES:
        if name in data.metadata[0]:
            values = [str(row.get(name, "")) for row in data.metadata]
            return values if len(set(values)) <= MOST_TOPICS else None
    return None
