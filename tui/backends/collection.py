"""A search backend over an `edgevec.Collection` that is open for reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import edgevec
from edgevec import CancelledError, Collection

from ..models import BuildSettings, Clock, CollectionInfo, FilterResult, Health, Part, Progress
from . import bundle
from .any_collection import HEAD, AnyCollectionBackend, data_of
from .base import Opened
from .index import graph_findings

__all__ = ["CollectionBackend", "open_collection"]


def open_collection(path: Path, progress: Progress, clock: Clock) -> Opened | None:
    """Open a collection for reading, so that another process may write it. None when progress returned False."""
    try:
        collection = edgevec.open(path, mode="r", progress=progress)
    except CancelledError:
        return None
    try:
        backend = CollectionBackend(collection, clock)
        return Opened(data_of(backend, next(collection.pages(HEAD), []), path), backend)
    except BaseException:
        collection.close()
        raise


class CollectionBackend(AnyCollectionBackend[Collection]):
    """Searches a collection in one file."""

    @property
    def settings(self) -> BuildSettings:
        collection = self._collection
        return BuildSettings(collection.metric, collection.quantization, collection.M, collection.ef_construction)

    def documents(self) -> int:
        count: int = self._collection.stats()["documents"]
        return count

    def _take_in(self, progress: Progress) -> int:
        return self._collection.refresh(progress=progress)

    def health(self) -> Health:
        """Check with a second reader, so that searches need not wait."""
        with edgevec.open(self._path, mode="r") as other:
            report = other.check()
        lines = [] if report.graph is None else list(graph_findings(report.graph))
        for count, what in ((report.missing, "missing"), (report.extra, "too many"), (report.stale, "out of date")):
            if count:
                lines.append(f"{what} in the graph: {count:,}")
        return Health(report.ok, (*lines, *report.problems))

    def memory(self) -> dict[str, int]:
        return {"total": self._collection.stats()["memory_bytes"]}

    def parts(self) -> Sequence[Part]:
        return ()

    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        bundle.write_collection(folder, self._path, filter_result)

    def info(self) -> CollectionInfo | None:
        collection, stats = self._collection, self._collection.stats()
        return CollectionInfo(
            stats["records"],
            stats["documents"],
            collection.dtype,
            stats["file_bytes"],
            stats["log_bytes"],
            stats["snapshot_bytes"],
            stats["memory_bytes"],
            stats["changes_since_snapshot"],
            tuple(collection.indexes()),
        )

    @property
    def _path(self) -> Path:
        assert self._collection.path is not None
        return self._collection.path
