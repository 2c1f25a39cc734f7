"""Files of one row a line: JSON lines (also gzipped) and CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import IO, Any, BinaryIO, cast

from .dataset import Dataset
from .request import ID_NAMES, VECTOR_NAMES, Request, Rows

__all__ = ["read_csv", "read_jsonl"]

_MAX_LINE = 1 << 26
"""No honest line is longer, and a few MB of gzip can hold gigabytes without a line break."""

_DEEPEST = 256
"""Brackets within brackets. The json module recurses, which in a browser can end the page's whole Python."""
_MOST_BRACKETS = 256
"""Lines with fewer cannot be deeper, and need no look."""

_REPORT_ROWS = 1024

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBERED = re.compile(r"(.*?)[ _.:-]?\d+")


def read_jsonl(request: Request) -> Dataset:
    """Each line an object with a list of numbers among its fields, or such a list alone."""
    rows = Rows(request)
    records: list[dict[str, Any]] = []
    field: str | None = None
    with _open(request) as (lines, file):
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"line {number}"
            record = _parse_record(request, line, place)
            if field is None:
                field = request.choose([name for name, value in record.items() if _is_vector(value)], kind="field")
            vector = record.pop(field, None)
            if not isinstance(vector, list):
                raise request.error(f"{place}: no list of numbers in the field {field!r}")
            rows.append(vector, place)
            records.append(record)
            _report_now_and_then(request, rows, file)
            if len(rows) == request.limit:
                break
    vectors = rows.vectors()
    request.report(len(rows), len(rows))
    id_name = next((name for name in ID_NAMES if all(type(record.get(name)) is int for record in records)), None)
    ids = None if id_name is None else request.ids([record.pop(id_name) for record in records])
    return Dataset(vectors, ids, records if any(records) else None, request.name())


def read_csv(request: Request) -> Dataset:
    """A column of lists such as "[0.1, 0.2]", or one column for each dimension.

    Of columns that are numbered (x0, x1, ...) the longest series is the vector; without such a series, all columns of
    numbers but the id are. The first line is a header when it holds no numbers, or numbers that only count the columns.
    """
    rows = Rows(request)
    with _open(request) as (lines, file):
        first_line = next(lines, "")
        delimiter = max(",;\t", key=first_line.count)
        reader = csv.reader(chain([first_line], lines), delimiter=delimiter)
        records = (cells for cells in reader if cells)
        first = next(records, [])
        if _is_header(first):
            names, first = first, next(records, [])
        else:
            names = [str(at) for at in range(len(first))]
        if not first:
            raise request.error("holds no vectors")
        vector_at, is_list = _vector_columns(request, names, first)
        columns: dict[int, list[str]] = {at: [] for at in range(len(names)) if at not in vector_at}
        for cells in chain([first], records):
            place = f"line {reader.line_num}"
            if len(cells) != len(names):
                raise request.error(f"{place}: {len(cells)} cells where the first line has {len(names)}")
            if is_list:
                rows.append(_parse_list(request, cells[vector_at[0]], place), place)
            else:
                rows.append([_parse_number(request, cells[at], names[at], place) for at in vector_at], place)
            for at, column in columns.items():
                column.append(cells[at])
            _report_now_and_then(request, rows, file)
            if len(rows) == request.limit:
                break
    request.report(len(rows), len(rows))
    return request.dataset(rows.vectors(), {names[at]: _typed(names[at], column) for at, column in columns.items()})


@contextmanager
def _open(request: Request) -> Iterator[tuple[Iterator[str], BinaryIO]]:
    """The lines of a text file, and the file below them, whose position tells how much is done."""
    with request.path.open("rb") as file:
        binary = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if request.path.suffix.lower() == ".gz" else file
        with io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
            try:
                yield _lines(request, text), file
            except UnicodeDecodeError as error:
                raise request.error(f"not UTF-8 text: {error.reason}") from error
            except (gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
                raise request.error(f"damaged: {error}") from error


def _lines(request: Request, text: IO[str]) -> Iterator[str]:
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise request.error(f"a line of more than {_MAX_LINE:,} characters")
        yield line


def _report_now_and_then(request: Request, rows: Rows, file: BinaryIO) -> None:
    if len(rows) % _REPORT_ROWS == 0:
        request.report_share(len(rows), file.tell() / request.path.stat().st_size)


def _parse_json(request: Request, text: str, place: str) -> Any:
    if text.count("[") + text.count("{") > _MOST_BRACKETS and _depth(text) > _DEEPEST:
        raise request.error(f"{place}: not JSON: nested more than {_DEEPEST} deep")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise request.error(f"{place}: not JSON: {reason}") from None


def _depth(text: str) -> int:
    """An upper bound of how deep the brackets nest: those in strings count too."""
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _parse_record(request: Request, line: str, place: str) -> dict[str, Any]:
    record = _parse_json(request, line, place)
    if isinstance(record, list):
        return {"vector": record}
    if not isinstance(record, dict):
        raise request.error(f"{place}: neither an object nor a list")
    return record


def _parse_list(request: Request, cell: str, place: str) -> list[Any]:
    numbers = _parse_json(request, cell, place)
    if not isinstance(numbers, list):
        raise request.error(f"{place}: not a list of numbers: {cell[:40]!r}")
    return numbers


def _parse_number(request: Request, cell: str, name: str, place: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise request.error(f"{place}, column {name!r}: not a number: {cell[:40]!r}") from None


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= {int, float}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_list(cell: str) -> bool:
    return cell.lstrip().startswith("[")


def _is_header(cells: Sequence[str]) -> bool:
    if any(map(_is_list, cells)):
        return False
    numbers = [cell for cell in cells if _is_number(cell)]
    counts = [[str(at + start) for at in range(len(numbers))] for start in (0, 1)]
    return not numbers or (len(numbers) > 1 and numbers in counts)


def _vector_columns(request: Request, names: Sequence[str], first: Sequence[str]) -> tuple[list[int], bool]:
    """Where the vector stands, and whether that is one column of lists."""
    lists = [name for name, cell in zip(names, first, strict=False) if _is_list(cell)]
    numbers = [name for name, cell in zip(names, first, strict=False) if _is_number(cell)]
    series: dict[str, list[str]] = {}
    for name in numbers:
        if match := _NUMBERED.fullmatch(name):
            series.setdefault(match[1], []).append(name)
    if request.column in series:
        chosen = series[request.column]
    elif lists or request.column is not None:
        return [names.index(request.choose(lists, kind="column"))], True
    else:
        named = next((series[name] for name in VECTOR_NAMES if name in series), None)
        longest = max(series.values(), key=len, default=[])
        chosen = named or (longest if len(longest) > 1 else [name for name in numbers if name not in ID_NAMES])
    if not chosen:
        raise request.error("holds no column of vectors")
    wanted = set(chosen)
    return [at for at, name in enumerate(names) if name in wanted], False


def _typed(name: str, column: list[str]) -> list[str] | list[int]:
    """Cells are text; only ids must be integers to be of use."""
    return [int(cell) for cell in column] if name in ID_NAMES and all(map(_INTEGER.fullmatch, column)) else column
