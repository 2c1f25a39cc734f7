"""CSV: a column of lists such as "[0.1, 0.2]", or one column for each dimension.

The vector is the longest series of numbered columns (x0, x1, ...), in the order of the numbers; without such a series,
all columns of numbers but the id, from left to right. `cells` decides whether the first line is a header, and which
type the other columns have: that of all their cells, so that to read a file in pieces is to read it twice.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, BinaryIO

from . import cells
from .dataset import Dataset
from .request import ID_NAMES, Request, Rows
from .text_lines import MAX_LINE, REPORT_ROWS, open_lines, parse_json

__all__ = ["csv_pieces", "read_csv"]

_MAX_COLUMNS = 1 << 17
"""Twice as many as a vector can have elements."""

_Row = tuple[int, list[str]]
"""The number of its line, and its cells."""


def read_csv(request: Request) -> Dataset:
    rows = Rows(request)
    with _opened(request) as (table, file):
        for _ in _taken(request, table, rows, file):
            pass
    table.look()
    return table.dataset(rows)


def csv_pieces(request: Request, size: int) -> Iterator[Dataset]:
    """As read_csv(), in pieces of up to `size` rows."""
    kinds = _surveyed(request)
    rows = Rows(request)
    with _opened(request) as (table, file):
        table.kinds = kinds
        for _ in _taken(request, table, rows, file):
            if rows.is_piece(size):
                yield table.dataset(rows)
        if rows.held:
            yield table.dataset(rows)


def _surveyed(request: Request) -> dict[int, cells.ColumnType]:
    """The types of the columns beside the vector, for which all rows are looked at, unless there is no such column."""
    with _opened(request) as (table, file):
        for seen, (_, row) in enumerate(islice(table.rows() if table.kinds else (), request.limit), 1):
            table.take_rest(row)
            if seen % REPORT_ROWS == 0:
                table.look()
                table.forget()
                request.report(0, round(seen / _share(request, file)))
        table.look()
        table.check_columns()
        return table.kinds


def _taken(request: Request, table: _Table, rows: Rows, file: BinaryIO) -> Iterator[None]:
    """Row by row, `rows` takes the vector and `table` the rest."""
    for number, row in table.rows():
        table.append_vector(rows, row, f"line {number}")
        table.take_rest(row)
        yield
        if len(rows) % REPORT_ROWS == 0:
            request.report_share(len(rows), _share(request, file))
        if len(rows) == request.limit:
            break
    request.report(len(rows), len(rows))


def _share(request: Request, file: BinaryIO) -> float:
    return file.tell() / request.path.stat().st_size


@contextmanager
def _opened(request: Request) -> Iterator[tuple[_Table, BinaryIO]]:
    with open_lines(request) as (lines, file), _wide_cells():
        blank, first_line = next(((at, line) for at, line in enumerate(lines) if line.strip()), (0, ""))
        reader = csv.reader(chain([first_line], lines), delimiter=cells.delimiter_of(first_line), strict=True)
        try:
            yield _Table(request, ((blank + reader.line_num, row) for row in reader if row)), file
        except csv.Error as error:
            raise request.error(f"damaged: line {blank + reader.line_num}: {error}") from error


class _Table:
    """Splits the rows of a CSV file into vectors and columns.

    Attributes:
        kinds: the columns beside the vector, by place
    """

    def __init__(self, request: Request, numbered: Iterator[_Row]) -> None:
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
        self.kinds = {at: cells.ColumnType(request, name) for at, name in enumerate(self._names) if at not in taken}
        self._cells: dict[int, list[str]] = {}
        self.forget()

    def rows(self) -> Iterator[_Row]:
        for number, row in self._rows:
            self._check_width(number, row)
            yield number, row

    def _check_width(self, number: int, row: list[str]) -> None:
        if len(row) != len(self._names):
            raise self._request.error(f"line {number}: expected {len(self._names)} cells, found {len(row)}")

    def append_vector(self, rows: Rows, row: list[str], place: str) -> None:
        if self._is_list:
            name = self._names[self._vector[0]]
            rows.append(_parse_list(self._request, row[self._vector[0]], f"{place}, column {name!r}"), place)
        else:
            try:
                numbers = [float(row[at]) for at in self._vector]
            except ValueError:
                odd = next(at for at in self._vector if not cells.is_number(row[at]))
                raise self._request.error(
                    f"{place}, column {self._names[odd]!r}: not a number: {row[odd][:40]!r}"
                ) from None
            rows.append(numbers, place)

    def take_rest(self, row: list[str]) -> None:
        for at, column in self._cells.items():
            column.append(row[at])

    def look(self) -> None:
        """Learn the types of what was taken."""
        for at, column in self._cells.items():
            self.kinds[at].look(column)

    def forget(self) -> None:
        """What was taken."""
        self._cells = {at: [] for at in self.kinds}

    def dataset(self, rows: Rows) -> Dataset:
        """Of what was taken, and is forgotten then."""
        self.check_columns()
        values = {self._names[at]: self.kinds[at].values(self._cells[at]) for at in self._kept()}
        self.forget()
        return self._request.dataset(rows.take(), values)

    def check_columns(self) -> None:
        self._refuse_gaps()
        names = [self._names[at] for at in self._kept()]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise self._request.error(f"duplicate column {name!r}")

    def _kept(self) -> list[int]:
        """The columns beside the vector but for those without name and content."""
        return [at for at, kind in self.kinds.items() if self._names[at].strip() or not kind.is_empty]

    def _refuse_gaps(self) -> None:
        """Refuse a column whose first cell is empty and whose later cells show that it belongs to the vector."""
        number, first = self._first[0]
        for at, kind in self.kinds.items():
            if first[at].strip() or self._names[at] in ID_NAMES or kind.is_empty or self._is_list:
                continue
            if kind.are_lists or (kind.are_numbers and not self._is_numbered()):
                raise self._request.error(
                    f"line {number}, column {self._names[at]!r}: an element of the vector is missing"
                )

    def _is_numbered(self) -> bool:
        """Whether the vector is a numbered series, so that its names tell which columns belong to it."""
        return self._named and len(self._vector) > 1 and cells.are_numbered([self._names[at] for at in self._vector])


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
            csv.field_size_limit(max(_limit_before, MAX_LINE))
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if not _limit_users:
                csv.field_size_limit(_limit_before)


def _parse_list(request: Request, cell: str, place: str) -> list[Any]:
    numbers = parse_json(request, cell, place)
    if not isinstance(numbers, list):
        raise request.error(f"{place}: not a list of numbers: {cell[:40]!r}")
    return numbers
