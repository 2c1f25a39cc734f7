"""HDF5 in the layout of ann-benchmarks: train, test, neighbors, and an attribute that names the distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .plain import decoded
from .request import Request

if TYPE_CHECKING:
    from .._types import Metric

__all__ = ["read"]

_METRICS: dict[str, Metric] = {
    "angular": "cosine",
    "cosine": "cosine",
    "euclidean": "l2",
    "l2": "l2",
    "dot": "ip",
    "ip": "ip",
}


def read(request: Request) -> Dataset:
    h5py = request.library("h5py", "hdf5")
    try:
        with h5py.File(request.path, "r") as file:
            return _read_file(request, file, h5py)
    except OSError as error:  # also what h5py raises for bytes that are not HDF5
        raise request.error(f"not an HDF5 file, or damaged: {error}") from error
    except (KeyError, RuntimeError, TypeError) as error:  # TypeError: of types that NumPy does not have
        raise request.error(f"damaged: {error}") from error


def _read_file(request: Request, file: Any, h5py: Any) -> Dataset:
    arrays: dict[str, Any] = {}
    file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    types = {name: _dtype(item) for name, item in arrays.items()}
    matrices = [name for name, item in arrays.items() if len(item.shape or ()) == 2 and types[name] is not None]
    chosen = request.choose(matrices, kind="dataset")
    metric = _metric(request, file.attrs.get("distance"))
    vectors = _read_matrix(request, arrays[chosen], limit=True)

    queries = neighbors = None
    if chosen == "train" and "test" in arrays:
        if types["test"] is None:
            raise request.error("'test' has an unsupported type")
        queries = _read_matrix(request, arrays["test"])
        if queries.shape[1] != vectors.shape[1]:
            raise request.error(f"'test' has {queries.shape[1]} dimensions, 'train' has {vectors.shape[1]}")
        if "neighbors" in arrays and len(vectors) == len(arrays[chosen]):  # they are those among the whole set
            if getattr(types["neighbors"], "kind", "") not in ("i", "u"):
                raise request.error("'neighbors' does not hold integers")
            neighbors = _read_array(request, arrays["neighbors"]).astype(np.int64)

    columns: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for name, item in arrays.items():
        if item.shape != arrays[chosen].shape[:1]:
            continue
        dtype = types[name]
        if dtype is None:
            unread[name] = "unsupported type"
        elif dtype.kind in "biuf":
            columns[name] = _read_array(request, item, len(vectors))
        elif h5py.check_string_dtype(dtype):
            columns[name] = decoded(_read_array(request, item, len(vectors)).tolist())
        else:
            unread[name] = f"unsupported type {dtype}"
    return request.dataset(vectors, columns, metric=metric, queries=queries, neighbors=neighbors, unread=unread)


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


def _read_matrix(request: Request, item: Any, *, limit: bool = False) -> NDArray[np.float32]:
    request.check_matrix(item.shape, item.dtype.kind)
    _check(request, item)
    if not limit:
        return np.ascontiguousarray(item[:], np.float32)
    return request.fill(request.rows(item.shape[0]), item.shape[1], lambda start, stop: item[start:stop])


def _read_array(request: Request, item: Any, rows: int | None = None) -> NDArray[Any]:
    """The first rows of an array of numbers or of strings, which come as bytes."""
    _check(request, item)
    values: NDArray[Any] = item[:rows]
    return values
