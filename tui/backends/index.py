"""An `edgevec.Index` as the screens' SearchBackend."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevec import IdFilter, Index, ParameterError, SearchContext
from edgevec.index import CheckReport

from ..filters import where_over
from ..models import (
    Answer,
    BuildSettings,
    CollectionInfo,
    Data,
    FilterResult,
    Floats,
    Health,
    Id,
    Ids,
    QuerySpec,
    SearchCost,
)
from . import bundle
from .base import Clock, FilterLanguage, Progress, ThreadSearch

__all__ = ["IndexBackend", "graph_findings"]


class IndexBackend:
    def __init__(self, index: Index, clock: Clock) -> None:
        self._index, self._clock = index, clock

    @property
    def dim(self) -> int:
        return self._index.dim

    @property
    def settings(self) -> BuildSettings:
        index = self._index
        return BuildSettings(index.metric, index.quantization, index.M, index.ef_construction)

    def __len__(self) -> int:
        return len(self._index)

    def search(self, question: QuerySpec, k: int, *, ef: int, allowed: FilterResult | None, exact: bool) -> Answer:
        context = SearchContext(self._index)
        only = None if allowed is None else allowed.by
        start = self._clock()
        found = self._index.search(question.vector, k, ef=ef, filter=only, exact=exact, context=context)
        seconds = self._clock() - start
        spent = context.stats
        work = SearchCost(spent.strategy, spent.visited, spent.distances, spent.reranked, spent.seconds)
        return Answer(found.ids, found.distances, work, seconds)

    def filters(self, data: Data) -> FilterLanguage:
        return where_over(data)

    def vector(self, id: Id) -> Floats:
        if isinstance(id, str):
            raise ParameterError(f"the ids of an index are numbers, not {id!r}")
        row: Floats = self._index.get([id])[0]
        return row

    def thread_search(self, allowed: FilterResult | None) -> ThreadSearch:
        index, context = self._index, SearchContext(self._index)
        only = None if allowed is None else IdFilter(allowed.by)

        def ask(queries: Floats, k: int, ef: int) -> tuple[Ids, Floats, float | None]:
            found = index.search(queries, k, ef=ef, filter=only, threads=1, context=context)
            return found.ids, found.distances, context.stats.seconds if queries.ndim == 1 else None

        return ask

    def ids(self) -> Ids:
        return np.sort(np.fromiter(self._index, np.int64, len(self._index)))

    def health(self) -> Health:
        report = self._index.check()
        return Health(report.ok, graph_findings(report))

    def memory(self) -> dict[str, int]:
        return self._index.memory_usage()

    def save(self, path: Path) -> None:
        self._index.save(path)

    def write_bundle(self, folder: Path, allowed: FilterResult | None) -> None:
        bundle.write_index(folder, self._index, allowed)

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
