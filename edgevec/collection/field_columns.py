"""A metadata field as an array: a code of its value for each record, or its number.

What a test means is SQLite's to say. Of codes it is asked, once for each distinct value; of numbers it is asked how it
reads those in the condition, and comparing them is exact.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .records import RowIds, rows_where
from .where import Field, IsNull, Node, Not, OneOf, Test, compile_node, compile_test, field_raw, field_sql

__all__ = ["Builder", "Change", "Codes", "Column", "NotKeptError", "Numbers", "Saved", "load"]

Mask = NDArray[np.bool_]
"""[records], or [values]"""

MAX_VALUES = 65_536
"""Distinct values of a field that is kept as codes."""
MAX_CHARACTERS = 8_000_000
"""Of them all."""
MANY_VALUES = 2_048
"""With more than this number, numbers are kept as such."""
MAX_LENGTH = 1_000
"""Characters of one: longer texts are not what conditions are about."""
_MAX_CANDIDATES = 2_000
"""Records whose hash is one that is looked for."""
_BYTES_PER_VALUE = 250
"""Of a value that a code stands for, beside its characters: in a dict, and in SQLite."""
_EXACT = 2**53
"""Up to this magnitude, integers are numbers of 64 bits with a fraction too."""
_INT64 = np.iinfo(np.int64)


Saved = tuple[dict[str, Any], bytes]
"""A column as it is written beside the records: what it is, in JSON, and its arrays."""


class NotKeptError(Exception):
    """A field cannot be kept in this way, or a test not be answered from it: SQLite is asked."""


class TooManyError(NotKeptError):
    """Of values for codes."""


class Change:
    """What a commit did to the rows: those of some positions were written again or deleted, and there are new ones."""

    def __init__(self, rows: RowIds, written: RowIds, found: RowIds) -> None:
        """rows: before; written: all that may differ now; found: those of them that exist. Each ascending."""
        at = np.searchsorted(rows, written)
        known = np.zeros(len(written), np.bool_)
        inside = at < len(rows)
        known[inside] = rows[at[inside]] == written[inside]
        exists = np.isin(written, found, assume_unique=True)
        self._replaced, self._deleted = at[known & exists], at[known & ~exists]
        new = ~known[exists]
        self._replacing, self._new = np.flatnonzero(~new), np.flatnonzero(new)
        remaining = np.delete(rows, self._deleted)
        self._new_at = np.searchsorted(remaining, found[self._new])
        self.rows: RowIds = np.insert(remaining, self._new_at, found[self._new])
        """After it."""

    def apply(self, values: NDArray[Any], found: NDArray[Any]) -> NDArray[Any]:
        """An array by row after it. found: of the rows that were found, in the same type."""
        made = values.copy()
        made[self._replaced] = found[self._replacing]
        if len(self._deleted):
            made = np.delete(made, self._deleted)
        return np.insert(made, self._new_at, found[self._new]) if len(self._new) else made


class _Values:
    """The distinct values of a field, by code, as Python has them of json_extract(). Equal numbers are one value."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._characters = 0
        self._stored = 0
        self._table = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._table.close)  # Python 3.13 warns of one that is not closed
        self._table.execute("CREATE TABLE distinct_values (code INTEGER PRIMARY KEY, type, value, metadata)")

    @classmethod
    def of(cls, values: Sequence[Any]) -> _Values:
        """Of the values by code."""
        made = cls()
        made._codes = {value: code for code, value in enumerate(values)}
        made._characters = sum(map(cls._size, values))
        return made

    def __len__(self) -> int:
        return len(self._codes)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._codes)

    @staticmethod
    def sql(field: Field) -> str:
        """What SQLite is to select of a record."""
        return field_sql(field)

    @property
    def nbytes(self) -> int:
        return len(self._codes) * _BYTES_PER_VALUE + 3 * self._characters

    def encode(self, found: Sequence[Any]) -> NDArray[Any]:
        """The code of each value. NotKeptError when there are too many, or one is of another kind."""
        if not {list, dict}.isdisjoint(map(type, found)):
            raise NotKeptError
        for value in dict.fromkeys(found):
            if value in self._codes:
                continue
            if isinstance(value, str) and len(value) > MAX_LENGTH:
                raise NotKeptError
            self._characters += self._size(value)
            self._codes[value] = len(self._codes)
        if len(self) > MAX_VALUES or self._characters > MAX_CHARACTERS:
            raise TooManyError
        return np.fromiter(map(self._codes.__getitem__, found), self.kind, len(found))

    @property
    def kind(self) -> np.dtype[Any]:
        """The smallest type that holds every code."""
        return np.min_scalar_type(max(len(self) - 1, 0))

    def are_many_numbers(self) -> bool:
        return len(self) > MANY_VALUES and {int, float, type(None)}.issuperset(map(type, self._codes))

    def holding(self, test: Node) -> Mask:
        """bool by code: for which values SQLite finds the test true."""
        if self._stored < len(self):
            self._store(list(self._codes)[self._stored :], self._stored)
            self._stored = len(self)
        sql, parameters = compile_test(test)
        found = self._table.execute(f"SELECT code FROM distinct_values WHERE {sql}", parameters).fetchall()
        truth = np.zeros(len(self), np.bool_)
        truth[np.fromiter((code for (code,) in found), np.int64, len(found))] = True
        return truth

    @staticmethod
    def _size(value: Any) -> int:
        if not isinstance(value, str):
            return 0
        if value.startswith(("[", "{")):  # a list, an object, or a text that looks like one
            raise NotKeptError
        return len(value)

    def _store(self, fresh: Sequence[Any], first: int) -> None:
        # REPLACE: a signal may have ended the call before.
        self._table.executemany(
            "INSERT OR REPLACE INTO distinct_values VALUES (?, ?, ?, ?)",
            (
                (first + at, _TYPES[type(value)], value, json.dumps({"v": value}, ensure_ascii=False))
                for at, value in enumerate(fresh)
            ),
        )


