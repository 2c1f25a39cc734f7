"""What the backends share that search an index, in one file or in several."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevec import IdFilter, Index, ParameterError, SearchContext, ShardedIndex
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
    SearchCost,
)

__all__ = ["AnyIndexBackend"]


class AnyIndexBackend(ABC):
    """Ids are integers. It caches a search context for each thread, and the last filter."""

    fixed: str | None = None

    def __init__(self, index: Index | ShardedIndex, clock: Clock) -> None:
        self._searched, self._clock = index, clock
        self._thread = threading.local()
        self._filter: tuple[str, Data, FilterResult] | None = None
        self._ids: tuple[FilterResult, IdFilter] | None = None

    @abstractmethod
    def _new_context(self) -> SearchContext | ShardContext:
        """For one thread."""

    @abstractmethod
    def _cost(self, context: Any) -> SearchCost:
        """Of the last search with it."""

    @property
    def dim(self) -> int:
        return self._searched.dim

    def __len__(self) -> int:
        return len(self._searched)

    def search(self, query: QuerySpec, k: int, *, ef: int, filter_result: FilterResult | None, exact: bool) -> Answer:
        context: Any = self._context()
        id_filter = self._id_filter(filter_result)
        start = self._clock()
        found = self._searched.search(query.vector, k, ef=ef, filter=id_filter, exact=exact, context=context)
        return Answer(found.ids, found.distances, self._cost(context), self._clock() - start)

    def _context(self) -> SearchContext | ShardContext:
        """The context of this thread; a cancelled search may still be running on another one."""
        context: SearchContext | ShardContext | None = getattr(self._thread, "context", None)
        if context is None:
            context = self._thread.context = self._new_context()
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
        row: Floats = self._searched.get([id])[0]
        return row

    def ids(self) -> Ids:
        return np.sort(np.fromiter(self._searched, np.int64))

    def memory(self) -> dict[str, int]:
        return self._searched.memory_usage()

    def parts(self) -> Sequence[Part]:
        return ()

    def refresh(self, progress: Progress) -> bool:
        return False

    def info(self) -> CollectionInfo | None:
        return None
