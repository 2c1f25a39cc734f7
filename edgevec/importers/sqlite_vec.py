"""Tables of sqlite-vec: the ordinary tables in which its virtual table vec0 keeps everything, read without it.

Rows lie in chunks of `size` rows. A chunk has a row in NAME_chunks, and one in a table for each vector column
(NAME_vector_chunksNN) and each metadata column (NAME_metadatachunksNN); long texts are in NAME_metadatatextNN, columns
that begin with a plus in NAME_auxiliary, and NAME_rowids says where a row lies.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import Metric
from ..errors import DataFormatError
from .source import Options, Piece, Source, choose, damaged

__all__ = ["opened"]

_TABLE = re.compile(r"^CREATE\s+VIRTUAL\s+TABLE\s.*?\bUSING\s+vec0\s*\((?P<columns>.*)\)\s*;?\s*$", re.I | re.S)
_VECTOR = re.compile(
    r"^(?P<name>\w+)\s+(?P<type>float|f32|int8|i8|bit)\s*\[\s*(?P<dim>\d+)\s*\](?P<rest>.*)$", re.I | re.S
)
_METRIC = re.compile(r"distance_metric\s*=\s*(\w+)", re.I)
_METRICS: dict[str, Metric] = {"l2": "l2", "cosine": "cosine"}
_TYPES = {"float": "<f4", "f32": "<f4", "int8": "i1", "i8": "i1"}
_DOCUMENTS = ("text", "document", "content", "contents", "body")
_SHORT = 12
"""Bytes of a text that stand in its chunk; a longer one is elsewhere, whole."""


class _Columns(NamedTuple):
    vectors: list[tuple[str, str, int, Metric | None]]
    """Name, type, dimensions, metric."""
    partitions: list[str]
    metadata: list[tuple[str, str]]
    """Name, type."""
    auxiliary: list[str]
    named_ids: bool


def opened(path: Path, options: Options) -> Source:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        return _opened(path, connection, options)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise damaged(path, str(error)) from error
        raise


def _opened(path: Path, connection: sqlite3.Connection, options: Options) -> Source:
    connection.execute("BEGIN")  # one state of it, whoever writes meanwhile
    tables = {
        name: found["columns"]
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
        if (found := _TABLE.match(sql or ""))
    }
    if not tables:
        raise DataFormatError(f"{path}: an SQLite database without a table of sqlite-vec (USING vec0)")
    name = choose(path, "table", [*tables], options.table, "--table")
    columns = _parsed(path, tables[name])
    vector = choose(path, "column of vectors", [column[0] for column in columns.vectors], options.vector, "--vector")
    at = [column[0] for column in columns.vectors].index(vector)
    _, kind, _, metric = columns.vectors[at]
    if kind not in _TYPES:
        raise DataFormatError(f"{path}: the vectors of {vector!r} are bits, which edgevec does not take over")
    known = [*columns.partitions, *(column for column, _ in columns.metadata), *columns.auxiliary]
    document = options.document or next((usual for usual in _DOCUMENTS if usual in known), None)
    if document is not None:
        choose(path, "column", known, document, "--document")
    rows = _Rows(path, connection, name, columns)
    (count,) = connection.execute(f"SELECT count(*) FROM {rows.table('rowids')}").fetchone()
    source = Source(f"the table {name!r} of sqlite-vec", metric, count, lambda: rows.pieces(at, document))
    source.release = connection.close
    if len(columns.vectors) > 1:
        others = ", ".join(column[0] for column in columns.vectors if column[0] != vector)
        source.notes.append(f"the vectors of {others} are left behind")
    return source


def _parsed(path: Path, text: str) -> _Columns:
    columns = _Columns([], [], [], [], False)
    for part in (one.strip() for one in text.split(",")):
        if "=" in part.split("[")[0]:  # an option of the table
            continue
        if found := _VECTOR.match(part):
            measure = _METRIC.search(found["rest"])
            metric = _METRICS.get(measure[1].lower()) if measure else "l2"
            columns.vectors.append((found["name"], found["type"].lower(), int(found["dim"]), metric))
            continue
        words = part.lstrip("+").split()
        name, rest = words[0].strip('"`'), " ".join(words[1:]).lower()
        if part.startswith("+"):
            columns.auxiliary.append(name)
        elif "primary key" in rest:
            columns = columns._replace(named_ids="text" in rest)
        elif "partition key" in rest:
            columns.partitions.append(name)
        else:
            columns.metadata.append((name, rest.split()[0] if rest else ""))
    if not columns.vectors:
        raise damaged(path, "a table of sqlite-vec without vectors")
    return columns


class _Rows:
    def __init__(self, path: Path, connection: sqlite3.Connection, name: str, columns: _Columns) -> None:
        self._path = path
        self._connection = connection
        self._name = name
        self._columns = columns

    def table(self, suffix: str) -> str:
        quoted = f"{self._name}_{suffix}".replace('"', '""')
        return f'"{quoted}"'

    def pieces(self, at: int, document: str | None) -> Iterator[Piece]:
        try:
            partitions = "".join(f", partition{number:02}" for number in range(len(self._columns.partitions)))
            sql = f"SELECT chunk_id, size{partitions} FROM {self.table('chunks')} ORDER BY chunk_id"
            for chunk, size, *values in self._connection.execute(sql).fetchall():
                piece = self._piece(chunk, size, values, at, document)
                if piece.ids:
                    yield piece
        except (sqlite3.Error, struct.error, ValueError, IndexError) as error:
            raise damaged(self._path, str(error)) from error

    def _piece(self, chunk: int, size: int, partitions: list[Any], at: int, document: str | None) -> Piece:
        sql = f"SELECT rowid, id, chunk_offset FROM {self.table('rowids')} WHERE chunk_id = ? ORDER BY chunk_offset"
        found = self._connection.execute(sql, (chunk,)).fetchall()
        rowids = [rowid for rowid, _, _ in found]
        places = np.array([place for _, _, place in found], np.int64)
        _, kind, dim, _ = self._columns.vectors[at]
        data = self._blob(f"vector_chunks{at:02}", "vectors", chunk, size * dim * np.dtype(_TYPES[kind]).itemsize)
        vectors: NDArray[np.float32] = np.frombuffer(data, _TYPES[kind]).reshape(size, dim)[places].astype(np.float32)
        rows: list[dict[str, Any]] = [dict(zip(self._columns.partitions, partitions, strict=True)) for _ in rowids]
        for number, (name, type) in enumerate(self._columns.metadata):
            for row, value in zip(rows, self._metadata(number, type, chunk, size, rowids, places), strict=True):
                row[name] = value
        if self._columns.auxiliary:
            kept = self._auxiliary(rowids)
            for row, rowid in zip(rows, rowids, strict=True):
                row.update(zip(self._columns.auxiliary, kept[rowid], strict=True))
        documents = None if document is None else [_as_text(row.pop(document)) for row in rows]
        ids = [id if self._columns.named_ids else rowid for rowid, id, _ in found]
        return Piece(ids, vectors, rows, documents)

    def _blob(self, table: str, column: str, chunk: int, size: int) -> bytes:
        found = self._connection.execute(
            f"SELECT {column} FROM {self.table(table)} WHERE rowid = ?", (chunk,)
        ).fetchone()
        if found is None or len(found[0]) < size:
            raise damaged(self._path, f"the chunk {chunk} of {self._name}_{table} is missing or too short")
        return bytes(found[0][:size])

    def _metadata(
        self, number: int, type: str, chunk: int, size: int, rowids: list[int], places: NDArray[np.int64]
    ) -> list[Any]:
        table = f"metadatachunks{number:02}"
        if type.startswith("bool"):
            bits = np.frombuffer(self._blob(table, "data", chunk, size // 8), np.uint8)
            return [bool(bit) for bit in np.unpackbits(bits, bitorder="little")[places]]
        if type.startswith(("int", "float", "double")):
            values = np.frombuffer(
                self._blob(table, "data", chunk, size * 8), "<i8" if type.startswith("int") else "<f8"
            )
            return list(values[places].tolist())
        data, texts = self._blob(table, "data", chunk, size * 16), []
        for rowid, place in zip(rowids, places.tolist(), strict=True):
            (length,) = struct.unpack_from("<i", data, 16 * place)
            if length <= _SHORT:
                texts.append(data[16 * place + 4 : 16 * place + 4 + length].decode())
            else:
                sql = f"SELECT data FROM {self.table(f'metadatatext{number:02}')} WHERE rowid = ?"
                found = self._connection.execute(sql, (rowid,)).fetchone()
                if found is None:
                    raise damaged(self._path, f"the text of the row {rowid} is missing")
                texts.append(found[0])
        return texts

    def _auxiliary(self, rowids: list[int]) -> dict[int, tuple[Any, ...]]:
        names = ", ".join(f"value{number:02}" for number in range(len(self._columns.auxiliary)))
        sql = f"SELECT rowid, {names} FROM {self.table('auxiliary')} WHERE rowid BETWEEN ? AND ?"
        found = {row[0]: row[1:] for row in self._connection.execute(sql, (min(rowids), max(rowids)))} if rowids else {}
        return {rowid: found.get(rowid, (None,) * len(self._columns.auxiliary)) for rowid in rowids}


def _as_text(value: Any) -> str | None:
    return None if value is None else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
