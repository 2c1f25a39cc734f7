"""What the screens ask of the world. `engine` answers with edgevec; tests answer with whatever they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from edgevec import SimdInfo
from edgevec.evaluation import Point

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
    Measurements,
    Queries,
    QuerySpec,
)

__all__ = [
    "Clock",
    "Engine",
    "FilterLanguage",
    "LoadGenerator",
    "LoadSpec",
    "Opened",
    "Progress",
    "SearchBackend",
    "ThreadSearch",
]

Progress = Callable[[int, int], bool]
"""progress(done, total) says whether to go on."""


class Clock(Protocol):
    """Seconds from some moment on."""

    def __call__(self) -> float: ...


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

    def search(self, question: QuerySpec, k: int, *, ef: int, allowed: FilterResult | None, exact: bool) -> Answer: ...
    def filters(self, data: Data) -> FilterLanguage:
        """What its filter box speaks; data: what belongs to it."""

    def vector(self, id: Id) -> Floats: ...
    def thread_search(self, allowed: FilterResult | None) -> ThreadSearch: ...
    def ids(self) -> NDArray[Any]:
        """int64; of a collection object, integers and texts, in order of insertion."""

    def health(self) -> Health: ...
    def memory(self) -> dict[str, int]:
        """Bytes of each part; "total" is their sum."""

    def save(self, path: Path) -> None: ...
    def write_bundle(self, folder: Path, allowed: FilterResult | None) -> None:
        """Put into a folder what another process needs to search the same (`engine.probe`)."""

    def refresh(self, progress: Progress) -> bool:
        """See what others have written meanwhile. Says whether there was something."""

    def info(self) -> CollectionInfo | None:
        """What a collection holds; None for an index."""

    def close(self) -> None:
        """Let go of its files; it is not asked again."""


class Opened(NamedTuple):
    """What a file turned out to be: data, or an index and the data that belong to it."""

    data: Data
    backend: SearchBackend | None


@dataclass(frozen=True, eq=False)
class LoadSpec:
    """What the load generator does. batch: queries a call; 1 for single ones."""

    backend: SearchBackend
    queries: Queries
    k: int
    ef: int
    threads: int
    batch: int


class LoadGenerator(Protocol):
    """Asks and asks, on threads of its own, until it is stopped."""

    @property
    def state(self) -> Literal["stopped", "running", "paused"]: ...
    def start(self, load: LoadSpec) -> None: ...
    def change(self, load: LoadSpec) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...
    def drain(self) -> Measurements: ...

    def failure(self) -> BaseException | None:
        """What ended it, when it was not a stop."""


class FilterLanguage(Protocol):
    """Turns what is typed into the filter box into what it allows."""

    def __call__(self, text: str) -> FilterResult | None:
        """None: all. WhereError, with the place, or ParameterError, which names the part, when it makes no sense."""


class Engine(Protocol):
    """Everything that takes time or touches the machine. All calls but `simd` are made on worker threads."""

    def simd(self) -> SimdInfo: ...
    def open(self, path: Path, companion: str | None, progress: Progress) -> Opened | None:
        """Read a file of vectors; an index together with its companion: the data it was built from, when known; or
        a collection, for reading.

        None when progress said stop.
        """

    def sample(self) -> Data: ...
    def build(self, data: Data, settings: BuildSettings, progress: Progress) -> SearchBackend | None:
        """None when progress said stop."""

    def queries(
        self,
        data: Data,
        backend: SearchBackend,
        source: str,
        progress: Progress,
        *,
        allowed: FilterResult | None = ...,
        count: int = ...,
    ) -> Queries | None:
        """Queries and their truth. source: "rows", "test set", or the path of a file; allowed: the filter, if any."""

    def load_generator(self) -> LoadGenerator: ...
    def sweep(
        self, backend: SearchBackend, queries: Queries, k: int, efs: list[int], simd: str | None, progress: Progress
    ) -> Iterator[Point]:
        """Recall and latency over ef, measured in a process of its own; simd forces a path there."""

    def export_figure(self, path: Path, title: str, curves: Mapping[str, list[Point]], k: int) -> None: ...
