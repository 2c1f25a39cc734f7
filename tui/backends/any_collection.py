"""What the backends share that search a collection, in one file or in several."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

import edgevec
from edgevec import Collection, Hits, ParameterError, Record, ShardedCollection, samples

from ..models import (
    Answer,
    BuildSettings,
    Clock,
    Data,
    FilterResult,
    Floats,
    Id,
    Progress,
    QuerySpec,
    Reads,
    SearchCost,
)
from .base import ThreadSearch

__all__ = ["HEAD", "AnyCollectionBackend", "data_of", "objects"]

HEAD = 200
"""Records read at opening, for the preview and the list of fields."""

_SAME_ENCODER = 0.5
"""Median cosine above which the stored vectors are taken to be from the sample's encoder; others give about 0."""

CollectionType = TypeVar("CollectionType", bound=Collection | ShardedCollection)


def data_of(backend: AnyCollectionBackend[Any], head: Sequence[Record], path: Path) -> Data:
    """What the screens show of its first records."""
    encoder = _encoder(backend, head)
    return Data(
        path.name,
        backend.dim,
        objects([record.id for record in head]),
        None,
        [record.document or "" for record in head] if backend.documents() else None,
        _columns(head),
        backend.settings.metric,
        encode=None if encoder is None else encoder.encode,
        unknown_words=None if encoder is None else encoder.unknown_words,
        path=path,
        collection=True,
    )


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """object [n]; np.array would turn integers beside texts into texts."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _columns(head: Sequence[Record]) -> dict[str, NDArray[Any]]:
    names = dict.fromkeys(name for record in head for name in record.metadata)
    return {name: objects([record.metadata.get(name) for record in head]) for name in names}


def _encoder(backend: AnyCollectionBackend[Any], head: Sequence[Record]) -> samples.WordNet | None:
    """The sample's encoder, if it gives about the stored vectors for the first documents."""
    documented = [record for record in head if record.document][:20]
    if not documented or backend.settings.metric != "cosine":
        return None
    try:
        sample = samples.wordnet()
    except edgevec.DataNotFoundError:
        return None  # not installed here
    if sample.dim != backend.dim:
        return None
    similarities = []
    for record in documented:
        try:
            encoded = sample.encode(record.document or "")
        except ParameterError:  # no word that it knows
            continue
        similarities.append(float(encoded @ record.vector / (np.linalg.norm(encoded) * np.linalg.norm(record.vector))))
    return sample if similarities and np.median(similarities) > _SAME_ENCODER else None


class AnyCollectionBackend(ABC, Generic[CollectionType]):
    """Each search sees what is committed at that moment, by any process. It caches the ids and the last filter."""

    fixed = "A collection keeps its own index, and is open for reading: edgevec db FILE … changes it"
    whole_scan = 0
    times_core = False

    def __init__(self, collection: CollectionType, clock: Clock) -> None:
        self._collection: CollectionType = collection
        self._clock = clock
        self._lock = threading.Lock()
        self._version: int | None = None
        self._rows: NDArray[Any] | None = None
        self._filter: tuple[str, int | None, FilterResult] | None = None
        self.refresh(lambda done, total: True)

    @property
    @abstractmethod
    def settings(self) -> BuildSettings: ...

    @abstractmethod
    def documents(self) -> int:
        """How many records have one."""

    @abstractmethod
    def _take_in(self, progress: Progress) -> int:
        """Take in what other processes have committed; the version of the records."""

    @property
    def dim(self) -> int:
        return self._collection.dim or 0

    def __len__(self) -> int:
        return self._count

    @property
    def most_probes(self) -> int:
        return 0

    def search(
        self,
        query: QuerySpec,
        k: int,
        *,
        ef: int,
        filter_result: FilterResult | None,
        exact: bool,
        nprobe: int | None = None,
    ) -> Answer:
        where = _condition(filter_result)
        start = self._clock()
        hits = self._collection.search(query.vector, k, text=query.words, where=where, ef=ef, exact=exact)
        return _answer(hits, self._clock() - start, by_vector=query.vector is not None)

    def filter(self, text: str, data: Data) -> FilterResult | None:
        """Cached until the text or the records change."""
        if not text.strip():
            return None
        cached, version = self._filter, self._version
        if cached is not None and cached[:2] == (text, version):
            return cached[2]
        filter_result = FilterResult(self._collection.count(text), text)
        self._filter = (text, version, filter_result)
        return filter_result

    def vector(self, id: Id) -> Floats:
        return self._collection.get([id])[0].vector

    def thread_search(self, filter_result: FilterResult | None, nprobe: int | None = None) -> ThreadSearch:
        collection, where = self._collection, _condition(filter_result)

        def ask(queries: Floats, k: int, ef: int) -> tuple[Sequence[Any], Sequence[Any], float | None]:
            if queries.ndim == 1:
                hits = collection.search(queries, k, where=where, ef=ef)
                return [hit.id for hit in hits], [hit.distance for hit in hits], None
            rows = [collection.search(row, k, where=where, ef=ef) for row in queries]
            return [[hit.id for hit in hits] for hits in rows], [[hit.distance for hit in hits] for hits in rows], None

        return ask

    def ids(self) -> NDArray[Any]:
        with self._lock:
            if self._rows is None:
                self._rows = objects(self._collection.ids())
            return self._rows

    def reads(self) -> Reads | None:
        return None

    def save(self, path: Path) -> None:
        raise ParameterError("a collection is on the disk already; edgevec db FILE export writes its records elsewhere")

    def refresh(self, progress: Progress) -> bool:
        """Never stopped by progress: half of a refresh would have to be done again."""

        def report(done: int, total: int) -> bool:
            progress(done, total)
            return True

        version = self._take_in(report)
        with self._lock:
            if version == self._version:
                return False
            self._count, self._rows = len(self._collection), None
            self._version = version
            return True

    def close(self) -> None:
        self._collection.close()


def _condition(filter_result: FilterResult | None) -> str | None:
    return None if filter_result is None else str(filter_result.selection)


def _answer(hits: Hits, seconds: float, *, by_vector: bool) -> Answer:
    stats = hits.stats
    distances = np.array([hit.distance for hit in hits], np.float32) if by_vector else None
    return Answer(
        objects([hit.id for hit in hits]),
        distances,
        SearchCost(stats.strategy, stats.visited, stats.distances, None, None),
        seconds,
        np.array([hit.score for hit in hits], np.float32),
        [(hit.document or "", hit.metadata) for hit in hits],
    )
