"""The one interface to what is searched, which the app has twice: an index in memory, and a collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

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
    Progress,
    QuerySpec,
)

__all__ = ["Opened", "SearchBackend", "StoppedError", "ThreadSearch", "raise_when_stopped"]


class ThreadSearch(Protocol):
    """A backend for one thread that searches in a loop.

    Gives the ids of each query, their distances, and the seconds that the core spent, when it can tell (a batch: None).
    """

    def __call__(
        self, queries: Floats, k: int, ef: int
    ) -> tuple[Ids | Sequence[Any], Floats | Sequence[Any], float | None]: ...


class SearchBackend(Protocol):
    """An index, or a collection, whose records may change while it is open."""

    @property
    def dim(self) -> int: ...
    @property
    def settings(self) -> BuildSettings: ...
    def __len__(self) -> int:
        """As of the last refresh."""

    def search(self, query: QuerySpec, k: int, *, ef: int, allowed: FilterResult | None, exact: bool) -> Answer: ...
    def filter(self, text: str, data: Data) -> FilterResult | None:
        """What a condition lets through; data: what belongs to the index. None: there is none, and all are allowed.

        WhereError, with the place, or ParameterError, which names the part, when it makes no sense.
        """

    def vector(self, id: Id) -> Floats: ...
    def thread_search(self, allowed: FilterResult | None) -> ThreadSearch: ...
    def ids(self) -> NDArray[Any]:
        """int64; of a collection object, integers and texts, in order of insertion."""

    def health(self) -> Health: ...
    def memory(self) -> dict[str, int]:
        """Bytes of each part; "total" is their sum."""

    def save(self, path: Path) -> None: ...
    def write_bundle(self, folder: Path, allowed: FilterResult | None) -> None:
        """Put into a folder what another process needs to search the same (`tui.sweep`)."""

    def refresh(self, progress: Progress) -> bool:
        """See what others have written meanwhile. Says whether there was something."""

    def info(self) -> CollectionInfo | None:
        """What a collection holds; None for an index."""

    def close(self) -> None:
        """Close its files; it is not used again."""


class Opened(NamedTuple):
    """What a file turned out to be: data, or an index and the data that belong to it."""

    data: Data
    backend: SearchBackend | None


class StoppedError(Exception):
    """The user stopped the opening of a file."""


def raise_when_stopped(progress: Progress) -> Callable[[int, int], None]:
    """The progress function for a call that has no result to return when it is stopped: it raises StoppedError."""

    def report(done: int, total: int) -> None:
        if not progress(done, total):
            raise StoppedError

    return report