_TYPES = {type(None): "null", int: "integer", float: "real", str: "text"}


class _RawValues(_Values):
    """Distinct values as they are written in the JSON, where lists and objects are among them."""

    @staticmethod
    def sql(field: Field) -> str:
        return f"({field_raw(field)}) || ''"  # so that it is a text to json_group_array()

    def are_many_numbers(self) -> bool:
        return False

    @staticmethod
    def _size(value: Any) -> int:
        return 0 if value is None else len(value)

    def _store(self, fresh: Sequence[Any], first: int) -> None:
        self._table.execute(
            "INSERT OR REPLACE INTO distinct_values "
            "SELECT key + ?, json_type(value), json_extract(value, '$'), '{\"v\":' || value || '}' FROM json_each(?)",
            (first, json.dumps(["null" if value is None else value for value in fresh], ensure_ascii=False)),
        )


class Codes:
    """A field by codes of its values, one for each record. Never changed: changed() makes another."""

    def __init__(self, values: _Values, codes: NDArray[Any]) -> None:
        self._values = values
        self._codes = codes
        self.sql = values.sql

    @property
    def nbytes(self) -> int:
        return self._codes.nbytes + self._values.nbytes

    def holding(self, test: Node, connection: sqlite3.Connection, rows: RowIds) -> Mask:
        """bool of each record: for which the test is true."""
        holds: Mask = self._values.holding(test)[self._codes]
        return holds

    def saved(self) -> Saved:
        """For load()."""
        used, codes = np.unique(self._codes, return_inverse=True)  # nothing that only deleted records had
        every = list(self._values)
        codes = codes.astype(np.min_scalar_type(max(len(used) - 1, 0)).newbyteorder("<"))
        values = [every[code] for code in used.tolist()]
        raw = isinstance(self._values, _RawValues)
        return {"kind": "codes", "raw": raw, "type": codes.dtype.str, "values": values}, codes.tobytes()

    @staticmethod
    def load(about: dict[str, Any], content: bytes, count: int) -> Codes:
        """ValueError where the codes are not those of so many records, or stand for no value."""
        values = (_RawValues if about["raw"] else _Values).of(about["values"])
        codes = np.frombuffer(content, about["type"])
        if codes.dtype.kind != "u" or len(codes) != count or codes.max(initial=0) >= max(len(values), 1):
            raise ValueError("these are no codes of the values")
        return Codes(values, codes)

    def changed(self, change: Change, found: Sequence[Any]) -> Codes:
        """As it is after a change, with what was selected of the records that were found."""
        fresh = self._values.encode(found)
        return Codes(self._values, change.apply(self._codes.astype(fresh.dtype, copy=False), fresh))


