"""The .fvecs, .bvecs and .ivecs of the TEXMEX corpora: each row begins with its dimension, a 32-bit integer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matrix import Matrix
from .request import Request

__all__ = ["opened"]

_ELEMENTS = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}
_MAX_DIM = 65_535


@contextmanager
def opened(request: Request) -> Iterator[Matrix]:
    size = request.path.stat().st_size
    with request.path.open("rb") as stream:
        dim = int.from_bytes(stream.read(4), "little", signed=True)
        element = np.dtype(_ELEMENTS[request.path.suffix.lower()])
        row_bytes = 4 + dim * element.itemsize
        if not 1 <= dim <= _MAX_DIM or row_bytes > size:
            raise request.error(f"damaged: the first row declares {dim:,} elements, the file has {size:,} bytes")
        if size % row_bytes:
            raise request.error(
                f"truncated, or its rows differ in length: {size:,} bytes is not a multiple of {row_bytes:,}"
            )
        row = np.dtype([("dim", "<i4"), ("vector", element, (dim,))])
        stream.seek(0)

        def piece(start: int, stop: int) -> NDArray[Any]:
            rows = request.read_items(stream, row, stop - start)
            odd = np.flatnonzero(rows["dim"] != dim)
            if len(odd):
                raise request.error(f"row {start + odd[0]}: expected {dim} elements, found {rows['dim'][odd[0]]}")
            vectors: NDArray[Any] = rows["vector"]
            return vectors

        yield Matrix(size // row_bytes, dim, piece)
