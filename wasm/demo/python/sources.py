"""What the page searches: the WordNet sample, a file of the user's, or what an index file holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgevec import (
    Dataset,
    DuplicateIdError,
    Index,
    Metric,
    NotFiniteError,
    ParameterError,
    ZeroVectorError,
    read_vectors,
    samples,
)

SAMPLE_FOLDER = Path("/data")
SAMPLE = "WordNet"
TOPIC_NAMES = ("topic", "category", "label", "class", "genre", "type", "tag", "lang", "language")
MAX_TOPICS = 200
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, eq=False)
class Source:
    """Rows with what is known about them.

    Attributes:
        vectors: float32 [n, dim].
        ids: int64 [n], all different.
        texts: One per row, or None.
        topics: One per row, or None.
        encode: From text to float32 [dim]; None where only rows can be searched for.
        metadata: Of each row, or None.
        topic_field: The metadata field that holds the topics.
        kind: Where the rows come from.
        numbered: The ids are just the row numbers.
    """

    name: str
    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    metric: Metric
    texts: list[str] | None = None
    topics: list[str] | None = None
    encode: Callable[[str], NDArray[np.float32]] | None = None
    metadata: Sequence[Mapping[str, Any]] | None = None
    topic_field: str = "topic"
    kind: Literal["sample", "file", "index"] = "file"
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        order = np.argsort(self.ids, kind="stable")
        return self.ids[order], order

    def position(self, id: int) -> int:
        """The row of an id; ParameterError when there is none."""
        ids, order = self._sorted
        at = int(np.searchsorted(ids, id)) if _INT64.min <= id <= _INT64.max else len(ids)
        if at == len(ids) or ids[at] != id:
            raise ParameterError(f"there is no row with the id {id}")
        return int(order[at])

    def row(self, id: int) -> dict[str, Any]:
        """What the page shows of a row. Its id is a text: JavaScript's numbers are exact up to 2**53 only."""
        at = self.position(id)
        return {
            "id": str(id),
            "text": self.texts[at] if self.texts else None,
            "topic": self.topics[at] if self.topics else None,
        }

    def known(self, text: str) -> int:
        """The id that is written there; ParameterError when no row has it."""
        try:
            id = int(text)
        except ValueError:
            raise ParameterError(f"{text!r} is not the number of a row") from None
        self.position(id)
        return id

    def find(self, text: str) -> int:
        """The id that a text names: a number is an id, anything else is looked for in the rows' texts."""
        if re.fullmatch("-?[0-9]+", text):
            return self.known(text)
        if self.texts is None:
            raise ParameterError("these rows have no texts: type the number of a row, or a vector such as [0.1, ...]")
        sought = text.lower()
        at = next((at for at, held in enumerate(self.texts) if sought in held.lower()), None)
        if at is None:
            raise ParameterError(f"no row's text contains {text!r}")
        return int(self.ids[at])

    def fields(self, at: int) -> dict[str, Any]:
        """What a condition may name of a row."""
        held = dict(self.metadata[at]) if self.metadata else {self.topic_field: self.topics[at]} if self.topics else {}
        return held | ({"text": self.texts[at]} if self.texts else {}) | {"id": int(self.ids[at])}

    @cached_property
    def topic_counts(self) -> list[tuple[str, int]]:
        return sorted(Counter(self.topics or ()).items())

    def ids_of(self, topic: str) -> NDArray[np.int64]:
        """Of the rows with that topic. ParameterError where there is no such topic."""
        if topic not in dict(self.topic_counts):
            raise ParameterError(f"there is no topic {topic!r}")
        return np.asarray(self.ids[np.array([held == topic for held in self.topics or ()], bool)], np.int64)

    def saved_rows(self) -> dict[str, Any]:
        """What belongs to the rows beside their vectors and ids."""
        names = ("texts", "topics", "metadata", "topic_field", "kind", "numbered")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sample": self.kind == "sample",
            "rows": len(self),
            "dim": int(self.vectors.shape[1]),
            "metric": self.metric,
            "topics": self.topic_counts,
            "texts": self.texts is not None,
            "encodes": self.encode is not None,
            "fields": list(self.fields(0)) if len(self) else [],
        }


def sample() -> Source:
    held = samples.wordnet(SAMPLE_FOLDER)
    return Source(SAMPLE, held.vectors, held.ids, "cosine", held.texts, held.topics, held.encode, kind="sample")


def from_file(path: Path) -> Source:
    """Read a file of vectors. What an index would refuse is refused here, where the row can be named."""
    data = read_vectors(path)
    if not len(data):
        raise ParameterError(f"{path.name} holds no rows")
    ids = np.arange(len(data)) if data.ids is None else data.ids
    field, topics = _topics(data)
    source = Source(
        path.name,
        data.vectors,
        ids,
        data.metric or "cosine",
        data.texts,
        topics,
        metadata=data.metadata or None,
        topic_field=field,
        numbered=data.ids is None,
    )
    if len(np.unique(ids)) != len(ids):
        raise DuplicateIdError(f"{path.name}: the same id stands in several rows")
    return source


def from_index(index: Index, name: str, saved: Mapping[str, Any] | None = None) -> Source:
    """The rows of an index, in the order in which it holds them; saved: what `Source.saved_rows` returned."""
    ids = np.fromiter(index, np.int64, len(index))
    return Source(name, index.get(ids), ids, index.metric, **({"kind": "index"} | dict(saved or {})))


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


def _topics(data: Dataset) -> tuple[str, list[str] | None]:
    """The metadata column that rows can be filtered by: one with a telling name and not too many values."""
    rows = data.metadata or [{}]
    for name in TOPIC_NAMES:
        if name in rows[0]:
            values = [str(row.get(name, "")) for row in rows]
            return name, values if len(set(values)) <= MAX_TOPICS else None
    return "topic", None
