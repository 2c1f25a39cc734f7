"""What the screens ask of the world. `engine` answers with edgevec; tests answer with whatever they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from edgevec import SimdInfo
from edgevec.measure import Point

from .model import Answer, BuildSettings, Data, Floats, Health, Ids, Queries, Samples

__all__ = ["Clock", "Engine", "FilterLanguage", "Lane", "Load", "LoadGenerator", "Opened", "Progress", "Searcher"]

Progress = Callable[[int, int], bool]
"""progress(done, total) says whether to go on."""


class Clock(Protocol):
    """Seconds from some moment on."""

    def __call__(self) -> float: ...


class Lane(Protocol):
    """A searcher for one thread that searches in a loop.

    Gives the ids [k], or [n, k] for a batch, and the seconds that the core spent, when it can tell (a batch: None).
    """

    def __call__(self, queries: Floats, k: int, ef: int) -> tuple[Ids, float | None]: ...


class Searcher(Protocol):
    """An index."""

    @property
    def dim(self) -> int: ...
    @property
    def settings(self) -> BuildSettings: ...
    def __len__(self) -> int: ...

    def search(self, query: Floats, k: int, *, ef: int, allowed: Ids | None, exact: bool) -> Answer: ...
    def vector(self, id: int) -> Floats: ...
    def lane(self) -> Lane: ...
    def ids(self) -> Ids: ...
    def save(self, path: Path) -> None: ...
    def health(self) -> Health: ...

    def memory(self) -> dict[str, int]:
        """Bytes of each part; "total" is their sum."""


class Opened(NamedTuple):
    """What a file turned out to be: data, or an index and the data that belong to it."""

    data: Data
    searcher: Searcher | None


@dataclass(frozen=True, eq=False)
class Load:
    """What the load generator does. batch: queries a call; 1 for single ones."""

    searcher: Searcher
    queries: Queries
    k: int
    ef: int
    threads: int
    batch: int


class LoadGenerator(Protocol):
    """Asks and asks, on threads of its own, until it is stopped."""

    @property
    def state(self) -> Literal["stopped", "running", "paused"]: ...
    def start(self, load: Load) -> None: ...
    def change(self, load: Load) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...
    def drain(self) -> Samples: ...

    def failure(self) -> BaseException | None:
        """What ended it, when it was not a stop."""


class FilterLanguage(Protocol):
    """Turns what is typed into the filter box into the ids it allows."""

    def __call__(self, text: str, data: Data) -> Ids | None:
        """None: all. ParameterError, which names the offending part, when the text makes no sense."""


class Engine(Protocol):
    """Everything that takes time or touches the machine. All calls but `simd` are made on worker threads."""

    def simd(self) -> SimdInfo: ...
    def open(self, path: Path, companion: str | None, progress: Progress) -> Opened | None:
        """Read a file of vectors, or an index together with its companion: the data it was built from, when known.

        None when progress said stop.
        """

    def sample(self) -> Data: ...
    def build(self, data: Data, settings: BuildSettings, progress: Progress) -> Searcher | None:
        """None when progress said stop."""

    def queries(
        self, data: Data, searcher: Searcher, source: str, progress: Progress, *, count: int = ...
    ) -> Queries | None:
        """Queries and their truth. source: "rows", "test set", or the path of a file."""

    def load_generator(self) -> LoadGenerator: ...
    def sweep(
        self, searcher: Searcher, queries: Queries, k: int, efs: list[int], simd: str | None, progress: Progress
    ) -> Iterator[Point]:
        """Recall and latency over ef, measured in a process of its own; simd forces a path there."""

    def export_figure(self, path: Path, title: str, curves: Mapping[str, list[Point]], k: int) -> None: ...
