"""Written by csrc/stubs.py from csrc/edgevec.h: the types of the extension module. Not to be edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

_T = TypeVar("_T")
_Function = TypeVar("_Function", bound=Callable[..., object])

class CType(Generic[_T]):
    """A C type; _T: what ffi.new() makes of it."""

    item: CType[Any]
    fields: list[tuple[str, Any]]

class CData:
    """A C pointer or array. Subclasses point to a struct, whose fields they have."""

    def __getitem__(self, index: int) -> Any: ...
    def __add__(self, offset: int) -> CData: ...

class ev_index(CData):
    pass

class ev_context(CData):
    pass

class ev_filter(CData):
    pass

class ev_params(CData):
    dim: int
    metric: int
    quantization: int
    M: int
    ef_construction: int
    ef: int
    keep_vectors: int
    seed: int
    storage: int

class ev_search_stats(CData):
    queries: int
    visited: int
    distances: int
    prefiltered: int
    reranked: int
    strategy: int
    seconds: float
    ef: int

class ev_search_params(CData):
    k: int
    ef: int
    exact: int
    threads: int
    filter: ev_filter
    context: ev_context
    exclude_ids: CData
    stats: ev_search_stats

class ev_report(CData):
    live: int
    dead: int
    free_slots: int
    duplicates: int
    nodes: int
    edges: int
    mutual_edges: int
    min_degree: int
    max_degree: int
    unreachable: int
    bad_links: int
    bad_codes: int
    bad_ids: int
    levels: int
    walk: int

class ev_memory(CData):
    vectors: int
    codes: int
    links: int
    upper_links: int
    ids: int
    other: int
    total: int
    mapped: int
    on_disk: int
    held: int
    peak: int
    limit: int

class ev_stats(CData):
    slots: int
    live: int
    dead: int
    bits: int
    max_level: int
    trainings: int
    built_distances: int
    changes: int
    walk: int
    looked: int
    reads: int

class ev_disk(CData):
    pass

class ev_disk_search_params(CData):
    k: int
    ef: int
    beam: int
    exact: int
    threads: int
    filter: ev_filter

class ev_disk_report(CData):
    live: int
    nodes: int
    edges: int
    duplicates: int
    min_degree: int
    max_degree: int

class ev_disk_stats(CData):
    dim: int
    metric: int
    ef: int
    degree: int
    live: int
    nodes: int
    block_bytes: int
    file_bytes: int
    queries: int
    reads: int
    bytes_read: int
    rounds: int
    estimates: int
    held: int
    peak: int

class FFI(Protocol):
    """The part of cffi.FFI that is used."""

    NULL: Any
    @overload
    def typeof(self, cdecl: Literal["ev_params *"]) -> CType[ev_params]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_search_stats *"]) -> CType[ev_search_stats]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_search_params *"]) -> CType[ev_search_params]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_report *"]) -> CType[ev_report]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_memory *"]) -> CType[ev_memory]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_stats *"]) -> CType[ev_stats]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_disk_search_params *"]) -> CType[ev_disk_search_params]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_disk_report *"]) -> CType[ev_disk_report]: ...
    @overload
    def typeof(self, cdecl: Literal["ev_disk_stats *"]) -> CType[ev_disk_stats]: ...
    @overload
    def typeof(self, cdecl: str) -> CType[CData]: ...
    @overload
    def new(self, cdecl: CType[_T]) -> _T: ...
    @overload
    def new(self, cdecl: str) -> CData: ...
    def gc(self, cdata: _T, destructor: Callable[[_T], None], size: int = 0) -> _T: ...
    def string(self, cdata: CData) -> bytes: ...
    def from_buffer(self, cdecl: str | CType[CData], buffer: object) -> CData: ...
    def new_handle(self, value: object) -> CData: ...
    def from_handle(self, handle: CData) -> Any: ...
    def def_extern(
        self, *, error: int, onerror: Callable[[object, BaseException, object], None]
    ) -> Callable[[_Function], _Function]: ...

class Lib(Protocol):
    """The C library."""

    ev__progress_py: CData
    ev__interrupt_py: CData
    EV_OK: int
    EV_E_PARAM: int
    EV_E_NOT_FINITE: int
    EV_E_ZERO: int
    EV_E_DUPLICATE: int
    EV_E_NO_ID: int
    EV_E_NOMEM: int
    EV_E_FULL: int
    EV_E_SIMD: int
    EV_E_MEMORY_LIMIT: int
    EV_E_IO: int
    EV_E_CORRUPT: int
    EV_E_VERSION: int
    EV_E_NOT_FOUND: int
    EV_E_STOPPED: int
    EV_E_REENTRANT: int
    EV_E_BUSY: int
    EV_E_FORKED: int
    EV_E_CLOSED: int
    EV_METRIC_COSINE: int
    EV_METRIC_IP: int
    EV_METRIC_L2: int
    EV_QUANT_NONE: int
    EV_QUANT_SQ8: int
    EV_QUANT_BINARY: int
    EV_VECTORS_NONE: int
    EV_VECTORS_FLOAT32: int
    EV_VECTORS_SQ24: int
    EV_STORAGE_MEMORY: int
    EV_STORAGE_DISK: int
    EV_STRATEGY_GRAPH: int
    EV_STRATEGY_EXACT: int
    EV_STRATEGY_GRAPH_FILTERED: int
    EV_MAP_NONE: int
    EV_MAP_VERIFIED: int
    EV_MAP_UNVERIFIED: int
    EV_MAP_DISK: int
    EV_WALK_CODES: int
    EV_WALK_FLOATS: int
    EV_WALK_SCAN: int
    EV_WALK_BLURRED: int
    def ev_strerror(self, code: int) -> CData: ...
    def ev_error_detail(self) -> CData: ...
    def ev_error_row(self) -> int: ...
    def ev_error_errno(self) -> int: ...
    def ev_version(self) -> CData: ...
    def ev_new(self, params: ev_params, out: CData) -> int: ...
    def ev_free(self, ix: ev_index) -> None: ...
    def ev_close(self, ix: ev_index) -> int: ...
    def ev_get_params(self, ix: ev_index, out: ev_params) -> None: ...
    def ev_set_ef(self, ix: ev_index, ef: int) -> int: ...
    def ev_set_memory_limit(self, ix: ev_index, bytes: int) -> int: ...
    def ev_set_disk_path(self, ix: ev_index, path: bytes) -> int: ...
    def ev_add(
        self,
        ix: ev_index,
        n: int,
        vectors: CData,
        ids: CData,
        out_ids: CData,
        threads: int,
        progress: CData,
        user: CData,
    ) -> int: ...
    def ev_remove(self, ix: ev_index, n: int, ids: CData, removed: CData) -> int: ...
    def ev_get(self, ix: ev_index, n: int, ids: CData, out: CData) -> int: ...
    def ev_count(self, ix: ev_index) -> int: ...
    def ev_contains(self, ix: ev_index, id: int) -> int: ...
    def ev_ids(self, ix: ev_index, cursor: CData, n: int, ids: CData, written: CData) -> int: ...
    def ev_compact(self, ix: ev_index, progress: CData, user: CData) -> int: ...
    def ev_search(
        self,
        ix: ev_index,
        n: int,
        queries: CData,
        params: ev_search_params,
        out_ids: CData,
        out_distances: CData,
    ) -> int: ...
    def ev_context_new(self, ix: ev_index, out: CData) -> int: ...
    def ev_context_free(self, context: ev_context) -> None: ...
    def ev_context_stats(self, context: ev_context, out: ev_search_stats) -> None: ...
    def ev_filter_new(self, n: int, ids: CData, out: CData) -> int: ...
    def ev_filter_free(self, filter: ev_filter) -> None: ...
    def ev_filter_count(self, filter: ev_filter) -> int: ...
    def ev_filter_is_of(self, filter: ev_filter, n: int, ids: CData) -> int: ...
    def ev_save(self, ix: ev_index, path: bytes) -> int: ...
    def ev_load(self, path: bytes, map: int, out: CData) -> int: ...
    def ev_load_within(self, path: bytes, map: int, memory_limit: int, out: CData) -> int: ...
    def ev_save_bytes(self, ix: ev_index, room: int, out: CData, n: CData) -> int: ...
    def ev_load_bytes(self, n: int, bytes: CData, out: CData) -> int: ...
    def ev_load_bytes_within(self, n: int, bytes: CData, memory_limit: int, out: CData) -> int: ...
    def ev_check(self, ix: ev_index, out: ev_report) -> int: ...
    def ev_memory_usage(self, ix: ev_index, out: ev_memory) -> None: ...
    def ev_get_stats(self, ix: ev_index, out: ev_stats) -> None: ...
    def ev_disk_write(self, ix: ev_index, path: bytes, threads: int, progress: CData, user: CData) -> int: ...
    def ev_disk_open(self, path: bytes, map: int, out: CData) -> int: ...
    def ev_disk_close(self, d: ev_disk) -> int: ...
    def ev_disk_free(self, d: ev_disk) -> None: ...
    def ev_disk_search(
        self,
        d: ev_disk,
        n: int,
        queries: CData,
        params: ev_disk_search_params,
        out_ids: CData,
        out_distances: CData,
    ) -> int: ...
    def ev_disk_get(self, d: ev_disk, n: int, ids: CData, out: CData) -> int: ...
    def ev_disk_contains(self, d: ev_disk, id: int, held: CData) -> int: ...
    def ev_disk_ids(self, d: ev_disk, cursor: CData, n: int, ids: CData, written: CData) -> int: ...
    def ev_disk_check(self, d: ev_disk, out: ev_disk_report) -> int: ...
    def ev_disk_get_stats(self, d: ev_disk, out: ev_disk_stats) -> None: ...
    def ev_set_interrupt(self, asked: CData, user: CData) -> None: ...
    def ev_simd_active(self) -> CData: ...
    def ev_simd_compiled(self) -> CData: ...
    def ev_simd_available(self) -> CData: ...
    def ev_simd_forced(self) -> CData: ...
    def ev_selftest(self) -> int: ...
    def ev_stage(
        self,
        ix: ev_index,
        n: int,
        vectors: CData,
        ids: CData,
        threads: int,
        progress: CData,
        user: CData,
    ) -> int: ...
    def ev_stage_commit(self, ix: ev_index, n: int, removed_ids: CData) -> int: ...
    def ev_stage_drop(self, ix: ev_index) -> int: ...
    def ev_stage_settle(self, ix: ev_index) -> int: ...
    def ev_read_numbers(self, text: bytes, length: int, count: int, out: CData) -> int: ...

ffi: FFI
lib: Lib
