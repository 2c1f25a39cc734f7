"""A search backend over an `edgevec.ShardedIndex`: a folder of shards with a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgevec import ParameterError, ShardedIndex
from edgevec.sharded import MANIFEST, ShardContext

from ..formatting import plural
from ..models import BuildSettings, Clock, Data, FilterResult, Health, Part, Progress, SearchCost
from . import bundle
from .any_index import AnyIndexBackend
from .base import Opened
from .index import graph_findings

__all__ = ["ShardsBackend", "folder_of_shards", "open_shards"]


def folder_of_shards(path: Path) -> Path | None:
    """The folder of an index of shards, which is what is opened, or in which its manifest is; None of other paths."""
    folder = path.parent if path.name == MANIFEST else path
    return folder if (folder / MANIFEST).is_file() else None


def open_shards(folder: Path, clock: Clock) -> Opened:
    """All shards are mapped and verified. Only the index is there, not the data that it was built from."""
    backend = ShardsBackend(ShardedIndex.open(folder), folder, clock)
    return Opened(Data(folder.name, backend.dim, backend.ids(), metric=backend.settings.metric), backend)


class ShardsBackend(AnyIndexBackend[ShardedIndex, ShardContext]):
    """Searches all shards. What other programs change is seen by the next search."""

    fixed = "An index of shards lies in its folder: edgevec shards … changes it"

    def __init__(self, index: ShardedIndex, folder: Path, clock: Clock) -> None:
        super().__init__(index, clock)
        self._folder = folder

    @property
    def settings(self) -> BuildSettings:
        built = self._index.manifest.settings
        return BuildSettings(built.metric, built.quantization, built.M, built.ef_construction)

    @property
    def most_probes(self) -> int:
        manifest = self._index.manifest
        return sum(shard.centroids is not None for shard in manifest.shards) if manifest.cluster else 0

    def _options(self, context: ShardContext, nprobe: int | None) -> dict[str, Any]:
        return {"context": context} | ({} if nprobe is None else {"nprobe": nprobe})

    def _new_context(self) -> ShardContext:
        return ShardContext(self._index)

    def _cost(self, context: ShardContext) -> SearchCost:
        """Of all shards. The time in the core is not known: several threads ask, each some shards."""
        stats = [each.search for each in context.stats if each.search is not None]
        return SearchCost(
            " and ".join(dict.fromkeys(each.strategy for each in stats)) or "exact",
            sum(each.visited for each in stats),
            sum(each.distances for each in stats),
            sum(each.reranked for each in stats),
            None,
        )

    def _seconds(self, context: ShardContext) -> float:
        """Of a thread that asks one shard after the other, so that their times add up."""
        return sum(each.search.seconds for each in context.stats if each.search)

    def _every_id(self) -> Iterable[int]:
        return self._index

    def health(self) -> Health:
        reports = self._index.check()
        lines = [line for report in reports.values() if not report.ok for line in graph_findings(report)]
        return Health(all(report.ok for report in reports.values()), (plural(len(reports), "shard"), *lines))

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

    def close(self) -> None:
        self._index.close()
