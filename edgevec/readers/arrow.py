"""Parquet, and Arrow's own file and stream formats (Feather among them): a list column holds the vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .dataset import Dataset
from .plain import decoded
from .request import Request, Rows

__all__ = ["read_ipc", "read_parquet"]

_BATCH_ROWS = 4096

Batches = Iterator[tuple[Any, float]]
"""Record batches, each with the fraction of the file that has been read with it."""


def read_parquet(request: Request) -> Dataset:
    parquet = request.library("pyarrow.parquet", "arrow")

    def open_batches(source: Any) -> tuple[Any, Batches]:
        file = parquet.ParquetFile(source)
        total = max(1, file.metadata.num_rows)
        size = min(_BATCH_ROWS, request.limit or _BATCH_ROWS)
        return file.schema_arrow, (
            (batch, (at * size + batch.num_rows) / total) for at, batch in enumerate(file.iter_batches(size))
        )

    return _read(request, open_batches)


def read_ipc(request: Request) -> Dataset:
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

    return _read(request, open_batches)


def _read(request: Request, open_batches: Callable[[Any], tuple[Any, Batches]]) -> Dataset:
    pyarrow = request.library("pyarrow", "arrow")
    request.library("pyarrow.compute", "arrow")
    rows = Rows(request)
    try:
        # Mapped, so that a length that a damaged file declares is checked and not allocated.
        with pyarrow.memory_map(str(request.path)) as source:
            schema, batches = open_batches(source)
            kinds = _kinds(request, schema)
            chosen = request.choose(
                [name for name, kind in kinds.items() if _holds_vectors(pyarrow, kind)], kind="column"
            )
            columns: dict[str, list[Any]] = {name: [] for name in kinds if name != chosen}
            unread: dict[str, str] = {}
            for batch, share in batches:
                batch.validate(full=True)
                piece = batch.slice(0, request.rows(len(rows) + batch.num_rows) - len(rows))
                if piece.num_rows:
                    for name, values in columns.items():
                        if name not in unread:
                            try:
                                values.extend(piece.column(name).to_pylist())
                            except (ValueError, OverflowError, NotImplementedError) as error:
                                unread[name] = f"{kinds[name]} has no Python type: {error}"
                    _append(request, pyarrow, rows, piece.column(chosen))
                    request.report_share(len(rows), share)
                if len(rows) == request.limit:
                    break
            vectors = rows.vectors()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise request.error(f"damaged: {str(error).splitlines()[0]}") from error
    request.report(len(rows), len(rows))
    read = {name: decoded(values) for name, values in columns.items() if name not in unread}
    return request.dataset(vectors, read, unread=unread)


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
