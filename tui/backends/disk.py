"""A search backend over an `edgevec.DiskIndex`: an index whose graph lies on disk too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgevec import CorruptIndexError, DiskIndex, ParameterError

from ..formatting import plural
from ..models import Answer, BuildSettings, Clock, FilterResult, Health, Progress, QuerySpec, Reads, SearchCost
from . import bundle
from .any_index import AnyIndexBackend

__all__ = ["DiskBackend"]


class DiskBackend(AnyIndexBackend[DiskIndex, None]):
    """Searches an index in its file. Memory holds next to nothing of it but the ids, which the screens need."""

    fixed = "An index with its graph on disk is only searched: edgevec convert writes another one"
    times_core = False

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(DiskIndex(path), clock)
        self._path = path

    @property
    def settings(self) -> BuildSettings:
        """Vectors are compared as they are. The file does not say how the graph was built."""
        return BuildSettings(self._index.metric, "none", 0, 0)

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
        """What was read is not known if another search, as a cancelled one on its thread, ended meanwhile."""
        before = self.reads()
        answer = super().search(query, k, ef=ef, filter_result=filter_result, exact=exact)
        read = self.reads().since(before)
        alone = read if read.queries == 1 else None
        # A walk always estimates distances from codes; where few pass a filter, they are compared instead.
        compared = exact or (alone is not None and not alone.estimates)
        return answer._replace(cost=answer.cost._replace(strategy="exact" if compared else "graph", read=alone))

    def _new_context(self) -> None:
        return None

    def _options(self, context: None, nprobe: int | None) -> dict[str, Any]:
        return {}

    def _cost(self, context: None) -> SearchCost:
        return SearchCost("graph", None, None, None, None)

    def _seconds(self, context: None) -> float | None:
        return None

    def _every_id(self) -> Iterable[int]:
        return self._index.ids()

    @property
    def whole_scan(self) -> int:  # type: ignore[override]
        return self._index.memory_usage()["on_disk"]

    def reads(self) -> Reads:
        counted = self._index.stats()
        return Reads(*(counted[name] for name in ("queries", "reads", "bytes_read", "estimates")))

    def memory(self) -> dict[str, int]:
        usage = self._index.memory_usage()
        return {"total": usage["held"], "on_disk": usage["on_disk"]}

    def health(self) -> Health:
        try:
            found = self._index.check()
        except CorruptIndexError as error:
            return Health(False, (str(error),))
        lines = [f"{plural(found['nodes'], 'node')}, {plural(found['edges'], 'link')}"]
        if found["duplicates"]:
            lines.append(f"equal rows: {found['duplicates']:,}")
        return Health(True, tuple(lines))

    def save(self, path: Path) -> None:
        raise ParameterError(self.fixed)

    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        bundle.write_disk_index(folder, self._path, filter_result)

    def refresh(self, progress: Progress) -> bool:
        return False

    def close(self) -> None:
        self._index.close()
