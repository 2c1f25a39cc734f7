"""What the cells of a CSV file mean: whether there is a header, which columns are the vector, what type a column has.

CSV has no types. A column has the type that all of its cells agree on, over the whole file (or the rows that are read).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .dataset import TEXT_NAMES
from .request import ID_NAMES, VECTOR_NAMES, Request

__all__ = ["ColumnType", "are_numbered", "delimiter_of", "is_header", "is_number", "vector_columns"]

_QUOTED = re.compile(r'"[^"]*"')
_INTEGER = re.compile(r"\s*(-?(?:0|[1-9]\d*))\s*")
_FLOAT = re.compile(r"\s*-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*")
_NAN = re.compile(r"\s*-?nan\s*", re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}
_NOTHING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
"""Cells that mark a missing number, and are unlikely names of a column."""


def delimiter_of(line: str) -> str:
    """Comma, semicolon or tab, whichever occurs most in the first line, outside of quotes."""
    return max(",;\t", key=_QUOTED.sub("", line).count)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_list(cell: str) -> bool:
    return cell.lstrip().startswith("[")


# ---- the header ----------------------------------------------------------------------------------------------------


def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line names the columns.

    It does when it holds no numbers; when its numbers only count the columns (0, 1, ... or 1, 2, ..., also with
    leading zeros); when a column is called id; and when a name is above a number or a list, and the numbers beside it
    could be names: digits alone, "inf" or "nan".
    """
    if any(map(is_list, first)):
        return False
    numbers = [cell for cell in first if is_number(cell)]
    if not numbers or any(cell.strip().lower() in ID_NAMES for cell in first):
        return True
    if _count(numbers, second):
        return True
    if not all(cell.strip().isdigit() or not cell.strip("+-. \t")[:1].isdigit() for cell in numbers):
        return False
    return any(
        not is_number(name) and name.strip().lower() not in _NOTHING and (is_number(cell) or is_list(cell))
        for name, cell in zip(first, second, strict=False)
    )


def _count(numbers: Sequence[str], second: Sequence[str]) -> bool:
    if len(numbers) < 2:
        return False
    for start in (0, 1):
        for width in {1, len(numbers[0])}:
            if list(numbers) == [f"{at + start:0{width}}" for at in range(len(numbers))]:
                # Among small integers 1, 2, 3 may well be the first vector; columns are seldom counted from 1.
                return (
                    start == 0 or width > 1 or not all(_INTEGER.fullmatch(cell) for cell in second if is_number(cell))
                )
    return False


# ---- the vector ----------------------------------------------------------------------------------------------------


def vector_columns(
    request: Request, names: Sequence[str], first: Sequence[str], *, named: bool
) -> tuple[list[int], bool]:
    """The columns of the vector's elements, in order, and whether it is one column of lists."""
    series = _series(names, first) if named else {"": [at for at, cell in enumerate(first) if is_number(cell)]}
    lists = [name for name, cell in zip(names, first, strict=False) if is_list(cell)]
    if request.column in series and named:
        return series[request.column], False
    if lists or request.column is not None:
        return [list(names).index(request.choose(lists, kind="column"))], True
    at = next((names.index(name) for name in VECTOR_NAMES if name in names), None)
    if at is not None and named and not first[at].strip():
        return [at], True  # an empty cell in place of a list; reading it raises the error
    chosen = next((series[name] for name in VECTOR_NAMES if name in series), None)
    chosen = chosen or max(series.values(), key=len, default=[])
    if named and len(chosen) < 2:
        chosen = [at for at, name in enumerate(names) if is_number(first[at]) and name not in ID_NAMES]
    if not chosen:
        raise request.error("no column of vectors found")
    return chosen, False


def _series(names: Sequence[str], first: Sequence[str]) -> dict[str, list[int]]:
    """Numbered columns that hold numbers, by the prefix of their names, in the order of their numbers.

    A column whose first cell is empty is not left out: a vector with a missing element is an error.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for at, name in enumerate(names):
        numbered = _numbered(name)
        if numbered and (is_number(first[at]) or not first[at].strip()):
            found.setdefault(numbered[0], []).append((numbered[1], at))
    return {
        prefix: [at for _, at in sorted(members)]
        for prefix, members in found.items()
        if any(is_number(first[at]) for _, at in members)
    }


def are_numbered(names: Sequence[str]) -> bool:
    """Whether these are names of one numbered series of columns."""
    found = [_numbered(name) for name in names]
    return len({numbered[0] for numbered in found if numbered}) == 1 and all(found)


def _numbered(name: str) -> tuple[str, int] | None:
    """The prefix and the number of a name such as "x7", "x_07" or "7"."""
    prefix = name.rstrip("0123456789")
    digits = name[len(prefix) :]
    if not 1 <= len(digits) <= 18:
        return None
    return (prefix[:-1] if prefix and prefix[-1] in " _.:-" else prefix), int(digits)


# ---- types ---------------------------------------------------------------------------------------------------------


class ColumnType:
    """What the cells of a column are: integers, floats or booleans where all that look() has seen are, texts otherwise.

    An empty cell is None, and so is NaN among numbers. Numbers that look like codes stay texts: those with leading
    zeros or a plus sign, and integers of more than 64 bits. So do columns called "text", "title" and the like.
    """

    def __init__(self, request: Request, name: str) -> None:
        self._may_be = [] if name in TEXT_NAMES or name in request.texts else list(_TYPES)
        self.is_empty = True
        self.are_numbers = self.are_lists = True
        """Of all cells that are not empty."""

    def look(self, cells: Sequence[str]) -> None:
        held = [cell for cell in cells if cell.strip()]
        if not held:
            return
        self.is_empty = False
        self._may_be = [kind for kind in self._may_be if all(map(kind[0], held))]
        self.are_numbers = self.are_numbers and all(map(is_number, held))
        self.are_lists = self.are_lists and all(map(is_list, held))

    def values(self, cells: Sequence[str]) -> list[Any]:
        if self.is_empty or not self._may_be:
            return [cell or None for cell in cells]
        convert = self._may_be[0][1]
        return [None if not cell or cell.isspace() else convert(cell) for cell in cells]


def _is_int64(cell: str) -> bool:
    match = _INTEGER.fullmatch(cell)
    return match is not None and len(match[1]) < 21 and -(2**63) <= int(match[1]) < 2**63


def _is_float(cell: str) -> bool:
    """Whether a cell is a float; an integer counts where a float holds it exactly."""
    if match := _INTEGER.fullmatch(cell):
        return len(match[1]) < 18 and abs(int(match[1])) <= 2**53
    return bool(_FLOAT.fullmatch(cell) or _NAN.fullmatch(cell))


def _as_int(cell: str) -> int:
    return int(cell.strip())  # which float() and int() do themselves, but for ASCII's separators, 0x1c to 0x1f


def _as_float(cell: str) -> float | None:
    number = float(cell.strip())
    return number if number == number else None


def _as_boolean(cell: str) -> bool:
    return _BOOLEANS[cell.strip().lower()]


def _is_boolean(cell: str) -> bool:
    return cell.strip().lower() in _BOOLEANS


_TYPES = ((_is_int64, _as_int), (_is_float, _as_float), (_is_boolean, _as_boolean))
"""Types that cells may have, best first: (is a cell of it, its value)."""
