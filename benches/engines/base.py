"""What every engine under test looks like, and how its grid of settings is written down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from data import Floats, Ids

Value = int | float | str | bool
Options = Mapping[str, Value]

EF_GRID = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Settings:
    """What no engine may choose for itself."""

    k: int = 10
    build_threads: int = 2
    simd: str = "best"
    """Of the processor's paths; "avx2" holds those engines to it that can be held."""


class Engine(ABC):
    """An index under test. Searching uses one thread; only building may use more.

    The vectors are of unit length, so that cosine, inner product and squared L2 put them in the same order.
    """

    file_bytes = 0
    """Of a file that is mapped: in memory as long as the system has room."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def build(self, base: Floats) -> None:
        """Index the rows of base, float32 [n, dim] of unit length, under the ids 0..n-1."""

    @abstractmethod
    def tune(self, search_param: int) -> None:
        """Set the search parameter of the searches that follow. Adapters with more settings take them by keyword."""

    @abstractmethod
    def one(self, query: Floats) -> object:
        """The k nearest of one query, float32 [dim], in whatever form the engine returns."""

    @abstractmethod
    def many(self, queries: Floats) -> Ids:
        """Ids [m, k] of the nearest of each query."""


class OneByOne(Engine):
    """One query a call: it takes no batch."""

    @abstractmethod
    def ids(self, query: Floats) -> Ids:
        """The ids of the k nearest; fewer where it finds fewer."""

    def one(self, query: Floats) -> object:
        return self.ids(query)

    def many(self, queries: Floats) -> Ids:
        found = np.full((len(queries), self.settings.k), -1, np.int64)
        for row, query in zip(found, queries, strict=True):
            ids = self.ids(query)
            row[: len(ids)] = ids
        return found


@dataclass(frozen=True)
class Family:
    """A row of the table: how to make the engine, and all the settings of which its best are taken.

    builds    keyword arguments of `make`, one index each
    searches  keyword arguments of `Engine.tune` beside the search_param, tried with every build
    search_param   what the engine calls the knob that trades speed for recall
    grid      its values, ascending; between two of them the smallest that reaches a target is found by bisection
    """

    package: str
    make: Callable[..., Engine]
    builds: tuple[Options, ...] = ({},)
    searches: tuple[Options, ...] = ({},)
    search_param: str = "ef"
    grid: tuple[int, ...] = EF_GRID
