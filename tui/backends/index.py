"""A search backend over an `edgevec.Index`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgevec import CancelledError, CheckReport, IdFilter, Index, NoVectorsError, ParameterError, SearchContext

from ..filters import where_over
from ..models import (
    Answer,
    BuildSettings,
    Clock,
    CollectionInfo,
    Data,
    FilterResult,
    Floats,
    Health,
    Id,
    Ids,
    Part,
    Progress,
    QuerySpec,
    SearchCost,
)
from ..priority import run_behind
from . import bundle
from .base import ThreadSearch

__all__ = ["IndexBackend", "build_index", "graph_findings"]


def build_index(data: Data, settings: BuildSettings, progress: Progress, clock: Clock) -> IndexBackend | None:
    """Build an index over the data. None when progress returned False."""
    if data.vectors is None:
        raise NoVectorsError(f"{data.name}: only the index is open, not the data it was built from")
    index = Index(
        data.dim,
        settings.metric,
        quantization=settings.quantization,
        M=settings.M,
        ef_construction=settings.ef_construction,
    )
    try:
        run_behind(partial(index.add, data.vectors, data.ids, progress=progress))
    except CancelledError:
        return None
    return IndexBackend(index, clock)


class IndexBackend:
    """Searches an index. It caches a search context for each thread, and the last filter."""

    fixed: str | None = None

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index, self._clock = index, clock
        self._thread = threading.local()
        self._filter: tuple[str, Data, FilterResult] | None = None
        self._ids: tuple[FilterResult, IdFilter] | None = None

    @property
    def dim(self) -> int:
        return self._index.dim

    @property
    def settings(self) -> BuildSettings:
        index = self._index
        return BuildSettings(index.metric, index.quantization, index.M, index.ef_construction)

    def __len__(self) -> int:
        return len(self._index)

    def search(self, query: QuerySpec, k: int, *, ef: int, filter_result: FilterResult | None, exact: bool) -> Answer:
        context, id_filter = self._context(), self._id_filter(filter_result)
        start = self._clock()
        found = self._index.search(query.vector, k, ef=ef, filter=id_filter, exact=exact, context=context)
        seconds = self._clock() - start
        stats = context.stats
        cost = SearchCost(stats.strategy, stats.visited, stats.distances, stats.reranked, stats.seconds)
        return Answer(found.ids, found.distances, cost, seconds)

    def _context(self) -> SearchContext:
        """The context of this thread; a cancelled search may still be running on another one."""
        context: SearchContext | None = getattr(self._thread, "context", None)
        if context is None:
            context = self._thread.context = SearchContext(self._index)
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

    def thread_search(self, filter_result: FilterResult | None) -> ThreadSearch:
        index, context = self._index, SearchContext(self._index)
        id_filter = self._id_filter(filter_result)

        def ask(queries: Floats, k: int, ef: int) -> tuple[Ids, Floats, float | None]:
            found = index.search(queries, k, ef=ef, filter=id_filter, threads=1, context=context)
            return found.ids, found.distances, context.stats.seconds if queries.ndim == 1 else None

        return ask

    def ids(self) -> Ids:
        return np.sort(np.fromiter(self._index, np.int64, len(self._index)))

    def health(self) -> Health:
        report = self._index.check()
        return Health(report.ok, graph_findings(report))

    def memory(self) -> dict[str, int]:
        return self._index.memory_usage()

    def parts(self) -> Sequence[Part]:
        return ()

    def save(self, path: Path) -> None:
        self._index.save(path)

    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        bundle.write_index(folder, self._index, filter_result)

    def refresh(self, progress: Progress) -> bool:
        return False

    def info(self) -> CollectionInfo | None:
        return None

    def close(self) -> None:
        pass


def graph_findings(report: CheckReport) -> tuple[str, ...]:
    lines = [f"{report.nodes:,} nodes, {report.edges:,} links, {report.levels} levels"]
    for count, what in (
        (report.duplicates, "equal rows"),
        (report.dead, "removed"),
        (report.unreachable, "out of reach"),
        (report.bad_links, "broken links"),
        (report.bad_codes, "broken codes"),
        (report.bad_ids, "broken ids"),
    ):
        if count:
            lines.append(f"{what}: {count:,}")
    return tuple(lines)
