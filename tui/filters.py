"""The filter box: `topic = noun.animal AND text contains dog`, evaluated over the columns of a data set.

    condition  column OP value; OP is = != < <= > >= or contains
    filter     condition AND condition AND ...

A column is one of the metadata, or `text`, or `id`. Values with blanks stand in quotes. Numbers compare as numbers,
everything else as text; = and contains do not mind upper and lower case. A row without a value meets only !=.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevec import ParameterError

from .model import Data, Ids

__all__ = ["columns", "filter_ids"]

_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|!=|<=|>=|=|<|>|[^\s=!<>"']+|\S)""")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = ("=", "!=", *_ORDER, "contains")


def columns(data: Data) -> list[str]:
    """What a filter may name."""
    return [*data.columns, *(["text"] if data.texts is not None else []), "id"]


def filter_ids(text: str, data: Data) -> Ids | None:
    """The ids that the filter allows, or None for an empty filter: all.

    ParameterError names the part that makes no sense.
    """
    tokens = [token.strip() for token in _TOKEN.findall(text)]
    if not tokens:
        return None
    mask = np.ones(len(data), bool)
    for condition in _conditions(tokens):
        mask &= _matches(condition, data)
    return data.ids[mask]


def _conditions(tokens: list[str]) -> list[list[str]]:
    """Split at AND; each part must be a column, an operator and a value."""
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token.lower() == "and":
            parts.append([])
        else:
            parts[-1].append(token)
    for part in parts:
        if not part:
            raise ParameterError("a condition is missing beside AND")
        if len(part) == 1:
            raise ParameterError(f"{part[0]}: then what? Such as: {part[0]} = value")
        part[1] = part[1].lower()
        if part[1] not in _OPERATORS:
            raise ParameterError(f"{part[1]}: not one of {' '.join(_OPERATORS)}")
        if len(part) == 2:
            raise ParameterError(f"{' '.join(part)}: a value is missing")
        if len(part) > 3:
            raise ParameterError(
                f"{' '.join(part[2:])}: more than a value; put it in quotes, or AND before a condition"
            )
    return parts


def _matches(condition: list[str], data: Data) -> NDArray[np.bool_]:
    name, op, value = condition
    column = _column(name, data)
    if value[0] in "\"'":
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if op == "contains":
        wanted = value.casefold()
        return _each(column, lambda item: item is not None and wanted in str(item).casefold())
    number = _number(value)
    if op in _ORDER:
        return _each(column, _ordered(_ORDER[op], value, number))
    equal = _each(column, _equals(value, number))
    return ~equal if op == "!=" else equal


def _column(name: str, data: Data) -> Any:
    if name in data.columns:
        return data.columns[name]
    if name == "text" and data.texts is not None:
        return data.texts
    if name == "id":
        return data.ids.tolist()
    raise ParameterError(f"{name}: no such column; there is {', '.join(columns(data))}")


def _each(column: Any, test: Callable[[Any], bool]) -> NDArray[np.bool_]:
    """Columns repeat few values, as a rule: each different one is tested once."""
    known: dict[Any, bool] = {}
    out = np.empty(len(column), bool)
    for row, item in enumerate(column):
        try:
            known_answer = known.get(item)
        except TypeError:  # a list or an object in the metadata
            out[row] = test(item)
            continue
        if known_answer is None:
            known_answer = known[item] = test(item)
        out[row] = known_answer
    return out


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(item: Any) -> bool:
    return isinstance(item, (int, float)) and not isinstance(item, bool)


def _equals(value: str, number: float | None) -> Callable[[Any], bool]:
    wanted = value.casefold()

    def test(item: Any) -> bool:
        if number is not None and _is_number(item):
            return bool(item == number)
        return item is not None and str(item).casefold() == wanted

    return test


def _ordered(compare: Callable[[Any, Any], bool], value: str, number: float | None) -> Callable[[Any], bool]:
    def test(item: Any) -> bool:
        if item is None:
            return False
        if _is_number(item):
            return number is not None and compare(item, number)
        return compare(str(item), value)

    return test
