"""The protocol of search backends: of an index, in memory or with its graph on disk, of a collection, and of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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
    Part,
    Progress,
    QuerySpec,
    Reads,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Opened", "SearchBackend", "ThreadSearch"]


class ThreadSearch(Protocol):
    """The search function for one thread of the load generator.

    Returns ids and distances of each query, and the seconds spent in the core (None if unknown, as for a batch).
    """

    def __call__(
        self, queries: Floats, k: int, ef: int
    ) -> tuple[Ids | Sequence[Any], Floats | Sequence[Any], float | None]: ...


class SearchBackend(Protocol):
    """What the screens search: an index; or a collection or shards, which may change while they are open."""

    @property
    def fixed(self) -> str | None:
        """Why nothing is built or saved here, for the user; None where it can be."""

    @property
    def dim(self) -> int: ...
    @property
    def settings(self) -> BuildSettings:
        """What it was built with; M and ef_construction are 0 where that is not known."""

    def __len__(self) -> int:
        """As of the last refresh."""

    @property
    def most_probes(self) -> int:
        """Of an index of shards that was built with clusters, the shards that a search can be asked of; of others 0."""

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
        """nprobe: the shards that are asked, where most_probes says that there are some to choose from; None: all."""

    def filter(self, text: str, data: Data) -> FilterResult | None:
        """What passes a condition on `data`; None for an empty condition.

        Raises WhereError, with the position, or ParameterError for an invalid condition.
        """

    def vector(self, id: Id) -> Floats: ...
    def thread_search(self, filter_result: FilterResult | None, nprobe: int | None = None) -> ThreadSearch: ...
    def ids(self) -> NDArray[Any]:
        """int64; of a collection object, integers and texts, in order of insertion."""

    def health(self) -> Health: ...
    def memory(self) -> dict[str, int]:
        """Bytes of each part; "total" is their sum."""

    @property
    def whole_scan(self) -> int:
        """Bytes that an exact search, or a check, reads from the disk; 0 where vectors are in memory or mapped."""

    @property
    def times_core(self) -> bool:
        """Whether the time in the C core is known of a search; else that of the whole call is."""

    def reads(self) -> Reads | None:
        """Of all searches since it was opened; None where that is not counted."""

    def parts(self) -> Sequence[Part]:
        """The files of an index of shards; none of others."""

    def save(self, path: Path) -> None: ...
    def write_bundle(self, folder: Path, filter_result: FilterResult | None) -> None:
        """Write to a folder what the measuring process needs to search the same (see `tui.sweep`)."""

    def refresh(self, progress: Progress) -> bool:
        """Take in what other processes have committed. Returns whether there was something new."""

    def info(self) -> CollectionInfo | None:
        """Counts and sizes of a collection; None for an index."""

    def close(self) -> None:
        """Close its files."""


class Opened(NamedTuple):
    """An opened file: data alone, or an index with its data."""

    data: Data
    backend: SearchBackend | None
