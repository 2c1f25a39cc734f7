"""HDF5 in the layout of ann-benchmarks: train, test, neighbors, and an attribute that names the distance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .matrix import Cells, Matrix, TestSet
from .plain import decoded
from .request import Request

if TYPE_CHECKING:
    from .._types import Metric

__all__ = ["opened"]

_METRICS: dict[str, Metric] = {
    "angular": "cosine",
    "cosine": "cosine",
    "euclidean": "l2",
    "l2": "l2",
    "dot": "ip",
    "ip": "ip",
}


@contextmanager
def opened(request: Request) -> Iterator[Matrix]:
    h5py = request.library("h5py", "hdf5")
    try:
        with h5py.File(request.path, "r") as file:
            yield _matrix(request, file, h5py)
    except OSError as error:  # also what h5py raises for bytes that are not HDF5
        raise request.error(f"not an HDF5 file, or damaged: {error}") from error
    except (KeyError, RuntimeError, TypeError) as error:  # TypeError: of types that NumPy does not have
        raise request.error(f"damaged: {error}") from error


def _matrix(request: Request, file: Any, h5py: Any) -> Matrix:
    arrays: dict[str, Any] = {}
    file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    types = {name: _dtype(item) for name, item in arrays.items()}
    matrices = [name for name, item in arrays.items() if len(item.shape or ()) == 2 and types[name] is not None]
    chosen = request.choose(matrices, kind="dataset")
    metric = _metric(request, file.attrs.get("distance"))
    _check_matrix(request, arrays[chosen])
    rows, dim = arrays[chosen].shape
    columns: dict[str, Cells] = {}
    unread: dict[str, str] = {}
    for name, item in arrays.items():
        if item.shape != (rows,):
            continue
        dtype = types[name]
        if dtype is None:
            unread[name] = "unsupported type"
        elif dtype.kind in "biuf":
            columns[name] = _numbers(request, item)
        elif h5py.check_string_dtype(dtype):
            columns[name] = _texts(request, item)
        else:
            unread[name] = f"unsupported type {dtype}"
    tests = partial(_test_set, request, arrays, types) if chosen == "train" and "test" in arrays else None
    return Matrix(rows, dim, lambda start, stop: arrays[chosen][start:stop], columns, unread, metric, tests)


def _test_set(request: Request, arrays: dict[str, Any], types: dict[str, np.dtype[Any] | None]) -> TestSet:
    if types["test"] is None:
        raise request.error("'test' has an unsupported type")
    _check_matrix(request, arrays["test"])
    queries = np.ascontiguousarray(arrays["test"][:], np.float32)
    rows, dim = arrays["train"].shape
    if queries.shape[1] != dim:
        raise request.error(f"'test' has {queries.shape[1]} dimensions, 'train' has {dim}")
    if "neighbors" not in arrays or request.rows(rows) < rows:  # they are those among the whole set
        return queries, None
    if getattr(types["neighbors"], "kind", "") not in ("i", "u"):
        raise request.error("'neighbors' does not hold integers")
    _check(request, arrays["neighbors"])
    return queries, arrays["neighbors"][:].astype(np.int64)


def _dtype(item: Any) -> np.dtype[Any] | None:
    """None for a type that NumPy does not have, such as HDF5's times."""
    try:
        dtype: np.dtype[Any] = item.dtype
    except TypeError:
        return None
    return dtype


def _metric(request: Request, distance: object) -> Metric | None:
    if distance is None:
        return None
    name = distance.decode("utf-8", "replace") if isinstance(distance, bytes) else str(distance)
    if name not in _METRICS:
        raise request.error(f"unknown distance {name!r}; expected one of {', '.join(sorted(_METRICS))}")
    return _METRICS[name]


def _check(request: Request, item: Any) -> None:
    if item.external or item.is_virtual:
        raise request.error(f"{item.name} stores its data in other files, which is not supported")
    # What a damaged file says to have stored is no more than it has.
    stored = min(item.id.get_storage_size(), request.path.stat().st_size)
    request.check_size(item.shape, item.dtype.itemsize, stored)


def _check_matrix(request: Request, item: Any) -> None:
    request.check_matrix(item.shape, item.dtype.kind)
    _check(request, item)


def _numbers(request: Request, item: Any) -> Cells:
    _check(request, item)
    return lambda start, stop: item[start:stop]


def _texts(request: Request, item: Any) -> Cells:
    """Strings, which come as bytes."""
    _check(request, item)
    return lambda start, stop: decoded(item[start:stop].tolist())
