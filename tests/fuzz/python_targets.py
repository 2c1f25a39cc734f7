"""What is fuzzed in Python: from any bytes, a call that ends in an answer or in an EdgevecError of one line.

Each target takes bytes and raises where a promise is broken. `fuzz_python.py` has atheris make the bytes up, led by
what they reach; `test_python_seeds.py` tries those that are kept in `seeds`.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import re
import sqlite3
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from where_oracle import RefusedError, Text, read_dict
from where_strategies import Tree, holds

import edgevec
from edgevec import EdgevecError, read_vectors
from edgevec.collection import Collection

RECORDS: list[dict[str, Any]] = [
    {"topic": "noun.animal", "year": 1990, "title": "wolf", "tags": ["x", 1, True], "a": {"b": 1.5}, "active": True},
    {"topic": "it's", "lang": "de", "deleted": None, "notes": "x", "b": 2, "two words": 5, "when": "2024-01-01"},
    {},
]


class Bytes:
    """Values from bytes, the same ones every time; zeros when they have run out."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at].ljust(count, b"\0")

    def number(self, below: int) -> int:
        return self.take(1)[0] % below

    def text(self) -> str:
        return self.take(self.number(12)).decode("utf-8", "surrogateescape")

    def name(self) -> str:
        known = ("a", "b", "topic", "$and", "$or", "$not", "$in", "$gt", "$like", "$exists", "$contains", "`a.b`", "")
        at = self.number(len(known) + 2)
        return known[at] if at < len(known) else self.text()

    def value(self, depth: int = 0) -> Any:
        leaf = self._leaves[self.number(len(self._leaves))]
        kind = self.number(8)
        if kind == 0 and depth < 40:
            return [self.value(depth + 1) for _ in range(self.number(4))]
        if kind == 1 and depth < 40:
            return {self.name(): self.value(depth + 1) for _ in range(self.number(4))}
        if kind == 2:
            return self._nested(leaf(self))
        return leaf(self)

    def _nested(self, value: Any) -> Any:
        wrap = (lambda inner: [inner], lambda inner: {"$not": inner}, lambda inner: {"a": inner})[self.number(3)]
        for _ in range((1, 29, 30, 600, 5000)[self.number(5)]):
            value = wrap(value)
        return value

    _leaves: tuple[Callable[[Bytes], Any], ...] = (
        lambda self: None,
        lambda self: bool(self.number(2)),
        lambda self: int.from_bytes(self.take(8), "little", signed=True),
        lambda self: int.from_bytes(self.take(8), "little", signed=True) ** (1 + 50 * self.number(20)),
        lambda self: struct.unpack("<d", self.take(8))[0],
        text,
        lambda self: self.take(self.number(5)),
        lambda self: np.frombuffer(self.take(8), ("<i8", "<f4", "<f8", "<M8[s]", "<m8[D]", "S4", "?")[self.number(7)]),
        lambda self: np.frombuffer(self.take(8), ("<i8", "<f8", "<M8[Y]", "<M8[ns]", "<m8[M]")[self.number(5)])[0],
        lambda self: datetime.datetime.min + datetime.timedelta(days=int.from_bytes(self.take(3), "little") % 3652059),
        lambda self: datetime.datetime.max.replace(
            tzinfo=datetime.timezone(datetime.timedelta(hours=self.number(47) - 23))
        ),
        lambda self: datetime.timedelta(days=int.from_bytes(self.take(3), "little")),
        lambda self: {self.text(), self.number(9)},
        lambda self: (self.text(), self.number(9)),
        lambda self: object,
    )


# ---- conditions and records ----------------------------------------------------------------------------------------


@cache
def _collection() -> Collection:
    made = edgevec.open(":memory:", dim=2, metric="l2")
    made.upsert(range(len(RECORDS)), np.eye(2)[[0, 1, 0]], RECORDS)
    return made


def _asked(where: Any, params: Any = None) -> None:
    """A condition is refused everywhere, or selects the same everywhere, and no more with its negation than all."""
    made = _collection()
    try:
        count = made.count(where, params)
    except EdgevecError:
        return
    assert len(made.ids(where, params)) == count
    assert len(made.search([1, 0], len(RECORDS), where=where, params=params)) == count
    if isinstance(where, dict) and where:
        with contextlib.suppress(edgevec.WhereError):  # a level deeper than is allowed
            assert made.count({"$not": where}) <= len(RECORDS) - count
            assert made.count({"$and": [where, where]}) == count


