"""safetensors: one tensor holds the vectors, others of as many elements ids and metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .._types import Metric
from .matrix import Cells, Matrix
from .request import Request

__all__ = ["opened"]

_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")
_COLUMN_DTYPES = frozenset(("BOOL", *_DTYPES)) - {"BF16"}


@contextmanager
def opened(request: Request) -> Iterator[Matrix]:
    safetensors = request.library("safetensors", "safetensors")
    try:
        # Opening checks that header, shapes and file size agree.
        with safetensors.safe_open(request.path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            chosen = request.choose(
                [name for name, part in slices.items() if len(part.get_shape()) == 2], kind="tensor"
            )
            vectors = _rows(request, chosen, slices[chosen])
            rows, dim = slices[chosen].get_shape()
            columns: dict[str, Cells] = {}
            unread: dict[str, str] = {}
            for name, part in slices.items():
                if part.get_shape() != [rows]:
                    continue
                if part.get_dtype() in _COLUMN_DTYPES:
                    columns[name] = _cells(part)
                else:
                    unread[name] = f"unsupported type {part.get_dtype()}"
            metric = (file.metadata() or {}).get("metric")
            known = metric if metric in get_args(Metric) else None
            yield Matrix(rows, dim, vectors, columns, unread, known)
    except safetensors.SafetensorError as error:
        raise request.error(f"damaged: {error}") from error


def _cells(part: Any) -> Cells:
    return lambda start, stop: part[start:stop]


def _rows(request: Request, name: str, part: Any) -> Callable[[int, int], NDArray[Any]]:
    shape, dtype = tuple(part.get_shape()), part.get_dtype()
    if dtype not in _DTYPES:
        raise request.error(f"tensor {name!r} has unsupported type {dtype}; supported are {', '.join(_DTYPES)}")
    request.check_matrix(shape, "f")
    if dtype == "BF16":
        return _bfloat16_reader(request, name, shape[1])
    return lambda start, stop: part[start:stop]


def _bfloat16_reader(request: Request, name: str, dim: int) -> Callable[[int, int], NDArray[np.float32]]:
    """NumPy has no bfloat16, but its bits are the upper half of a float32's."""
    with request.path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        begin = 8 + header_bytes + json.loads(stream.read(header_bytes))[name]["data_offsets"][0]

    def piece(start: int, stop: int) -> NDArray[np.float32]:
        with request.path.open("rb") as stream:
            stream.seek(begin + start * dim * 2)
            upper = request.read_items(stream, np.dtype("<u2"), (stop - start) * dim)
        return (upper.astype(np.uint32) << 16).view(np.float32).reshape(-1, dim)

    return piece
