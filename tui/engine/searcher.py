"""An `edgevec.Index` as the screens' Searcher."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevec import Index, SearchContext

from ..model import Answer, BuildSettings, Floats, Health, Ids
from ..protocols import Clock, Lane

__all__ = ["IndexSearcher"]


class IndexSearcher:
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

    def search(self, query: Floats, k: int, *, ef: int, allowed: Ids | None, exact: bool) -> Answer:
        context = SearchContext(self._index)
        start = self._clock()
        found = self._index.search(query, k, ef=ef, filter=allowed, exact=exact, context=context)
        seconds = self._clock() - start
        return Answer(found.ids, found.distances, context.stats, seconds)

    def vector(self, id: int) -> Floats:
        row: Floats = self._index.get([id])[0]
        return row

    def lane(self) -> Lane:
        index, context = self._index, SearchContext(self._index)

        def ask(queries: Floats, k: int, ef: int) -> tuple[Ids, float | None]:
            found = index.search(queries, k, ef=ef, threads=1, context=context)
            return found.ids, context.stats.seconds if queries.ndim == 1 else None

        return ask

    def ids(self) -> Ids:
        return np.sort(np.fromiter(self._index, np.int64, len(self._index)))

    def save(self, path: Path) -> None:
        self._index.save(path)

    def health(self) -> Health:
        report = self._index.check()
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
        return Health(report.ok, tuple(lines))

    def memory(self) -> dict[str, int]:
        return self._index.memory_usage()
