"""What the backends share that search an index: in memory, in several files, or with its graph on disk."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from edgevec import DiskIndex, IdFilter, Index, ParameterError, SearchContext, ShardedIndex
from edgevec.sharded import ShardContext

from ..filters import where_over
from ..models import (
    Answer,
    Clock,
    CollectionInfo,
    Data,
    FilterResult,
    Floats,
    Id,
    Ids,
    Part,
    Progress,
    QuerySpec,
    Reads,
    SearchCost,
)
from .base import ThreadSearch

__all__ = ["AnyIndexBackend"]


IndexType = TypeVar("IndexType", bound=Index | ShardedIndex | DiskIndex)
ContextType = TypeVar("ContextType", bound=SearchContext | ShardContext | None)


class AnyIndexBackend(ABC, Generic[IndexType, ContextType]):
    """Ids are integers. It caches a search context for each thread, and the last filter."""

    fixed: str | None = None
    whole_scan = 0
    times_core = True

    def __init__(self, index: IndexType, clock: Clock) -> None:
        self._index: IndexType = index
        self._clock = clock
        self._thread = threading.local()
        self._filter: tuple[str, Data, FilterResult] | None = None
        self._ids: tuple[FilterResult, IdFilter] | None = None

    @abstractmethod
    def _new_context(self) -> ContextType:
        """For one thread."""

    @abstractmethod
    def _cost(self, context: ContextType) -> SearchCost:
        """Of the last search with it."""

    @abstractmethod
    def _every_id(self) -> Iterable[int]:
        """In any order."""

    @abstractmethod
    def _seconds(self, context: ContextType) -> float | None:
        """In the core, of the last search of one query on one thread with it; None where that is not known."""

    @property
    def dim(self) -> int:
        return self._index.dim

    def __len__(self) -> int:
        return len(self._index)

    @property
    def most_probes(self) -> int:
        return 0

    def _options(self, context: ContextType, nprobe: int | None) -> dict[str, Any]:
        """Further arguments of a search."""
        return {"context": context}

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
        context, id_filter = self._context(), self._id_filter(filter_result)
        start = self._clock()
        found = self._index.search(
            query.vector,
            k,
            ef=ef,
            filter=id_filter,
            exact=exact,
            **self._options(context, nprobe),
        )
        seconds = self._clock() - start
        return Answer(found.ids, found.distances, self._cost(context), seconds)

    def thread_search(self, filter_result: FilterResult | None, nprobe: int | None = None) -> ThreadSearch:
        index, context, id_filter = self._index, self._new_context(), self._id_filter(filter_result)
        options = {"filter": id_filter, "threads": 1, **self._options(context, nprobe)}

        def ask(queries: Floats, k: int, ef: int) -> tuple[Ids, Floats, float | None]:
            found = index.search(queries, k, ef=ef, **options)
            return found.ids, found.distances, self._seconds(context) if queries.ndim == 1 else None

        return ask

    def _context(self) -> ContextType:
        """The context of this thread; a cancelled search may still be running on another one."""
        if not hasattr(self._thread, "context"):
            self._thread.context = self._new_context()
        context: ContextType = self._thread.context
        return context

    def _id_filter(self, filter_result: FilterResult | None) -> IdFilter | None:
        cached = self._ids
        if filter_result is None:
            return None
        if cached is None or cached[0] is not filter_result:
            cached = self._ids = (filter_result, IdFilter(filter_result.selection))
        return cached[1]

    def filter(self, text: str, data: Data) -> FilterResult | None:
        cached = self._filter
        if cached is not None and cached[0] == text and cached[1] is data:
            return cached[2]
        filter_result = where_over(data)(text)
        if filter_result is not None:
            self._filter = (text, data, filter_result)
        return filter_result

    def vector(self, id: Id) -> Floats:
        if isinstance(id, str):
            raise ParameterError(f"the ids of an index are numbers, not {id!r}")
        row: Floats = self._index.get([id])[0]
        return row

    def ids(self) -> Ids:
        return np.sort(np.fromiter(self._every_id(), np.int64))

    def memory(self) -> dict[str, int]:
        return self._index.memory_usage()

    def reads(self) -> Reads | None:
        return None

    def parts(self) -> Sequence[Part]:
        return ()

    def refresh(self, progress: Progress) -> bool:
        return False

    def info(self) -> CollectionInfo | None:
        return None
