"""What the app uses of the library and the machine, as plain functions that tests can replace:

EdgevecApp(services=dataclasses.replace(Services(), clock=FakeClock(), sweep=fake_sweep))
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import edgevec
from edgevec import Quantization, SimdInfo, plot
from edgevec.evaluation import Point

from . import query_set, sweep
from .backends.base import Opened, SearchBackend
from .backends.index import build_index
from .backends.open import open_file, read_sample
from .load_generator import LoadGenerator
from .models import BuildSettings, Clock, Data, FilterResult, Progress, Queries
from .session import IndexEntry, Session

__all__ = ["Services", "build_variant"]


class _MakeQuerySet(Protocol):
    def __call__(
        self, data: Data, backend: SearchBackend, source: str, progress: Progress, *, filter_result: FilterResult | None
    ) -> Queries | None: ...


@dataclass(frozen=True)
class Services:
    """The functions that the app calls. All but `clock`, `simd_info` and `load_generator` run on worker threads."""

    clock: Clock = time.perf_counter
    simd_info: Callable[[], SimdInfo] = edgevec.simd_info
    open_file: Callable[[Path, str | None, Progress, Clock], Opened | None] = open_file
    read_sample: Callable[[], Data] = read_sample
    build_index: Callable[[Data, BuildSettings, Progress, Clock], SearchBackend | None] = build_index
    make_query_set: _MakeQuerySet = query_set.make
    load_generator: Callable[[Clock], LoadGenerator] = LoadGenerator
    sweep: Callable[[SearchBackend, Queries, int, list[int], str | None, Progress], Iterator[Point]] = sweep.run
    save_plot: Callable[[Path, str, Mapping[str, list[Point]], int], None] = plot.save


def build_variant(
    services: Services, session: Session, quantization: Quantization
) -> Callable[[Progress], IndexEntry | None]:
    """A function for a worker that returns the index in use with another quantization, and builds it if need be.

    It returns None when progress returned False.
    """
    data, backend = session.data, session.backend
    assert data is not None
    assert backend is not None
    settings = dataclasses.replace(backend.settings, quantization=quantization)
    known = session.entries.get(settings)

    def build(progress: Progress) -> IndexEntry | None:
        if known is not None:
            return known
        start = services.clock()
        built = services.build_index(data, settings, progress, services.clock)
        return None if built is None else IndexEntry(built, services.clock() - start)

    return build
