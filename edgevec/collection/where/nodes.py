"""The syntax tree of a condition, and its limits.

A comparison of values of different kinds is false. A boolean is the number 1 or 0, as in Python. Every test of a field
that is missing or null is NULL, neither true nor false, and so is its negation; only IS NULL is true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import WhereError
from ...printable import brief
from ..dates import Instant, as_instant, as_seconds, is_nat

__all__ = [
    "MAX_DEPTH",
    "MAX_LIST",
    "MAX_PATTERN",
    "MAX_TESTS",
    "MAX_TEXT",
    "All",
    "Any_",
    "Field",
    "IsNull",
    "Node",
    "Not",
    "OneOf",
    "Parameter",
    "Pattern",
    "Test",
    "Value",
    "as_list",
    "as_value",
    "check_depth",
    "check_size",
    "depth",
    "fields_of",
]

MAX_TEXT = 65_536
"""Characters of a condition."""
MAX_DEPTH = 30
"""Levels of NOT, AND and OR within each other. A chain of any length is one level."""
MAX_TESTS = 1000
MAX_LIST = 100_000
"""Values of one IN."""
MAX_PATTERN = 10_000

Value = str | int | float | Instant
Field = tuple[str, ...]
"""The names that lead to a field: ("a", "b") is b inside the object a."""


@dataclass(frozen=True)
class Parameter:
    """A `?` in the text, and its position there."""

    position: int


@dataclass(frozen=True)
class Test:
    """operator: =, <, <=, >, >= or CONTAINS (an element of a list, a part of a string)."""

    field: Field
    operator: str
    value: Value | Parameter


@dataclass(frozen=True)
class Pattern:
    """LIKE: % stands for any text, _ for a character. fold: ASCII letters match whatever their case."""

    field: Field
    pattern: str | Parameter
    escape: str | None = None
    fold: bool = False


@dataclass(frozen=True)
class OneOf:
    field: Field
    values: tuple[Value | Parameter, ...] | Parameter


@dataclass(frozen=True)
class IsNull:
    field: Field


@dataclass(frozen=True)
class Not:
    part: Node


@dataclass(frozen=True)
class All:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Any_:
    parts: tuple[Node, ...]


Node = Test | Pattern | OneOf | IsNull | Not | All | Any_


def _parts(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Not):
        return (node.part,)
    return node.parts if isinstance(node, (All, Any_)) else ()


def depth(node: Node) -> int:
    """Levels. Without recursion: it is what keeps recursion safe."""
    deepest, level = 0, [node]
    while level:
        deepest += 1
        level = [part for outer in level for part in _parts(outer)]
    return deepest


def fields_of(node: Node) -> list[Field]:
    """The field of each test."""
    found: list[Field] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (Test, Pattern, OneOf, IsNull)):
            found.append(one.field)
        waiting.extend(reversed(_parts(one)))
    return found


def check_size(node: Node) -> None:
    """WhereError when there are too many tests, or too many levels."""
    count, waiting = 0, [node]
    while waiting:
        inner = _parts(waiting.pop())
        count += not inner
        waiting.extend(inner)
    if count > MAX_TESTS:
        raise WhereError(f"the condition has {count:,} tests; the limit is {MAX_TESTS:,}")
    check_depth(depth(node))


def check_depth(levels: int) -> None:
    if levels > MAX_DEPTH:
        raise WhereError(f"the condition is nested too deeply; the limit is {MAX_DEPTH} levels")


def as_value(value: Any) -> Value:
    """A value to compare with; NULL is not one. Of subclasses, such as enums, the value counts."""
    if is_nat(value):
        value = None
    try:
        known = _of_time(value)
    except ValueError as error:
        raise WhereError(str(error)) from None
    if known is not None:
        return known
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # NumPy's
    if value is None:
        raise WhereError("a field cannot be compared with NULL; use IS NULL, or None in a dict")
    if isinstance(value, str):
        if not value.isprintable() and any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
            raise WhereError("a value contains a NUL or an unpaired surrogate")
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        if not -(2**63) <= number < 2**63:
            raise WhereError(f"{brief(number)} does not fit in 64 bits")
        return number
    if isinstance(value, float):
        real = float.__float__(value)
        if not math.isfinite(real):
            raise WhereError(f"a field cannot be compared with {real}")
        return real
    raise WhereError(
        f"a field can be compared with a string, a number, a boolean, a date or a time, not with {type(value).__name__}"
    )


def _of_time(value: Any) -> Value | None:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    known = as_instant(value)
    return as_seconds(value) if known is None else known


def as_list(values: Any) -> tuple[Value, ...]:
    if isinstance(values, np.ndarray) and values.dtype.kind in ("m", "M") and values.ndim == 1:
        values = list(values)  # tolist() may turn them into integers
    elif hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, set, frozenset)):
        raise WhereError(f"IN needs a list of values, not {type(values).__name__}")
    if len(values) > MAX_LIST:
        raise WhereError(f"the list has {len(values):,} values; the limit is {MAX_LIST:,}")
    return tuple(as_value(value) for value in values)