def _compared(where: Any, params: Any, read: Callable[[], Tree]) -> None:
    """Refused by edgevec and by the second reader, or selecting the same."""
    try:
        tree = read()
    except RefusedError:
        with contextlib.suppress(edgevec.WhereError):
            _collection().count(where, params)
            raise AssertionError(f"{where!r} is to be refused") from None
        return
    wanted = [at for at, record in enumerate(RECORDS) if holds(tree, record) is True]
    assert sorted(_collection().ids(where, params)) == wanted, where


def where_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    params = [(1, "x%", [1, "x"])[at % 3] for at in range(text.count("?"))]
    _asked(text, params)
    if len(re.findall(r"(?i)not|and|or|\(", text)) < 30:  # the second reader has no limits
        _compared(text, params, lambda: Text(text, params).tree())


def where_params(data: bytes) -> None:
    source = Bytes(data)
    text = ("a = ?", "topic IN ?", "topic LIKE ?", "tags CONTAINS ?", "when >= ?", "year BETWEEN ? AND ?")
    where = text[source.number(len(text))]
    _asked(where, [source.value() for _ in range(where.count("?"))])


def where_mapping(data: bytes) -> None:
    source = Bytes(data)
    where: Any = {source.name(): source.value() for _ in range(1 + source.number(3))}
    _asked(where)
    if _is_plain(where):
        _compared(where, None, lambda: read_dict(where))