class _Array(ABC):
    """A field by a number for each record, and where it is missing. Never changed, as Codes."""

    def __init__(self, values: NDArray[Any], missing: Mask) -> None:
        self._array = values
        self._missing = missing

    @staticmethod
    def sql(field: Field) -> str:
        return field_sql(field)

    @property
    def nbytes(self) -> int:
        return self._array.nbytes + self._missing.nbytes

    def saved(self) -> Saved:
        """For load()."""
        array, missing = self._array.astype(self._array.dtype.newbyteorder("<")), np.packbits(self._missing)
        about = {"kind": type(self).__name__, "type": array.dtype.str, "hash": sys.hash_info.modulus}
        return about, array.tobytes() + missing.tobytes()

    def holding(self, test: Node, connection: sqlite3.Connection, rows: RowIds) -> Mask:
        """bool of each record: for which the test is true. NotKeptError for what is SQLite's to answer."""
        if isinstance(test, Not):
            # A test of what is missing is neither true nor false, save IS NULL.
            inner = self.holding(test.part, connection, rows)
            return ~inner if isinstance(test.part, IsNull) else ~(inner | self._missing)
        if isinstance(test, IsNull):
            return self._missing
        return self._holding(test, connection, rows)

    @abstractmethod
    def _holding(self, test: Node, connection: sqlite3.Connection, rows: RowIds) -> Mask:
        """Of any other test."""


class Numbers(_Array):
    """A field of numbers alone, booleans among them: int64, or float64 of which none that was an integer is rounded."""

    def _holding(self, test: Node, connection: sqlite3.Connection, rows: RowIds) -> Mask:
        if isinstance(test, OneOf):
            return self._among(_as_sqlite_reads(connection, list(test.values))) & ~self._missing  # type: ignore[arg-type]
        if isinstance(test, Test) and test.operator in _COMPARE and isinstance(test.value, (int, float)):
            [value] = _as_sqlite_reads(connection, [test.value])
            return self._compared(test.operator, value) & ~self._missing
        return np.zeros(len(self._array), np.bool_)  # a number is no text and holds none

    def _compared(self, operator: str, value: Any) -> Mask:
        if self._array.dtype == np.int64 and isinstance(value, float):
            if operator == "=":
                return self._among([value])
            # i < 2.5 is i < 3, i <= 2.5 is i <= 2.
            value = math.ceil(value) if operator in ("<", ">=") else math.floor(value)
            if not _INT64.min <= value <= _INT64.max:
                return np.full(len(self._array), (value > 0) == (operator in ("<", "<=")))
        elif self._array.dtype == np.float64 and isinstance(value, int):
            if abs(value) > _EXACT:
                raise NotKeptError
            value = float(value)
        compared: Mask = _COMPARE[operator](self._array, value)
        return compared

    def _among(self, values: Sequence[Any]) -> Mask:
        """Equal to one of them, whatever its type: as Python compares numbers, which is exact."""
        numbers = [value for value in values if isinstance(value, (int, float))]
        if self._array.dtype == np.int64:
            equal = [int(value) for value in numbers if _INT64.min <= value <= _INT64.max and int(value) == value]
        else:
            equal = [float(value) for value in numbers if float(value) == value]  # type: ignore[misc]
        return np.isin(self._array, np.array(equal, self._array.dtype))

    def changed(self, change: Change, found: Sequence[Any]) -> Numbers:
        """As of Codes. NotKeptError when something else than a number was written."""
        fresh, missing = _as_numbers(found)
        numbers, fresh = _of_one_type([self._array, fresh])
        return Numbers(change.apply(numbers, fresh), change.apply(self._missing, missing))


class Hashes(_Array):
    """A field of more values than have codes: hashes tell which may be equal to one, and SQLite looks at those.

    int64, the same for equal numbers: as of Python's hash() or, of texts, since that differs between processes, CRC-32.
    """

    def _holding(self, test: Node, connection: sqlite3.Connection, rows: RowIds) -> Mask:
        if isinstance(test, OneOf):
            values = _as_sqlite_reads(connection, list(test.values))  # type: ignore[arg-type]
        elif isinstance(test, Test) and test.operator == "=":
            values = _as_sqlite_reads(connection, [test.value])
        else:
            raise NotKeptError
        at = np.flatnonzero(np.isin(self._array, np.array([*map(_hash, values)], np.int64)))
        if len(at) > _MAX_CANDIDATES:
            raise NotKeptError
        holds = np.zeros(len(rows), np.bool_)
        holds[at] = np.isin(rows[at], rows_where(connection, *compile_node(test), among=rows[at]))
        return holds

    def changed(self, change: Change, found: Sequence[Any]) -> Hashes:
        hashes, missing = _as_hashes(found)
        return Hashes(change.apply(self._array, hashes), change.apply(self._missing, missing))


