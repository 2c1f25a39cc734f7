"""Dates and times as texts that sort like the instants they stand for.

    date                2024-01-01
    without a zone      2024-01-01T00:00:00           taken as UTC
    with a zone         2024-01-01T00:00:00+00:00     brought to UTC
    with a fraction     2024-01-01T00:00:00.500000, in 6 digits, or 9, 12... where it needs them

For one instant each form begins with the one above it, and "+" is less than "." and every digit: so the texts of an
earlier instant, in any form, are less than those of a later one.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Instant", "as_instant", "as_iso", "as_seconds", "is_nat"]

_UTC = "+00:00"
_MIDNIGHT = "T00:00:00"
_FRACTIONS = {"ns": 10**9, "ps": 10**12, "fs": 10**15, "as": 10**18}


class Instant(NamedTuple):
    """A date or time in a condition: the texts that may be stored for it, ascending."""

    texts: tuple[str, ...]


def is_nat(value: Any) -> bool:
    """Whether it is NumPy's or pandas' "not a time"."""
    return isinstance(value, (dt.date, dt.timedelta, np.datetime64, np.timedelta64)) and bool(value != value)


def as_iso(value: Any) -> str | None:
    """The text that is stored for a date, a datetime, a datetime64 or anything with isoformat(); None for other values.

    Times of the day stay as they write themselves. ValueError for years beyond 1..9999.
    """
    if isinstance(value, np.datetime64):
        return _of_numpy(value)
    if isinstance(value, dt.datetime):
        return _of_datetime(value)
    if isinstance(value, dt.date):
        return dt.date.isoformat(value)
    if isinstance(value, (type, dt.timedelta)) or not hasattr(value, "isoformat"):
        return None
    text = str(value.isoformat())
    try:
        return _of_datetime(dt.datetime.fromisoformat(re.sub("Z$", _UTC, text)))
    except ValueError:
        return text


def as_instant(value: Any) -> Instant | str | None:
    """A date or time to compare with; a text for a time of day, None for other values."""
    text = as_iso(value)
    if text is None or not re.match(r"\d{4}-\d\d-\d\d", text):
        return text
    naive = text.removesuffix(_UTC)
    day, clock = naive[:10], naive[10:] or _MIDNIGHT
    texts = (day + clock, day + clock + _UTC)
    return Instant((day, *texts) if clock == _MIDNIGHT else texts)


def as_seconds(value: Any) -> float | None:
    """A duration in seconds; None for other values. ValueError for one of months or years."""
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if not isinstance(value, np.timedelta64):
        return None
    unit = np.datetime_data(value.dtype)[0]
    plain = value.astype(f"timedelta64[{unit}]").item()
    if isinstance(plain, dt.timedelta):
        return plain.total_seconds()
    if unit not in _FRACTIONS:
        raise ValueError(f"{value!r} cannot be given in seconds")
    return float(plain / _FRACTIONS[unit])


def _of_datetime(value: dt.datetime) -> str:
    zone = ""
    try:
        if value.utcoffset() is not None:
            value, zone = value.astimezone(dt.timezone.utc), _UTC
        clock = dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)
    except (OverflowError, ValueError):
        raise ValueError(f"{value} is beyond the years 1 to 9999 in UTC") from None
    nanosecond = getattr(value, "nanosecond", 0)  # pandas'
    return clock.isoformat() + _fraction(f"{value.microsecond:06d}{nanosecond:03d}") + zone


def _of_numpy(value: np.datetime64) -> str:
    unit = np.datetime_data(value.dtype)[0]
    days = unit in ("Y", "M", "W", "D")
    text = str(value.astype("datetime64[D]" if days else "datetime64[s]" if unit in ("h", "m") else value.dtype))
    if not re.match(r"(?!0000)\d{4}-", text):
        raise ValueError(f"{text} is beyond the years 1 to 9999")
    clock, _, digits = text.partition(".")
    return clock + _fraction(digits)


def _fraction(digits: str) -> str:
    """With its point, in 6, 9, 12... digits, so that each value has one form; an empty text for 0."""
    digits = digits.rstrip("0")
    return "." + digits.ljust(max(6, -(-len(digits) // 3) * 3), "0") if digits else ""
