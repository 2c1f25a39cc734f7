"""Arguments as the arrays that the core reads: converted once, or not at all where they are right already."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Set
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgevec._types import Storage
from edgevec.errors import ParameterError
from edgevec.printable import brief

__all__ = ["as_array", "as_ids", "as_int", "as_rows", "as_storage", "length_of_rows"]


_FLOAT32 = np.dtype(np.float32)
_ROWS = (np.ndarray, list, tuple)
"""What can be a vector in an array of objects."""


def as_array(data: Any, what: str) -> npt.NDArray[Any]:
    """An array of any type, without a mask. ParameterError where it cannot be one, or has masked elements."""
    if type(data) is np.ndarray:
        return data
    try:
        if hasattr(data, "__dlpack__") and not hasattr(data, "__array__"):
            return np.from_dlpack(data)
        array = sys.modules["numpy.ma"].array(data) if _holds_masked(data) else np.asanyarray(data)
    except (TypeError, ValueError, OverflowError, BufferError, RuntimeError) as error:
        raise ParameterError(f"{what} cannot be read as an array of numbers: {error}") from error
    return _unmasked(array, what) if _is_masked(array) else np.asarray(array)


def _is_masked(array: Any) -> bool:
    """Without importing numpy.ma: whoever made a masked array has imported it."""
    masks = sys.modules.get("numpy.ma")
    return masks is not None and isinstance(array, masks.MaskedArray)


def _holds_masked(data: Any) -> bool:
    """Whether a list holds masked arrays, whose masks np.asarray would drop."""
    if not isinstance(data, (list, tuple)) or not data or not isinstance(data[0], np.ndarray):
        return False
    return any(_is_masked(row) for row in data)


def _unmasked(array: Any, what: str) -> npt.NDArray[Any]:
    if array.dtype.names is None and (hidden := np.ma.getmaskarray(array)).any():
        row = int(np.argwhere(np.atleast_1d(hidden))[0][0]) if array.ndim != 1 or what.endswith("ids") else 0
        raise ParameterError(f"{what} have a masked element in row {row}; fill or drop missing values first")
    return np.asarray(array.data)


def as_rows(data: Any, dim: int, what: str) -> npt.NDArray[np.float32]:
    """Vectors as float32[n, dim] or float32[dim] in C order, without a copy where they are that already.

    Args:
        data: an array of any real dtype, a buffer, a DLPack tensor, lists, or a column of vectors as pandas has it
        what: what to call them in an error

    Raises:
        ParameterError: they are not numbers, or not of this shape
    """
    array = data if type(data) is np.ndarray else as_array(data, what)
    if array.dtype is not _FLOAT32 and not _is_real(array.dtype):
        if array.ndim != 1 or not any(isinstance(row, _ROWS) for row in array):
            raise ParameterError(f"{what} must be real numbers, not {_described(array)}")
        array = _stacked(array, dim, what)
    if array.ndim not in (1, 2):
        raise ParameterError(f"{what} must be [n, {dim}] or [{dim}], not {array.ndim}-dimensional")
    if array.size == 0 and array.ndim == 1 and not isinstance(data, np.ndarray):
        array = array.reshape(0, dim)  # an empty list of vectors
    if array.shape[-1] != dim:
        raise ParameterError(f"{what} have {array.shape[-1]} dimensions, the index has {dim}")
    if array.dtype is _FLOAT32 and (flags := array.flags).c_contiguous and flags.aligned:
        return array
    with np.errstate(
        over="ignore"
    ):  # what float32 cannot hold becomes infinity, which the core refuses, naming the row
        return np.require(array, np.float32, ["C", "A"])


def length_of_rows(array: npt.NDArray[Any]) -> int | None:
    """Dimensions of the vectors [n, dim], or of the first one in a column of vectors; None of anything else."""
    if array.ndim == 1 and array.dtype == object and len(array) and isinstance(array[0], _ROWS):
        return len(array[0]) if np.ndim(array[0]) == 1 else None
    return array.shape[1] if array.ndim == 2 else None


def _stacked(column: npt.NDArray[Any], dim: int, what: str) -> npt.NDArray[Any]:
    """An array of arrays, which is what NumPy makes of a column of pandas or Arrow that holds vectors."""
    rows = []
    for number, row in enumerate(column):
        array = as_array(row, what) if isinstance(row, _ROWS) else None
        if array is None or array.shape != (dim,):
            found = brief(row) if array is None else f"{'x'.join(map(str, array.shape))} numbers"
            raise ParameterError(f"{what} must have {dim} numbers each, but row {number} is {found}")
        if not _is_real(array.dtype):
            raise ParameterError(f"{what} must be real numbers, but row {number} is {_described(array)}")
        rows.append(array)
    return np.stack(rows)


def _is_real(dtype: np.dtype[Any]) -> bool:
    """Also for the types of ml_dtypes (bfloat16, float8), most of which have the kind of raw bytes."""
    if dtype.kind in "fiub":
        return True
    return dtype.kind == "V" and not issubclass(dtype.type, np.void) and np.can_cast(dtype, np.float32)


def _described(array: npt.NDArray[Any]) -> str:
    """What an array without numbers holds, and how to convert it."""
    if array.dtype.names is not None:
        fields = ", ".join(array.dtype.names)
        return f"a structured array of {fields}; convert it with numpy.lib.recfunctions.structured_to_unstructured()"
    if array.dtype.kind != "O":
        return str(array.dtype)
    if array.ndim == 0:
        return f"{array.item()!r:.40}"
    for at, value in np.ndenumerate(array):
        if not isinstance(value, (int, float, np.number)):
            return f"Python objects: {value!r:.40} at {at[0] if len(at) == 1 else at}"
    return "Python objects; convert them with astype(float)"


def as_ids(data: Any, what: str, *, to_keep: bool = False, ordered: bool = True) -> npt.NDArray[np.int64]:
    """Ids as int64[n] in C order.

    Args:
        data: one integer, or a list or array of them, the keys of a dict, or what yields them
        what: what to call them in an error
        to_keep: they will name vectors, so -1, which marks missing results, is refused
        ordered: what is asked for is answered in their order, so a set is refused

    Raises:
        ParameterError: they are not 64-bit integers, or not one-dimensional
    """
    if type(data) is not np.ndarray and isinstance(data, (Set, Iterator)):
        if ordered and isinstance(data, (set, frozenset)):
            raise ParameterError(f"{what} are a set, which has no order; pass a list, such as sorted() gives")
        data = list(data)
    array = as_array(data, what)
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != 1:
        raise ParameterError(f"{what} must be one-dimensional, not {array.ndim}-dimensional")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        hint = "; pass ids, not a mask" if array.dtype.kind == "b" else ""
        raise ParameterError(f"{what} must be 64-bit integers, not {_described_ids(array)}{hint}")
    if array.dtype.kind == "u" and int(array.max()) > 2**63 - 1:
        raise ParameterError(f"{what} hold {array.max()}, which does not fit in int64")
    ids = np.require(array, np.int64, ["C", "A"])
    if to_keep and (ids == -1).any():
        at = int(np.flatnonzero(ids == -1)[0])
        raise ParameterError(f"{what} hold -1 at {at}; -1 is reserved, it marks missing results")
    return ids


def _described_ids(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind != "O":
        return "a structured array" if array.dtype.names is not None else str(array.dtype)
    for at, value in enumerate(array.tolist()):
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
            return f"{value!r:.40} at {at}"
    return "Python objects; convert them with astype(int)"


def as_storage(value: Any) -> Storage:
    """ParameterError: it is neither "memory" nor "disk"."""
    if value in ("memory", "disk"):
        return cast(Storage, value)
    raise ParameterError(f'storage must be "memory" or "disk", not {value!r:.40}')


def as_int(value: Any, what: str, least: int, most: int = 2**31 - 1) -> int:
    """An argument as an int in least..most.

    Raises:
        ParameterError: it is not an integer (True and 1.0 are not), or out of the range
    """
    if type(value) is int and least <= value <= most:
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ParameterError(f"{what} must be an integer, not {brief(value)}") from None
    if not least <= number <= most:
        raise ParameterError(f"{what} must be in {least}..{most}, not {brief(value)}")
    return number