class Builder:
    """Makes the column of a field of what is selected, page by page: codes or, of many values, numbers or hashes."""

    def __init__(self, field: Field, *, raw: bool = False) -> None:
        """raw: take values of any kind, as they are written in the JSON, and make codes."""
        self._raw = raw
        self._values = _RawValues() if raw else _Values()
        self.sql = self._values.sql(field)
        self._codes: list[NDArray[Any]] = []
        self._convert: _Convert | None = None
        """What makes pages of values, once they have no codes."""
        self._pages: list[NDArray[Any]] = []
        self._missing: list[Mask] = []
        self.has_reals = False
        """Whether there are numbers with a fraction."""

    @property
    def nbytes(self) -> int:
        pages: int = sum(page.nbytes for page in (*self._codes, *self._pages, *self._missing))
        return pages + self._values.nbytes

    def add(self, found: Sequence[Any]) -> None:
        """NotKeptError when there are too many values, or one is of another kind."""
        if self._convert is None:
            try:
                self._codes.append(self._values.encode(found))
                if self._values.are_many_numbers():
                    self._have_no_codes(_as_numbers)
                return
            except TooManyError:
                if self._raw:
                    raise
                self._have_no_codes(_as_hashes)
        assert self._convert is not None
        values, missing = self._convert(found)
        self._pages = _of_one_type([*self._pages, values])
        self._missing.append(missing)

    def _have_no_codes(self, convert: _Convert) -> None:
        values, missing = convert(list(self._values))
        self._pages, self._missing = ([array[codes] for codes in self._codes] for array in (values, missing))
        self._convert, self._values, self._codes = convert, _Values(), []

    def made(self) -> Column:
        if self._convert is None:
            return Codes(self._values, np.concatenate([np.empty(0, self._values.kind), *self._codes]))
        kind = Numbers if self._convert is _as_numbers else Hashes
        return kind(np.concatenate(self._pages), np.concatenate(self._missing))


Column = Codes | Numbers | Hashes


def load(saved: Saved, count: int) -> Column | None:
    """The column of so many records that saved() has given; None where another kind of Python has hashed its values."""
    about, content = saved
    if about["kind"] == "codes":
        return Codes.load(about, content, count)
    if about["kind"] == "Hashes" and about["hash"] != sys.hash_info.modulus:
        return None
    array = np.frombuffer(content, about["type"], count)
    missing = np.frombuffer(content, np.uint8, offset=array.nbytes)
    kind = Numbers if about["kind"] == "Numbers" else Hashes
    return kind(array, np.unpackbits(missing, count=count).view(np.bool_))


_Convert = Callable[[Sequence[Any]], tuple[NDArray[Any], Mask]]

_COMPARE = {"=": np.equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


def _as_numbers(found: Sequence[Any]) -> tuple[NDArray[Any], Mask]:
    """int64 or float64, with 0 for None, and where that is. NotKeptError when they are something else, or both."""
    kinds = set(map(type, found))
    missing = np.zeros(len(found), np.bool_)
    if type(None) in kinds:
        missing = np.fromiter((value is None for value in found), np.bool_, len(found))
        found = [0 if value is None else value for value in found]
        kinds.discard(type(None))
    if not kinds <= {int, float}:
        raise NotKeptError
    if kinds == {int, float} and any(abs(value) > _EXACT for value in found if type(value) is int):
        raise NotKeptError
    return np.array(found, np.float64 if float in kinds else np.int64), missing


def _as_hashes(found: Sequence[Any]) -> tuple[NDArray[Any], Mask]:
    """int64, and where None is."""
    if not {list, dict}.isdisjoint(map(type, found)):
        raise NotKeptError
    missing = np.fromiter((value is None for value in found), np.bool_, len(found))
    return np.fromiter(map(_hash, found), np.int64, len(found)), missing


def _hash(value: Any) -> int:
    return zlib.crc32(value.encode(errors="surrogatepass")) if type(value) is str else hash(value)


def _of_one_type(pages: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """NotKeptError where integers would be rounded."""
    if all(page.dtype == np.int64 for page in pages):
        return list(pages)
    for page in pages:
        if page.dtype == np.int64 and len(page) and max(-int(page.min()), int(page.max())) > _EXACT:
            raise NotKeptError
    return [page.astype(np.float64, copy=False) for page in pages]


def _as_sqlite_reads(connection: sqlite3.Connection, values: Sequence[Any]) -> list[Any]:
    """Values of a condition, its numbers with a fraction parsed as those of the metadata are."""
    read = [value for (value,) in connection.execute("SELECT value FROM json_each(?)", (json.dumps(values),))]
    if any(isinstance(value, float) and not math.isfinite(value) for value in read):
        raise NotKeptError
    return read
