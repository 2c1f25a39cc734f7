"""What the app uses of the library and the machine, as plain functions that tests can replace:

EdgevecApp(services=dataclasses.replace(Services(), clock=FakeClock(), sweep=fake_sweep))
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import edgevec

from .models import BuildSettings, Clock, Data, FilterResult, Progress, Queries
from .session import IndexEntry, Session

if TYPE_CHECKING:
    from edgevec import Quantization, SimdInfo
    from edgevec.evaluation import Point

    from .backends.base import Opened, SearchBackend
    from .load_generator import LoadGenerator

__all__ = ["Services", "build_variant"]


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when it is first called: the first screen does without NumPy."""

    def call(*args: Any, **named: Any) -> Any:
        return getattr(importlib.import_module(module, __package__), name)(*args, **named)

    return call


_open_file, _read_sample = _later(".backends.open", "open_file"), _later(".backends.open", "read_sample")
_build_index, _make_query_set = _later(".backends.index", "build_index"), _later(".query_set", "make")
_load_generator, _sweep = _later(".load_generator", "LoadGenerator"), _later(".sweep", "run")
_save_plot = _later("edgevec.plot", "save")


class _MakeQuerySet(Protocol):
    def __call__(
        self, data: Data, backend: SearchBackend, source: str, progress: Progress, *, filter_result: FilterResult | None
    ) -> Queries | None: ...


class _Sweep(Protocol):
    def __call__(
        self,
        backend: SearchBackend,
        queries: Queries,
        k: int,
        efs: list[int],
        simd: str | None,
        nprobe: int | None,
        progress: Progress,
    ) -> Iterator[Point]: ...


@dataclass(frozen=True)
class Services:
    """The functions that the app calls. All but `clock`, `simd_info` and `load_generator` run on worker threads."""

    clock: Clock = time.perf_counter
    simd_info: Callable[[], SimdInfo] = edgevec.simd_info
    open_file: Callable[[Path, str | None, Progress, Clock], Opened | None] = _open_file
    read_sample: Callable[[], Data] = _read_sample
    build_index: Callable[[Data, BuildSettings, Progress, Clock], SearchBackend | None] = _build_index
    make_query_set: _MakeQuerySet = _make_query_set
    load_generator: Callable[[Clock], LoadGenerator] = _load_generator
    sweep: _Sweep = _sweep
    save_plot: Callable[[Path, str, Mapping[str, list[Point]], int], None] = _save_plot


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
