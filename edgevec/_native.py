"""The C library to Python: buffers in, return codes checked. Only this, _simd and _callbacks see it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt

import edgevec._core as _core
from edgevec import _callbacks as callbacks
from edgevec import errors
from edgevec._simd import text
from edgevec._types import (
    CheckReport,
    KeepVectors,
    Metric,
    PathLike,
    Progress,
    Quantization,
    SearchStats,
    Storage,
)

__all__ = ["CLOSED", "NativeContext", "NativeDisk", "NativeFilter", "NativeIndex", "NativeSearches", "read_numbers"]

ffi, lib = _core.ffi, _core.lib

# In the order of the numbers that they are in C.
_METRICS: tuple[Metric, ...] = get_args(Metric)
_QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
_STORAGES: tuple[Storage, ...] = get_args(Storage)
_STRATEGIES = ("graph", "exact", "filtered_graph")

_PARAMS, _SEARCH_PARAMS = ffi.typeof("ev_params *"), ffi.typeof("ev_search_params *")
_SEARCH_STATS, _STATS = ffi.typeof("ev_search_stats *"), ffi.typeof("ev_stats *")
_DISK_PARAMS, _DISK_STATS = ffi.typeof("ev_disk_search_params *"), ffi.typeof("ev_disk_stats *")
_DISK_REPORT = ffi.typeof("ev_disk_report *")
_MEMORY, _REPORT = ffi.typeof("ev_memory *"), ffi.typeof("ev_report *")
_FLOATS, _INT64S, _CHARS = ffi.typeof("float[]"), ffi.typeof("int64_t[]"), ffi.typeof("char[]")
_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)
_QUERIES_AT_ONCE = 4096
"""Batches are cut into runs of this many, between which calls that change the index have their turn."""

_ERRORS: dict[int, type[errors.EdgevecError]] = {
    lib.EV_E_PARAM: errors.ParameterError,
    lib.EV_E_NOT_FINITE: errors.NotFiniteError,
    lib.EV_E_ZERO: errors.ZeroVectorError,
    lib.EV_E_DUPLICATE: errors.DuplicateIdError,
    lib.EV_E_NO_ID: errors.UnknownIdError,
    lib.EV_E_NOMEM: errors.OutOfMemoryError,
    lib.EV_E_FULL: errors.OutOfMemoryError,
    lib.EV_E_MEMORY_LIMIT: errors.MemoryLimitError,
    lib.EV_E_SIMD: errors.SimdError,
    lib.EV_E_IO: errors.StorageError,
    lib.EV_E_CORRUPT: errors.CorruptIndexError,
    lib.EV_E_VERSION: errors.FormatVersionError,
    lib.EV_E_NOT_FOUND: errors.IndexNotFoundError,
    lib.EV_E_STOPPED: errors.CancelledError,
    lib.EV_E_REENTRANT: errors.BusyError,
    lib.EV_E_BUSY: errors.BusyError,
    lib.EV_E_FORKED: errors.ForkedError,
    lib.EV_E_CLOSED: errors.ClosedError,
}
_Struct = TypeVar("_Struct", bound="_core.CData")
_OF_FILES = (errors.StorageError, errors.IndexNotFoundError)


def read_numbers(text: bytes, out: npt.NDArray[np.float32]) -> int:
    """Read a JSON array of len(out) numbers at the start of a text; the bytes read, 0 for anything else."""
    return lib.ev_read_numbers(text, len(text), len(out), ffi.from_buffer(_FLOATS, out))


def check(code: int, path: str | os.PathLike[str] | None = None, first_row: int = 0) -> None:
    """Raise what a return code stands for.

    Args:
        path: the file that the call was about
        first_row: the caller's row that was the call's row 0
    """
    if code == 0:
        return
    callbacks.raised.reraise()
    kind = _ERRORS.get(code, errors.EdgevecError)
    row, detail = lib.ev_error_row(), text(lib.ev_error_detail())
    if first_row and row >= 0:
        detail = detail.replace(f"row {row}", f"row {first_row + row}")
    parts = ("" if path is None else str(path), text(lib.ev_strerror(code)), detail)
    message = ": ".join(part for part in parts if part)
    # under no name: an error that its own frame holds would keep the caller's buffers exported
    if issubclass(kind, _OF_FILES):
        raise errors.about_file(kind(message), path, lib.ev_error_errno() or None)
    raise kind(message)


def pointer(array: npt.NDArray[Any], kind: _core.CType[_core.CData]) -> _core.CData:
    """A C pointer into an array's own memory; the array must outlive its use."""
    return ffi.from_buffer(kind, array)


