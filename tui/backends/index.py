"""A search backend over an `edgevec.Index`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from edgevec import CancelledError, CheckReport, Index, NoVectorsError, SearchContext

from ..formatting import plural
from ..models import BuildSettings, Clock, Data, FilterResult, Health, Progress, SearchCost
from ..priority import run_behind
from . import bundle
from .any_index import AnyIndexBackend

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


class IndexBackend(AnyIndexBackend[Index, SearchContext]):
    """Searches an index in memory."""

    @property
    def settings(self) -> BuildSettings:
        index = self._index
        return BuildSettings(index.metric, index.quantization, index.M, index.ef_construction)

    def _new_context(self) -> SearchContext:
        return SearchContext(self._index)

    def _cost(self, context: SearchContext) -> SearchCost:
        stats = context.stats
        return SearchCost(stats.strategy, stats.visited, stats.distances, stats.reranked, stats.seconds)

    def _seconds(self, context: SearchContext) -> float:
        return context.stats.seconds

    def _every_id(self) -> Iterable[int]:
        return self._index

    def health(self) -> Health:
        report = self._index.check()
        return Health(report.ok, graph_findings(report))

    def save(self, path: Path) -> None:
        self._index.save(path)

    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        bundle.write_index(folder, self._index, filter_result)

    def close(self) -> None:
        pass


def graph_findings(report: CheckReport) -> tuple[str, ...]:
    counts = ((report.nodes, "node"), (report.edges, "link"), (report.levels, "level"))
    lines = [", ".join(plural(count, what) for count, what in counts)]
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
