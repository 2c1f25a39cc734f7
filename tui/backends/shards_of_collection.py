"""A search backend over an `edgevec.ShardedCollection`: a folder of collections with a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevec import ShardedCollection

from ..models import BuildSettings, Clock, CollectionInfo, FilterResult, Health, Part, Progress
from . import bundle
from .any_collection import HEAD, AnyCollectionBackend, data_of
from .base import Opened
from .index import graph_findings

__all__ = ["ShardedCollectionBackend", "open_sharded_collection"]


def open_sharded_collection(folder: Path, clock: Clock) -> Opened:
    """All shards are mapped and verified."""
    collection = ShardedCollection.open(folder)
    try:
        backend = ShardedCollectionBackend(collection, folder, clock)
        head = collection.get(backend.ids()[:HEAD].tolist())
        return Opened(data_of(backend, head, folder), backend)
    except BaseException:
        collection.close()
        raise


class ShardedCollectionBackend(AnyCollectionBackend[ShardedCollection]):
    """Searches all shards. What other programs change is seen by the next search."""

    fixed = "A collection in shards lies in its folder: edgevec shards … changes it"

    def __init__(self, collection: ShardedCollection, folder: Path, clock: Clock) -> None:
        super().__init__(collection, clock)
        self._folder = folder

    @property
    def settings(self) -> BuildSettings:
        built = self._collection.manifest.settings
        return BuildSettings(built.metric, built.quantization, built.M, built.ef_construction)

    def documents(self) -> int:
        return sum(each["documents"] for each in self._collection.stats().values())

    def _take_in(self, progress: Progress) -> int:
        self._collection.refresh()
        return self._collection.manifest.generation

    def health(self) -> Health:
        reports = self._collection.check()
        lines = [line for report in reports.values() for line in report.problems]
        for report in reports.values():
            if not report.ok and report.graph is not None:
                lines += graph_findings(report.graph)
        return Health(all(report.ok for report in reports.values()), (f"{len(reports):,} shards", *lines))

    def memory(self) -> dict[str, int]:
        return self._collection.memory_usage()

    def parts(self) -> Sequence[Part]:
        return [
            Part(each.file, each.count, 0, f"{each.first_id}..{each.last_id}", each.bytes + each.graph_bytes)
            for each in self._collection.shards
        ]

    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        bundle.write_collection(folder, self._folder, filter_result)

    def info(self) -> CollectionInfo | None:
        shards, settings = self._collection.shards, self._collection.manifest.settings
        return CollectionInfo(
            len(self),
            self.documents(),
            settings.dtype,
            sum(each.bytes for each in shards),
            0,
            sum(each.graph_bytes for each in shards),
            self.memory()["graph"],
            0,
            (),
        )
