"""Parquet, and Arrow's own file and stream formats (Feather among them): a list column holds the vectors."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset
from .plain import decoded
from .request import Request, Rows

__all__ = ["ipc_pieces", "parquet_pieces", "read_ipc", "read_parquet"]

_BATCH_ROWS = 1024
_CAN_LET_GO = sys.platform == "linux"

Batches = Iterator[tuple[Any, float]]
"""Record batches, each with the fraction of the file that has been read with it."""
OpenBatches = Callable[[Any], tuple[Any, Batches]]
"""The schema and the batches of an open file."""
Columns = dict[str, list[Any]]


def read_parquet(request: Request) -> Dataset:
    return _whole(request, _open_parquet(request, _BATCH_ROWS))


def parquet_pieces(request: Request, size: int) -> Iterator[Dataset]:
    """As read_parquet(), in pieces of up to `size` rows."""
    return _pieces(request, _open_parquet(request, size), size)


def _open_parquet(request: Request, size: int) -> OpenBatches:
    parquet = request.library("pyarrow.parquet", "arrow")

    def open_batches(source: Any) -> tuple[Any, Batches]:
        file = parquet.ParquetFile(source)
        total = max(1, file.metadata.num_rows)
        rows = min(_BATCH_ROWS, size, request.limit or _BATCH_ROWS)
        batches = file.iter_batches(rows, use_threads=False)  # threads take more time in all, and memory each
        return file.schema_arrow, ((batch, (at * rows + batch.num_rows) / total) for at, batch in enumerate(batches))

    return open_batches


def read_ipc(request: Request) -> Dataset:
    return _whole(request, _open_ipc(request))


def ipc_pieces(request: Request, size: int) -> Iterator[Dataset]:
    """As read_ipc(), in pieces of up to `size` rows."""
    return _pieces(request, _open_ipc(request), size)


def _open_ipc(request: Request) -> OpenBatches:
    ipc = request.library("pyarrow.ipc", "arrow")

    def open_batches(source: Any) -> tuple[Any, Batches]:
        magic = source.read(6)
        source.seek(0)
        if magic.startswith(b"FEA1"):
            raise request.error("Feather version 1 is not supported; save it as version 2")
        if magic == b"ARROW1":
            file = ipc.open_file(source)
            count = file.num_record_batches
            return file.schema, ((file.get_batch(at), (at + 1) / count) for at in range(count))
        stream = ipc.open_stream(source)
        return stream.schema, ((batch, source.tell() / source.size()) for batch in stream)

    return open_batches


def _whole(request: Request, open_batches: OpenBatches) -> Dataset:
    rows = Rows(request)
    columns: Columns = {}
    unread: dict[str, str] = {}
    for part in _parts(request, open_batches, _BATCH_ROWS, rows, unread):
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)
    return _dataset(request, rows, columns, unread)


def _pieces(request: Request, open_batches: OpenBatches, size: int) -> Iterator[Dataset]:
    rows = Rows(request)
    unread: dict[str, str] = {}
    for columns in _parts(request, open_batches, size, rows, unread):
        yield _dataset(request, rows, columns, unread)
    if not len(rows):
        yield _dataset(request, rows, {}, unread)


def _dataset(request: Request, rows: Rows, columns: Columns, unread: dict[str, str]) -> Dataset:
    vectors = rows.take()
    read = {name: decoded(values) for name, values in columns.items() if name not in unread}
    return request.dataset(vectors, read, unread=unread)


def _parts(
    request: Request, open_batches: OpenBatches, size: int, rows: Rows, unread: dict[str, str]
) -> Iterator[Columns]:
    """The columns of up to `size` rows at a time, whose vectors `rows` has then."""
    pyarrow = request.library("pyarrow", "arrow")
    request.library("pyarrow.compute", "arrow")
    try:
        with _mapped(pyarrow, request.path) as (source, let_go):
            schema, batches = open_batches(source)
            kinds = _kinds(request, schema)
            chosen = request.choose(
                [name for name, kind in kinds.items() if _holds_vectors(pyarrow, kind)], kind="column"
            )
            for batch, share in batches:
                batch.validate(full=True)
                wanted = request.rows(len(rows) + batch.num_rows) - len(rows)
                for start in range(0, wanted, size):
                    part = batch.slice(start, min(size, wanted - start))
                    columns = {name: _listed(part, name, unread) for name in kinds if name != chosen}
                    _append(request, pyarrow, rows, part.column(chosen))
                    yield columns
                let_go()
                if wanted:
                    request.report_share(len(rows), share)
                if len(rows) == request.limit:
                    break
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise request.error(f"damaged: {str(error).splitlines()[0]}") from error
    if len(rows):
        request.report(len(rows), len(rows))


@contextmanager
def _mapped(pyarrow: Any, path: Path) -> Iterator[tuple[Any, Callable[[], object]]]:
    """The file, and a function that lets go of what was read of it, which else stays in the process's memory.

    Mapped, so that a length that a damaged file declares is checked and not allocated.
    """

    def let_go() -> None:
        pyarrow.default_memory_pool().release_unused()
        if _CAN_LET_GO:
            memory.madvise(mmap.MADV_DONTNEED)

    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        with pyarrow.BufferReader(pyarrow.py_buffer(memory)) as source:
            yield source, let_go
    finally:
        with suppress(BufferError):  # a batch that is still held closes it when it goes
            memory.close()


def _listed(batch: Any, name: str, unread: dict[str, str]) -> list[Any]:
    """The values of a column; of one that cannot be read none, and `unread` says why."""
    if name not in unread:
        try:
            values: list[Any] = batch.column(name).to_pylist()
            return values
        except (ValueError, OverflowError, NotImplementedError) as error:
            unread[name] = f"{batch.schema.field(name).type} has no Python type: {error}"
    return []


def _kinds(request: Request, schema: Any) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for field in schema:
        if field.name in kinds:
            raise request.error(f"duplicate column {field.name!r}")
        kinds[field.name] = field.type
    return kinds


def _holds_vectors(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    return bool(types.is_integer(kind.value_type) or types.is_floating(kind.value_type))


def _append(request: Request, pyarrow: Any, rows: Rows, column: Any) -> None:
    """Add a column of lists, all valid and of one length."""
    if column.null_count:
        at = len(rows) + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise request.error(f"row {at}: the vector is missing")
    lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    dim = rows.dim or int(lengths[0])
    odd = np.flatnonzero(lengths != dim)
    if len(odd):
        raise request.error(f"row {len(rows) + odd[0]}: expected {dim} elements, found {lengths[odd[0]]}")
    values = column.flatten()
    if values.null_count:
        at = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise request.error(f"row {len(rows) + at // max(1, dim)}: an element of the vector is missing")
    block = values.to_numpy(zero_copy_only=False).reshape(len(lengths), dim)
    rows.append_block(block, f"row {len(rows)}")
