"""What people pass in, as the arrays that the core reads: converted once, and not at all when it is right already."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevec.errors import ParameterError

__all__ = ["as_ids", "as_int", "as_rows"]


_FLOAT32 = np.dtype(np.float32)


def _as_array(data: Any, what: str) -> npt.NDArray[Any]:
    if isinstance(data, np.ndarray):
        return data
    try:
        if hasattr(data, "__dlpack__") and not hasattr(data, "__array__"):
            return np.from_dlpack(data)
        return np.asarray(data)
    except (TypeError, ValueError, OverflowError, BufferError) as error:
        raise ParameterError(f"{what} cannot be read as an array of numbers: {error}") from error


def as_rows(data: Any, dim: int, what: str) -> npt.NDArray[np.float32]:
    """float32[n, dim] or float32[dim], C order, without a copy when it is that already."""
    array = _as_array(data, what)
    if array.ndim not in (1, 2):
        raise ParameterError(f"{what} must be [n, {dim}] or [{dim}], not {array.ndim}-dimensional")
    if array.size == 0 and array.ndim == 1 and not isinstance(data, np.ndarray):
        array = array.reshape(0, dim)  # an empty list of vectors
    if array.shape[-1] != dim:
        raise ParameterError(f"{what} have {array.shape[-1]} dimensions, the index has {dim}")
    if array.dtype.kind not in "fiub":
        raise ParameterError(f"{what} must be real numbers, not {array.dtype}")
    if array.dtype is _FLOAT32 and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused by row
        return np.require(array, np.float32, ["C", "A"])


def as_ids(data: Any, what: str) -> npt.NDArray[np.int64]:
    """int64[n], C order."""
    array = _as_array(data, what)
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != 1:
        raise ParameterError(f"{what} must be one-dimensional, not {array.ndim}-dimensional")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        hint = ": a mask says nothing about ids; pass the ids themselves" if array.dtype.kind == "b" else ""
        raise ParameterError(f"{what} must be 64-bit integers, not {array.dtype}{hint}")
    if array.dtype.kind == "u" and int(array.max()) > 2**63 - 1:
        raise ParameterError(f"{what} hold {array.max()}, which is more than an int64 can be")
    return np.require(array, np.int64, ["C", "A"])


def as_int(value: Any, what: str, least: int, most: int = 2**31 - 1) -> int:
    """An int in a range; what has no exact integer value is refused."""
    if type(value) is int and least <= value <= most:
        return value
    try:
        number = operator.index(value)
    except TypeError:
        raise ParameterError(f"{what} must be an integer, not {value!r}") from None
    if isinstance(value, (bool, np.bool_)) or not least <= number <= most:
        raise ParameterError(f"{what} must be in {least}..{most}, not {value!r}")
    return number
