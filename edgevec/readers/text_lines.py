"""Files of one row a line, as csv_table.py opens them too, and JSON lines, also gzipped."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from .._native import read_numbers
from .dataset import Dataset
from .request import ID_NAMES, VECTOR_NAMES, Request, Rows

__all__ = ["MAX_LINE", "REPORT_ROWS", "jsonl_pieces", "jsonl_records", "open_lines", "parse_json", "read_jsonl"]

MAX_LINE = 1 << 26
"""Longer lines are refused: a few MB of gzip can hold gigabytes without a line break."""

_MAX_DEPTH = 256
"""Levels of brackets. The json module recurses, which in a browser can crash the page's whole Python."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
"""A bracket, or a string, whose brackets do not count."""
_UNMEASURED_BRACKETS = 256
"""The depth of lines with no more brackets is not measured."""

REPORT_ROWS = 1024


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


def jsonl_records(request: Request) -> Iterator[dict[str, Any]]:
    """Each line an object, with whatever is in it."""
    count = 0
    with open_lines(request) as (lines, file):
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parse_record(request, line, f"line {number}")
                count += 1
                if count % REPORT_ROWS == 0:
                    request.report_share(count, file.tell() / request.path.stat().st_size)
    if count:
        request.report(count, count)


def _dataset(request: Request, rows: Rows, records: list[dict[str, Any]]) -> Dataset:
    vectors = rows.take()
    id_name = next((name for name in ID_NAMES if all(type(record.get(name)) is int for record in records)), None)
    ids = None if id_name is None else request.ids([record.pop(id_name) for record in records])
    return Dataset(vectors, ids, records if any(records) else None, request.name(), id_name=id_name)


def _records(request: Request, rows: Rows) -> Iterator[dict[str, Any]]:
    """The fields of each line without its vector, which `rows` has then."""
    field: str | None = None
    with open_lines(request) as (lines, file):
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
    record = parse_json(request, f"{line[:start]}{_PLACEHOLDER}{line[start + length :]}", place)
    if not isinstance(record, dict) or record.pop(field, None) != _PLACEHOLDER:
        return None
    return record, vector


@contextmanager
def open_lines(request: Request) -> Iterator[tuple[Iterator[str], BinaryIO]]:
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
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise request.error(f"a line is longer than {MAX_LINE:,} characters")
        yield line


def _report_now_and_then(request: Request, rows: Rows, file: BinaryIO) -> None:
    if len(rows) % REPORT_ROWS == 0:
        request.report_share(len(rows), file.tell() / request.path.stat().st_size)


def parse_json(request: Request, text: str, place: str) -> Any:
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
    record = parse_json(request, line, place)
    if isinstance(record, list):
        return {"vector": record}
    if not isinstance(record, dict):
        raise request.error(f"{place}: expected a JSON object or list, found {line.strip()[:40]}")
    return record


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= {int, float}
