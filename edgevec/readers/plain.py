"""Values of tables as JSON values: texts, numbers, booleans, null, lists and objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

__all__ = ["NotPlainError", "decoded", "is_missing", "listed", "plain"]

_PLAIN = frozenset((str, int, bool, type(None)))


class NotPlainError(ValueError):
    """A value that has no JSON value; the message says what it is."""


def listed(array: NDArray[Any]) -> list[Any]:
    """The elements of an array [n] of any type but objects. Bytes become texts where all of them are UTF-8."""
    if array.dtype.kind == "S":
        return decoded(array.tolist())
    if array.dtype.kind in "mM":
        return [plain(value) for value in array]
    values: list[Any] = array.tolist()
    return values


def decoded(values: Sequence[Any]) -> list[Any]:
    """Bytes as texts; unchanged where one of them is not UTF-8."""
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        return list(values)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or NA, with which tables mark missing values."""
    if value is None:
        return True
    if isinstance(value, (str, bool, int, list, dict)):
        return False
    if isinstance(value, Decimal):
        return value.is_nan()
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA cannot say; an array says more than one thing
        return type(value).__name__ == "NAType"


def plain(value: Any) -> Any:
    """The JSON value for a value of a table.

    Missing values become null, decimals numbers, dates and times ISO 8601 texts, durations seconds, and bytes the text
    that they are in UTF-8.

    Raises:
        NotPlainError: there is no JSON value for it
    """
    if type(value) in _PLAIN or is_missing(value):
        return None if is_missing(value) else value
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _of_numpy(value)
    if isinstance(value, (str, int)):
        return value
    return _of_library(value)


def _of_numpy(value: Any) -> Any:
    if value.ndim:
        return [plain(inner) for inner in value]
    if isinstance(value, np.datetime64):
        return _iso(value)
    if isinstance(value, np.timedelta64):
        if np.datetime_data(value)[0] in ("Y", "M", "generic"):
            raise NotPlainError("a duration in months or years cannot be converted to seconds")
        return float(value / np.timedelta64(1, "s"))
    if isinstance(value, np.floating):
        return plain(float(value))
    return plain(value.item())


def _iso(value: np.datetime64) -> str:
    """As datetime.isoformat() writes it; to the nanosecond where microseconds are not exact."""
    for unit in ("D", "us"):
        exact = value.astype(f"datetime64[{unit}]")
        if exact == value and (unit != "D" or np.datetime_data(value)[0] in ("Y", "M", "W", "D")):
            item = exact.item()
            return str(exact) if isinstance(item, int) else item.isoformat()
    return str(value)


def _of_library(value: Any) -> Any:
    if isinstance(value, float):
        if math.isinf(value):
            raise NotPlainError("infinity is not a JSON value")
        return value
    if isinstance(value, Decimal):
        if value.is_infinite():
            raise NotPlainError("infinity is not a JSON value")
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise NotPlainError("bytes are not UTF-8 text") from None
    if isinstance(value, UUID):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise NotPlainError(f"{type(value).__name__} is not a JSON value")
