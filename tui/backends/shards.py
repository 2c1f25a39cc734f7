"""A search backend over an `edgevec.ShardedIndex`: a folder of shards with a manifest."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgevec import IdFilter, ParameterError, ShardedIndex
from edgevec.sharded import ShardContext

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
from . import bundle
from .base import Opened, ThreadSearch
from .index import graph_findings

__all__ = ["ShardsBackend", "folder_of_shards", "open_shards"]

_MANIFEST = "manifest.json"


def folder_of_shards(path: Path) -> Path | None:
    """The folder of an index of shards, which is what is opened, or in which its manifest is; None of other paths."""
    folder = path.parent if path.name == _MANIFEST else path
    return folder if (folder / _MANIFEST).is_file() else None


def open_shards(folder: Path, clock: Clock) -> Opened:
    """All shards are mapped and verified. Only the index is there, not the data that it was built from."""
    backend = ShardsBackend(ShardedIndex.open(folder), folder, clock)
    return Opened(Data(folder.name, backend.dim, backend.ids(), metric=backend.settings.metric), backend)


class ShardsBackend:
    """Searches all shards. What other programs change is seen by the next search."""

    fixed = "An index of shards lies in its folder: edgevec shards … changes it"

    def __init__(self, index: ShardedIndex, folder: Path, clock: Clock) -> None:
        self._index, self._folder, self._clock = index, folder, clock
        self._thread = threading.local()
        self._ids: tuple[FilterResult, IdFilter] | None = None

    @property
    def dim(self) -> int:
        return self._index.dim

    @property
    def settings(self) -> BuildSettings:
        built = self._index.manifest.settings
        return BuildSettings(built.metric, built.quantization, built.M, built.ef_construction)

    def __len__(self) -> int:
        return len(self._index)

    def search(self, query: QuerySpec, k: int, *, ef: int, filter_result: FilterResult | None, exact: bool) -> Answer:
        context, id_filter = self._context(), self._id_filter(filter_result)
        start = self._clock()
        found = self._index.search(query.vector, k, ef=ef, filter=id_filter, exact=exact, context=context)
        return Answer(found.ids, found.distances, _cost(context), self._clock() - start)

    def _context(self) -> ShardContext:
        """The context of this thread; a cancelled search may still be running on another one."""
        context: ShardContext | None = getattr(self._thread, "context", None)
        if context is None:
            context = self._thread.context = ShardContext(self._index)
        return context

    def _id_filter(self, filter_result: FilterResult | None) -> IdFilter | None:
        cached = self._ids
        if filter_result is None:
            return None
        if cached is None or cached[0] is not filter_result:
            cached = self._ids = (filter_result, IdFilter(filter_result.selection))
        return cached[1]

    def filter(self, text: str, data: Data) -> FilterResult | None:
        return where_over(data)(text)

    def vector(self, id: Id) -> Floats:
        if isinstance(id, str):
            raise ParameterError(f"the ids of an index are numbers, not {id!r}")
        row: Floats = self._index.get([id])[0]
        return row

    def thread_search(self, filter_result: FilterResult | None) -> ThreadSearch:
        """One thread asks one shard after the other, so their times add up."""
        index, context, id_filter = self._index, ShardContext(self._index), self._id_filter(filter_result)

        def ask(queries: Floats, k: int, ef: int) -> tuple[Ids, Floats, float | None]:
            found = index.search(queries, k, ef=ef, filter=id_filter, threads=1, context=context)
            if queries.ndim != 1:
                return found.ids, found.distances, None
            return found.ids, found.distances, sum(each.search.seconds for each in context.stats if each.search)

        return ask

    def ids(self) -> Ids:
        return np.sort(np.fromiter(self._index, np.int64))

    def health(self) -> Health:
        reports = self._index.check()
        lines = [line for report in reports.values() if not report.ok for line in graph_findings(report)]
        return Health(all(report.ok for report in reports.values()), (f"{len(reports):,} shards", *lines))

    def memory(self) -> dict[str, int]:
        return self._index.memory_usage()

    def parts(self) -> Sequence[Part]:
        return [
            Part(each.file, each.live, each.count - each.live, f"{each.first_id}..{each.last_id}", each.bytes)
            for each in self._index.shards
        ]

    def save(self, path: Path) -> None:
        raise ParameterError(self.fixed)

    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        bundle.write_shards(folder, self._folder, filter_result)

    def refresh(self, progress: Progress) -> bool:
        return self._index.refresh()

    def info(self) -> CollectionInfo | None:
        return None

    def close(self) -> None:
        self._index.close()


def _cost(context: ShardContext) -> SearchCost:
    """Of all shards. The time in the core is not known: several threads ask, each some shards."""
    stats = [each.search for each in context.stats if each.search is not None]
    strategies = dict.fromkeys(each.strategy for each in stats)
    return SearchCost(
        " and ".join(strategies) or "exact",
        sum(each.visited for each in stats),
        sum(each.distances for each in stats),
        sum(each.reranked for each in stats),
        None,
    )
