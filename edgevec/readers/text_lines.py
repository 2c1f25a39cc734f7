"""Files of one row a line: JSON lines (also gzipped) and CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from .._native import read_numbers
from . import cells
from .dataset import Dataset
from .request import ID_NAMES, VECTOR_NAMES, Request, Rows

__all__ = ["jsonl_pieces", "read_csv", "read_jsonl"]

_MAX_LINE = 1 << 26
"""Longer lines are refused: a few MB of gzip can hold gigabytes without a line break."""

_MAX_DEPTH = 256
"""Levels of brackets. The json module recurses, which in a browser can crash the page's whole Python."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
"""A bracket, or a string, whose brackets do not count."""
_UNMEASURED_BRACKETS = 256
"""The depth of lines with no more brackets is not measured."""

_MAX_COLUMNS = 1 << 17
"""Of a CSV file: twice as many as a vector can have elements."""

_REPORT_ROWS = 1024


def read_jsonl(request: Request) -> Dataset:
    """Each line an object with a list of numbers among its fields, or such a list alone."""
    rows = Rows(request)
    records = list(_records(request, rows))
    return _dataset(request, rows, records)


def jsonl_pieces(request: Request, size: int) -> Iterator[Dataset]:
    """As read_jsonl(), in pieces of up to `size` rows."""
    rows = Rows(request)
    records: list[dict[str, Any]] = []
    for record in _records(request, rows):
        records.append(record)
        if rows.is_piece(size):
            yield _dataset(request, rows, records)
            records = []
    if records or not len(rows):
        yield _dataset(request, rows, records)


def _dataset(request: Request, rows: Rows, records: list[dict[str, Any]]) -> Dataset:
    vectors = rows.take()
    id_name = next((name for name in ID_NAMES if all(type(record.get(name)) is int for record in records)), None)
    ids = None if id_name is None else request.ids([record.pop(id_name) for record in records])
    return Dataset(vectors, ids, records if any(records) else None, request.name(), id_name=id_name)


def _records(request: Request, rows: Rows) -> Iterator[dict[str, Any]]:
    """The fields of each line without its vector, which `rows` has then."""
    field: str | None = None
    with _open(request) as (lines, file):
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"line {number}"
            found = None if field is None else _split(request, line, place, field, rows.dim)
            record, vector = found or (_parse_record(request, line, place), None)
            if field is None:
                field = request.choose([name for name, value in record.items() if _is_vector(value)], kind="field")
            if field not in VECTOR_NAMES and request.column is None:
                named = next((name for name in VECTOR_NAMES if _is_vector(record.get(name))), None)
                if named is not None:
                    raise request.error(f"{place}: the vector is in field {named!r}, expected {field!r}")
            if vector is not None:
                rows.append_block(vector, place)
            else:
                numbers = record.pop(field, None)
                if not isinstance(numbers, list):
                    raise request.error(f"{place}: field {field!r} is not a list of numbers")
                rows.append(numbers, place)
            yield record
            _report_now_and_then(request, rows, file)
            if len(rows) == request.limit:
                break
    if len(rows):
        request.report(len(rows), len(rows))


_PLACEHOLDER = int.from_bytes(os.urandom(7), "big")
"""Stands for the vector in a line whose rest is parsed: no file can hold it but by chance."""


def _split(
    request: Request, line: str, place: str, field: str, dim: int
) -> tuple[dict[str, Any], NDArray[np.float32]] | None:
    """The record without its vector, and the vector, [1, dim]; None where all of the line has to be looked at.

    The json module takes ten times as long for the numbers, each of which becomes an object.
    """
    key = f'"{field}"'
    after = line.find(key) + len(key)
    start = line.find("[", after)
    if after < len(key) or start < 0 or line[after:start].strip() != ":":
        return None
    vector = np.empty((1, dim), np.float32)
    length = read_numbers(line[start:].encode(), vector[0])
    if not length:
        return None
    record = _parse_json(request, f"{line[:start]}{_PLACEHOLDER}{line[start + length :]}", place)
    if not isinstance(record, dict) or record.pop(field, None) != _PLACEHOLDER:
        return None
    return record, vector


def read_csv(request: Request) -> Dataset:
    """A column of lists such as "[0.1, 0.2]", or one column for each dimension.

    The vector is the longest series of numbered columns (x0, x1, ...), in the order of the numbers; without such a
    series, all columns of numbers but the id, from left to right. `cells` decides whether the first line is a header,
    and which type the other columns have.
    """
    rows = Rows(request)
    with _open(request) as (lines, file), _wide_cells():
        blank, first_line = next(((at, line) for at, line in enumerate(lines) if line.strip()), (0, ""))
        reader = csv.reader(chain([first_line], lines), delimiter=cells.delimiter_of(first_line), strict=True)
        try:
            table = _Table(request, ((blank + reader.line_num, row) for row in reader if row))
            for at, row in table.rows():
                table.take(rows, row, f"line {at}")
                _report_now_and_then(request, rows, file)
                if len(rows) == request.limit:
                    break
        except csv.Error as error:
            raise request.error(f"damaged: line {blank + reader.line_num}: {error}") from error
    table.refuse_gaps()
    request.report(len(rows), len(rows))
    columns = {name: cells.typed(request, name, column) for name, column in table.columns().items()}
    return request.dataset(rows.take(), columns)