class NativeIndex:
    """An index of the C core: arrays in, arrays out. The caller has checked shapes and ranges."""

    def __init__(self, handle: _core.ev_index) -> None:
        callbacks.ensure_heard()
        self.handle = ffi.gc(handle, lib.ev_free)
        self.params = ffi.new(_PARAMS)  # but for ef, which can change
        lib.ev_get_params(handle, self.params)
        self.dim = self.params.dim

    @classmethod
    def new(
        cls,
        dim: int,
        metric: Metric,
        quantization: Quantization,
        M: int,
        ef_construction: int,
        ef: int,
        keep_vectors: KeepVectors,
        seed: int,
        storage: Storage,
    ) -> NativeIndex:
        if metric not in _METRICS:
            raise errors.ParameterError(f"metric must be one of {', '.join(_METRICS)}, not {metric!r}")
        if quantization not in _QUANTIZATIONS:
            raise errors.ParameterError(
                f"quantization must be one of {', '.join(_QUANTIZATIONS)}, not {quantization!r}"
            )
        params = ffi.new(_PARAMS)
        params.storage = _STORAGES.index(_storage(storage))
        params.dim, params.M, params.ef_construction, params.ef, params.seed = dim, M, ef_construction, ef, seed
        params.metric, params.quantization = _METRICS.index(metric), _QUANTIZATIONS.index(quantization)
        params.keep_vectors = _vectors_kept(keep_vectors)
        out = ffi.new("ev_index **")
        check(lib.ev_new(params, out))
        return cls(out[0])

    @classmethod
    def load(cls, path: PathLike, mmap: bool, verify: bool, memory_limit: int, storage: Storage) -> NativeIndex:
        out = ffi.new("ev_index **")
        how = lib.EV_MAP_NONE if not mmap else lib.EV_MAP_VERIFIED if verify else lib.EV_MAP_UNVERIFIED
        if _storage(storage) == "disk":
            if mmap:
                raise errors.ParameterError('storage="disk" reads vectors from the file, mmap=True maps it: give one')
            how = lib.EV_MAP_DISK
        check(lib.ev_load_within(_file_name(path), how, memory_limit, out), path)
        return cls(out[0])

    @classmethod
    def from_bytes(cls, data: memoryview, memory_limit: int) -> NativeIndex:
        out = ffi.new("ev_index **")
        check(lib.ev_load_bytes_within(data.nbytes, ffi.from_buffer(_CHARS, data), memory_limit, out))
        return cls(out[0])

    def close(self) -> None:
        code = lib.ev_close(self.handle)
        if code not in (lib.EV_E_CLOSED, lib.EV_E_FORKED):  # nothing is under way in what was forked half changed
            check(code)

    @property
    def metric(self) -> Metric:
        return _METRICS[self.params.metric]

    @property
    def quantization(self) -> Quantization:
        return _QUANTIZATIONS[self.params.quantization]

    @property
    def keep_vectors(self) -> KeepVectors:
        if self.params.keep_vectors == lib.EV_VECTORS_FLOAT32 and self.quantization != "none":
            return True if self.stats()["bits"] else "float32"
        return bool(self.params.keep_vectors)

    @property
    def storage(self) -> Storage:
        return _STORAGES[self.params.storage]

    @property
    def ef(self) -> int:
        params = ffi.new(_PARAMS)  # of this call alone: other threads may ask too, and set another
        lib.ev_get_params(self.handle, params)
        return int(params.ef)

    def set_ef(self, ef: int) -> None:
        check(lib.ev_set_ef(self.handle, ef))

    def set_memory_limit(self, bytes: int) -> None:
        check(lib.ev_set_memory_limit(self.handle, bytes))

    def set_disk_path(self, path: PathLike) -> None:
        check(lib.ev_set_disk_path(self.handle, _file_name(path)))

    def __len__(self) -> int:
        return lib.ev_count(self.handle)

    def __contains__(self, id: int) -> bool:
        return bool(lib.ev_contains(self.handle, id))

    def ids(self) -> Iterator[int]:
        return _ids(lib.ev_ids, self.handle, 4096)

    def add(
        self,
        rows: npt.NDArray[np.float32],
        ids: npt.NDArray[np.int64] | None,
        threads: int,
        progress: Progress | None,
    ) -> npt.NDArray[np.int64]:
        """Insert rows, float32[n, dim], and return their ids, int64[n]."""
        out = np.empty(len(rows), np.int64)
        arguments = (
            self.handle,
            len(rows),
            pointer(rows, _FLOATS),
            ffi.NULL if ids is None else pointer(ids, _INT64S),
            pointer(out, _INT64S),
            threads,
        )
        with callbacks.bridge(progress) as (callback, handle):
            code = lib.ev_add(*arguments, callback, handle)
        check(code)
        return out

    def stage(self, rows: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], progress: Progress | None) -> None:
        arguments = (self.handle, len(rows), pointer(rows, _FLOATS), pointer(ids, _INT64S), 0)
        with callbacks.bridge(progress) as (callback, handle):
            code = lib.ev_stage(*arguments, callback, handle)
        check(code)

    def commit_stage(self, removed: npt.NDArray[np.int64]) -> None:
        check(lib.ev_stage_commit(self.handle, removed.size, pointer(removed, _INT64S)))

    def drop_stage(self) -> None:
        check(lib.ev_stage_drop(self.handle))

    def settle_stage(self) -> None:
        with callbacks.bridge(None):
            code = lib.ev_stage_settle(self.handle)
        check(code)

    def remove(self, ids: npt.NDArray[np.int64]) -> int:
        removed = ffi.new("int64_t *")
        with callbacks.bridge(None):
            code = lib.ev_remove(self.handle, ids.size, pointer(ids, _INT64S), removed)
        check(code)
        return int(removed[0])

    def get(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        out = np.empty((ids.size, self.dim), np.float32)
        check(lib.ev_get(self.handle, ids.size, pointer(ids, _INT64S), pointer(out, _FLOATS)))
        return out

    def compact(self, progress: Progress | None) -> None:
        with callbacks.bridge(progress) as (callback, handle):
            code = lib.ev_compact(self.handle, callback, handle)
        check(code)

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        ef: int = 0,
        exact: bool = False,
        threads: int = 0,
        filter: NativeFilter | None = None,
        context: NativeContext | None = None,
        exclude_ids: npt.NDArray[np.int64] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k nearest of each query, nearest first, padded with id -1 and distance inf.

        Args:
            queries: [n, dim], or [dim] for one
            ef: 0: the index's own
            exclude_ids: [n], the vector that each query leaves out

        Returns:
            ids and distances, [n, k], or [k] for one query
        """
        params = ffi.new(_SEARCH_PARAMS)
        params.k, params.threads = k, threads
        if ef:
            params.ef = ef
        if exact:
            params.exact = 1
        if filter is not None:
            params.filter = filter.handle
        if context is not None:
            params.context = context.handle
        n = left = 1 if queries.ndim == 1 else len(queries)
        shape = k if queries.ndim == 1 else (n, k)
        ids, distances = np.empty(shape, _INT64), np.empty(shape, _FLOAT32)
        view = ffi.from_buffer  # as pointer() has it, in less time
        rows, out_ids, out = view(_FLOATS, queries), view(_INT64S, ids), view(_FLOATS, distances)
        if exclude_ids is not None:
            params.exclude_ids = excluded = pointer(exclude_ids, _INT64S)
        while left:
            run = left if left < _QUERIES_AT_ONCE else _QUERIES_AT_ONCE
            if code := lib.ev_search(self.handle, run, rows, params, out_ids, out):
                check(code, first_row=n - left)
            left -= run
            if left:
                rows, out_ids, out = rows + run * self.dim, out_ids + run * k, out + run * k
                if exclude_ids is not None:
                    params.exclude_ids = excluded = excluded + run
        return ids, distances

    def save(self, path: PathLike) -> None:
        check(lib.ev_save(self.handle, _file_name(path)), path)

    def to_bytes(self) -> bytes:
        bytes_needed = ffi.new("int64_t *")
        check(lib.ev_save_bytes(self.handle, 0, ffi.NULL, bytes_needed))
        while True:
            room = bytes_needed[0]
            stream = io.BytesIO()  # its value is the memory that was written to, without a copy
            stream.seek(room - 1)
            stream.write(b"\0")
            with stream.getbuffer() as view:
                check(lib.ev_save_bytes(self.handle, room, ffi.from_buffer(_CHARS, view), bytes_needed))
            if bytes_needed[0] == room:
                return stream.getvalue()

    def check(self) -> CheckReport:
        report = ffi.new(_REPORT)
        check(lib.ev_check(self.handle, report))
        return CheckReport(**{name: getattr(report, name) for name in CheckReport._fields})

    def changes(self) -> int:
        out = ffi.new(_STATS)
        lib.ev_get_stats(self.handle, out)
        return out.changes

    def stats(self) -> dict[str, int]:
        return _as_dict(_STATS, lib.ev_get_stats, self.handle)

    def memory_usage(self) -> dict[str, int]:
        return _as_dict(_MEMORY, lib.ev_memory_usage, self.handle)


class _Closed:
    """In the place of a NativeIndex that was closed."""

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise errors.ClosedError("the index was closed")

    def __len__(self) -> int:
        raise errors.ClosedError("the index was closed")

    def __contains__(self, id: int) -> bool:
        raise errors.ClosedError("the index was closed")


CLOSED: Any = _Closed()


class NativeFilter:
    """A set of allowed ids: int64[n]; ascending ones take less time."""

    def __init__(self, ids: npt.NDArray[np.int64]) -> None:
        self.size = ids.size
        out = ffi.new("ev_filter **")
        check(lib.ev_filter_new(ids.size, pointer(ids, _INT64S), out))
        self.handle = ffi.gc(out[0], lib.ev_filter_free, ids.nbytes)

    def __len__(self) -> int:
        count = lib.ev_filter_count(self.handle)
        check(-count if count < 0 else 0)
        return count

    def is_of(self, ids: npt.NDArray[np.int64]) -> bool:
        """Whether it was made of these ids, in this order."""
        return self.size == ids.size and bool(lib.ev_filter_is_of(self.handle, ids.size, pointer(ids, _INT64S)))


class NativeContext:
    """Scratch memory of one searching thread, and the statistics of its last search."""

    def __init__(self, index: NativeIndex) -> None:
        out = ffi.new("ev_context **")
        check(lib.ev_context_new(index.handle, out))
        self.handle = ffi.gc(out[0], lib.ev_context_free)
        self._stats = ffi.new(_SEARCH_STATS)

    def _read(self) -> _core.ev_search_stats:
        lib.ev_context_stats(self.handle, self._stats)
        return self._stats

    def stats(self) -> SearchStats:
        s = self._read()
        return SearchStats(
            s.queries, s.visited, s.distances, s.prefiltered, s.reranked, _STRATEGIES[s.strategy], s.seconds, s.ef
        )

    def cost(self) -> tuple[str, int, int]:
        s = self._read()
        return _STRATEGIES[s.strategy], s.visited, s.distances


class NativeDisk:
    """A graph on disk of the C core: arrays in, arrays out. The caller has checked shapes and ranges."""

    def __init__(self, path: PathLike, mmap: bool) -> None:
        callbacks.ensure_heard()
        out = ffi.new("ev_disk **")
        check(lib.ev_disk_open(_file_name(path), mmap, out), path)
        self.handle = ffi.gc(out[0], lib.ev_disk_free)
        about = self._stats()
        self.dim, self.ef, self.live, self.file_bytes = about.dim, about.ef, about.live, about.file_bytes
        self.metric = _METRICS[about.metric]

    @staticmethod
    def write(index: NativeIndex, path: PathLike, threads: int, progress: Progress | None) -> None:
        with callbacks.bridge(progress) as (callback, handle):
            code = lib.ev_disk_write(index.handle, _file_name(path), threads, callback, handle)
        check(code, path)

    def close(self) -> None:
        code = lib.ev_disk_close(self.handle)
        if code != lib.EV_E_CLOSED:
            check(code)

    def contains(self, id: int) -> bool:
        held = ffi.new("int32_t *")
        check(lib.ev_disk_contains(self.handle, id, held))
        return bool(held[0])

    def ids(self) -> Iterator[int]:
        return _ids(lib.ev_disk_ids, self.handle, 4080)  # whole pages of the file

    def get(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        out = np.empty((ids.size, self.dim), _FLOAT32)
        check(lib.ev_disk_get(self.handle, ids.size, pointer(ids, _INT64S), pointer(out, _FLOATS)))
        return out

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        ef: int,
        beam: int,
        exact: bool,
        threads: int,
        filter: NativeFilter | None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """As NativeIndex.search; beam 0: the core's own."""
        params = ffi.new(_DISK_PARAMS)
        params.k, params.ef, params.beam, params.exact, params.threads = k, ef, beam, exact, threads
        params.filter = ffi.NULL if filter is None else filter.handle
        n = 1 if queries.ndim == 1 else len(queries)
        shape = k if queries.ndim == 1 else (n, k)
        ids, distances = np.empty(shape, _INT64), np.empty(shape, _FLOAT32)
        rows, out_ids, out = pointer(queries, _FLOATS), pointer(ids, _INT64S), pointer(distances, _FLOATS)
        check(lib.ev_disk_search(self.handle, n, rows, params, out_ids, out))
        return ids, distances

    def check(self) -> dict[str, int]:
        report = ffi.new(_DISK_REPORT)
        check(lib.ev_disk_check(self.handle, report))
        names = ("live", "nodes", "edges", "duplicates", "min_degree", "max_degree")
        return {name: getattr(report, name) for name in names}

    def _stats(self) -> _core.ev_disk_stats:
        out = ffi.new(_DISK_STATS)
        lib.ev_disk_get_stats(self.handle, out)
        return out

    def counted(self) -> dict[str, int]:
        stats = self._stats()
        return {name: getattr(stats, name) for name in ("queries", "reads", "bytes_read", "rounds", "estimates")}

    def memory(self) -> dict[str, int]:
        stats = self._stats()
        return {"held": stats.held, "peak": stats.peak, "on_disk": self.file_bytes}


class NativeSearches:
    """Searches for one vector after the other, with results in memory that it keeps: for one thread at a time."""

    def __init__(self, index: NativeIndex, context: NativeContext, most: int) -> None:
        """most: results of a search, at most."""
        self._index, self._context = index, context
        self._stats = ffi.new(_SEARCH_STATS)
        self._params = params = ffi.new(_SEARCH_PARAMS)
        params.threads, params.context, params.stats = 1, context.handle, self._stats
        self.ids = np.empty(most, _INT64)
        """Of the last search, int64; where fewer were found than asked for, -1 follows."""
        self._distances = np.empty(most, _FLOAT32)
        self._out_ids, self._out = pointer(self.ids, _INT64S), pointer(self._distances, _FLOATS)

    def search(self, query: npt.NDArray[np.float32], k: int, ef: int, exact: bool) -> list[float]:
        """The distances of the k nearest of float32[dim], nearest first, with inf where there are fewer.

        Args:
            ef: 0: the index's own
        """
        params = self._params
        params.k, params.ef, params.exact = k, ef, exact
        rows = ffi.from_buffer(_FLOATS, query)
        if code := lib.ev_search(self._index.handle, 1, rows, params, self._out_ids, self._out):
            check(code)
        distances: list[float] = self._distances[:k].tolist()
        return distances

    def cost(self) -> tuple[str, int, int]:
        """As NativeContext.cost()."""
        stats = self._stats
        return _STRATEGIES[stats.strategy], stats.visited, stats.distances


def _storage(storage: Storage) -> Storage:
    if storage not in _STORAGES:
        raise errors.ParameterError(f"storage must be one of {', '.join(_STORAGES)}, not {storage!r}")
    return storage


def _vectors_kept(keep_vectors: object) -> int:
    if isinstance(keep_vectors, str):
        if keep_vectors != "float32":
            raise errors.ParameterError(f'keep_vectors must be True, False or "float32", not {keep_vectors!r}')
        return lib.EV_VECTORS_FLOAT32
    return lib.EV_VECTORS_SQ24 if keep_vectors else lib.EV_VECTORS_NONE


def _ids(call: Callable[..., int], handle: _core.CData, at_once: int) -> Iterator[int]:
    """What ev_ids() or its like has page by page."""
    cursor, written = ffi.new("int64_t *"), ffi.new("int64_t *")
    page = np.empty(at_once, _INT64)
    while True:
        check(call(handle, cursor, page.size, pointer(page, _INT64S), written))
        if written[0] == 0:
            return
        yield from page[: written[0]].tolist()


def _as_dict(
    struct: _core.CType[_Struct], fill: Callable[[_core.ev_index, _Struct], None], index: _core.ev_index
) -> dict[str, int]:
    out = ffi.new(struct)
    fill(index, out)
    return {name: getattr(out, name) for name, _ in struct.item.fields}


def _file_name(path: PathLike) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise errors.ParameterError(f"path contains a NUL character: {path!r}")
    return name