def _is_plain(value: Any, level: int = 0) -> bool:
    """Whether it is of JSON's kinds, which are those of the second reader, and not deep."""
    if isinstance(value, (list, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return level < 20 and all(_is_plain(one, level + 1) for one in inner)
    return value is None or type(value) in (bool, int, float, str)


def records(data: bytes) -> None:
    """Metadata, ids and documents that are taken come back: as Python's own JSON has them."""
    source = Bytes(data)
    fields, id, document = {source.name(): source.value() for _ in range(source.number(4))}, source.value(), None
    if source.number(2):
        document = source.value()
    with edgevec.open(":memory:", dim=2) as made:
        try:
            made.upsert([id], [[1, 0]], [fields], [document])
        except EdgevecError:
            assert len(made) == 0
            return
        (found,) = list(made)
        assert found.id == id
        assert found.document == document
        assert len(found.metadata) == len(fields)
        with contextlib.suppress(TypeError, ValueError):  # of what JSON has no values for
            assert _same(found.metadata, json.loads(json.dumps(fields, allow_nan=False)))
        made.upsert([found.id], [[1, 0]], [found.metadata], [found.document])  # what was read can be written
        (again,) = list(made)
        assert (again.id, again.document) == (found.id, found.document)
        assert _same(again.metadata, found.metadata)
        assert made.check().ok


def _same(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def stored(data: bytes) -> None:
    """Metadata that another program wrote into the file: everything that reads them answers, or raises ours."""
    with tempfile.TemporaryDirectory(dir=_folder()) as folder:
        path = Path(folder, "c.edgevec")
        path.write_bytes(_pattern())
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
            written: Any = data[1:] if data[:1] < b"\x20" else data.decode("utf-8", "replace")
            raw.execute("UPDATE records SET metadata = ? WHERE id = 1", (written,))
        steps: list[Callable[[Collection], object]] = [
            lambda made: made.get(1),
            lambda made: list(made),
            lambda made: made.count("year > 5 OR a.b = 1"),
            lambda made: made.ids({"tags": {"$contains": "x"}}),
            lambda made: [hit.metadata for hit in made.search([1, 0], 3)],
            lambda made: made.check(),
            lambda made: made.check(repair=True),
            lambda made: made.upsert([1], [[1, 0]], [{"year": 3}]),
        ]
        try:
            made = edgevec.open(path)
        except EdgevecError:
            return
        with made:
            for step in steps:
                with contextlib.suppress(EdgevecError):
                    step(made)
            assert made.check().ok, made.check()
            assert 2 in {record.id for record in made}


@cache
def _pattern() -> bytes:
    with tempfile.TemporaryDirectory(dir=_folder()) as folder:
        with edgevec.open(Path(folder, "c.edgevec"), dim=2) as made:
            made.upsert([1, 2], np.eye(2), [{"year": 1}, {"year": 2, "tags": ["x"]}], ["a wolf", "an oak"])
        return Path(folder, "c.edgevec").read_bytes()


# ---- readers -------------------------------------------------------------------------------------------------------


@cache
def _folder() -> str | None:
    """Files in memory, where there are such."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _reader(suffix: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=_folder()) as folder:
            path = Path(folder, f"v{suffix}")
            path.write_bytes(data)
            _read(path)

    return target


def _read(path: Path) -> None:
    refused = None
    try:
        found = read_vectors(path)
    except EdgevecError as error:
        refused = str(error)
    if refused is not None:
        assert path.name in refused
        assert len(refused.splitlines()) == 1, repr(refused)
        return
    assert found.vectors.dtype == np.float32
    assert found.vectors.ndim == 2
    assert min(found.vectors.shape) >= 1
    assert found.ids is None or found.ids.shape == (len(found),)
    assert found.metadata is None or len(found.metadata) == len(found)
    first = read_vectors(path, limit=1)
    np.testing.assert_array_equal(first.vectors, found.vectors[:1])


def npz_members(data: bytes) -> None:
    """Arrays in a whole archive: bytes at random rarely get past its checksums."""
    source, buffer = Bytes(data), io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    names = ("vectors.npy", "id.npy", "text.npy", "a.npy", "x")
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names[: 1 + source.number(len(names))]:
            body = _npy(source)
            archive.writestr(name, body, methods[source.number(4)])
    whole = bytearray(buffer.getvalue())
    for _ in range(source.number(3)):
        whole[int.from_bytes(source.take(4), "little") % len(whole)] = source.number(256)
    _reader(".npz")(bytes(whole))


def _npy(source: Bytes) -> bytes:
    types = ("<f4", "<f8", "<f2", "<i8", "|u1", "<U2", "|S3", "|O", "<M8[s]", "|b1", "<c8", ">f4", "|V3")
    shapes = ("(3, 2)", "(3,)", "()", "(0, 2)", "(3, 0)", "(-3, 2)", "(99999999, 9999)", "(3, 2, 1)", "(3L, 2)")
    header = (
        f"{{'descr': '{types[source.number(len(types))]}', 'fortran_order': {bool(source.number(2))}, "
        f"'shape': {shapes[source.number(len(shapes))]}}}"
    ).encode()
    if source.number(8) == 0:
        header = source.take(source.number(60))
    size = len(header) if source.number(8) else int.from_bytes(source.take(4), "little")
    version = source.number(4)
    packed = struct.pack("<H", size % 65536) if version == 1 else struct.pack("<I", size)
    return b"\x93NUMPY" + bytes([version, 0]) + packed + header + source.take(source.number(200))


def csv_cells(data: bytes) -> None:
    """Rows of one width whose cells are drawn from what cells are made of."""
    source = Bytes(data)
    parts = ("", "id", "x0", "x1", "1", "-0.5", "nan", "inf", "[1, 2]", "true", '"', "é", "1e400", "007", " ", "\0")
    width, lines = 1 + source.number(5), []
    for _ in range(1 + source.number(5)):
        cells = [parts[source.number(len(parts))] for _ in range(width)]
        if source.number(3) == 0:
            cells[source.number(width)] += source.text()
        lines.append(",;\t"[source.number(3) if source.number(8) == 0 else 0].join(cells))
    _reader(".csv")("\n".join(lines).encode("utf-8", "surrogateescape"))


SUFFIXES = [".npy", ".npz", ".fvecs", ".bvecs", ".ivecs", ".jsonl", ".jsonl.gz", ".csv", ".safetensors"]
LIBRARIES = [".hdf5", ".parquet", ".arrow"]
"""What C++ of other projects parses, who fuzz it themselves: a crash there would be none of ours."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    "where_text": where_text,
    "where_params": where_params,
    "where_mapping": where_mapping,
    "records": records,
    "stored": stored,
    "npz_members": npz_members,
    "csv_cells": csv_cells,
    **{suffix[1:].replace(".", "_"): _reader(suffix) for suffix in (*SUFFIXES, *LIBRARIES)},
}