class _Table:
    """Splits the rows of a CSV file into vectors and columns."""

    def __init__(self, request: Request, numbered: Iterator[tuple[int, list[str]]]) -> None:
        self._request = request
        head = list(islice(numbered, 2))
        if head and len(head[0][1]) > _MAX_COLUMNS:
            raise request.error(f"has {len(head[0][1]):,} columns; the limit is {_MAX_COLUMNS:,}")
        self._named = bool(head) and cells.is_header(head[0][1], head[1][1] if len(head) > 1 else [])
        self._names = head[0][1] if self._named else [str(at) for at in range(len(head[0][1]) if head else 0)]
        self._rows = chain(head[self._named :], numbered)
        self._first = head[self._named :][:1]
        if not self._first:
            raise request.error("holds no vectors")
        self._check_width(*self._first[0])
        self._vector, self._is_list = cells.vector_columns(request, self._names, self._first[0][1], named=self._named)
        taken = set(self._vector)
        self._cells: dict[int, list[str]] = {at: [] for at in range(len(self._names)) if at not in taken}

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        for number, row in self._rows:
            self._check_width(number, row)
            yield number, row

    def _check_width(self, number: int, row: list[str]) -> None:
        if len(row) != len(self._names):
            raise self._request.error(f"line {number}: expected {len(self._names)} cells, found {len(row)}")

    def take(self, rows: Rows, row: list[str], place: str) -> None:
        if self._is_list:
            name = self._names[self._vector[0]]
            rows.append(_parse_list(self._request, row[self._vector[0]], f"{place}, column {name!r}"), place)
        else:
            rows.append([_parse_number(self._request, row[at], self._names[at], place) for at in self._vector], place)
        for at, column in self._cells.items():
            column.append(row[at])

    def refuse_gaps(self) -> None:
        """Refuse a column whose first cell is empty and whose later cells show that it belongs to the vector."""
        number, first = self._first[0]
        for at, column in self._cells.items():
            if first[at].strip() or self._names[at] in ID_NAMES:
                continue
            held = [cell for cell in column if cell.strip()]
            lists = not self._is_list and bool(held) and all(map(cells.is_list, held))
            loose = not self._is_list and not self._numbered() and bool(held) and all(map(cells.is_number, held))
            if lists or loose:
                raise self._request.error(
                    f"line {number}, column {self._names[at]!r}: an element of the vector is missing"
                )

    def _numbered(self) -> bool:
        """Whether the vector is a numbered series, so that its names tell which columns belong to it."""
        return self._named and len(self._vector) > 1 and cells.are_numbered([self._names[at] for at in self._vector])

    def columns(self) -> dict[str, list[str]]:
        """The columns beside the vector, by name. A column without name and content is dropped."""
        found: dict[str, list[str]] = {}
        for at, column in self._cells.items():
            if not self._names[at].strip() and not any(cell.strip() for cell in column):
                continue
            if self._names[at] in found:
                raise self._request.error(f"duplicate column {self._names[at]!r}")
            found[self._names[at]] = column
        return found


_limit_lock = threading.Lock()
_limit_users = 0
_limit_before = 0


@contextmanager
def _wide_cells() -> Iterator[None]:
    """Allow cells as long as a line may be. The limit is global to the process, so the last reader restores it."""
    global _limit_users, _limit_before
    with _limit_lock:
        if not _limit_users:
            _limit_before = csv.field_size_limit()
            csv.field_size_limit(max(_limit_before, _MAX_LINE))
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if not _limit_users:
                csv.field_size_limit(_limit_before)


@contextmanager
def _open(request: Request) -> Iterator[tuple[Iterator[str], BinaryIO]]:
    """The lines of a text file, and the file itself, whose position tells how much has been read."""
    with request.path.open("rb") as file:
        binary = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if request.path.suffix.lower() == ".gz" else file
        with io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
            try:
                yield _lines(request, text), file
            except UnicodeDecodeError as error:
                raise request.error(f"not UTF-8 text: {error.reason}") from error
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise request.error(f"damaged: {error}") from error


def _lines(request: Request, text: IO[str]) -> Iterator[str]:
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise request.error(f"a line is longer than {_MAX_LINE:,} characters")
        yield line


def _report_now_and_then(request: Request, rows: Rows, file: BinaryIO) -> None:
    if len(rows) % _REPORT_ROWS == 0:
        request.report_share(len(rows), file.tell() / request.path.stat().st_size)


def _parse_json(request: Request, text: str, place: str) -> Any:
    if text.count("[") + text.count("{") > _UNMEASURED_BRACKETS and _depth(text) > _MAX_DEPTH:
        raise request.error(f"{place}: nested more than {_MAX_DEPTH} levels deep")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise request.error(f"{place}: not JSON: {reason}") from None


def _depth(text: str) -> int:
    """How deep brackets are nested; an upper bound where they do not match, or a string does not end."""
    deepest = depth = 0
    for found in _BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth = max(0, depth - 1)
    return deepest


def _parse_record(request: Request, line: str, place: str) -> dict[str, Any]:
    record = _parse_json(request, line, place)
    if isinstance(record, list):
        return {"vector": record}
    if not isinstance(record, dict):
        raise request.error(f"{place}: expected a JSON object or list, found {line.strip()[:40]}")
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
