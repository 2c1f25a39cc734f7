"""Tables and files into records, and records into files.

A row of a table is a record: one column holds the vector, one the id, one the document, and the rest is metadata; a
column "metadata" that holds dicts, or them as JSON, is unfolded. Files are written in just that shape, so what was
exported can be imported.
"""

from __future__ import annotations

import gzip
import importlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._native import Progress
from ..errors import DataFormatError, MissingExtraError, ParameterError, StorageError
from ..reading import Dataset, read_vectors
from ..reading.dataset import TEXT_NAMES
from ..reading.request import ID_NAMES, VECTOR_NAMES
from . import files
from .records import Record

__all__ = ["EXPORTS", "Columns", "Rows", "Table", "export", "tables"]

EXPORTS = (".jsonl", ".jsonl.gz", ".parquet")
"""The endings of the files that can be written."""

_AT_ONCE = 10_000
_DOCUMENT_NAMES = tuple(name for name in TEXT_NAMES if name not in ("title", "name"))
"""What is called title or name is rather a field to filter by."""

Rows = list[dict[str, Any]]


class Columns(NamedTuple):
    """The names of the columns that are not metadata; None: what such a column is usually called."""

    id: str | None = None
    vector: str | None = None
    document: str | None = None


class Table(NamedTuple):
    """Some rows. ids, vectors, documents: None where there is no such column."""

    ids: list[Any] | None
    vectors: Any
    metadata: Rows
    documents: list[str | None] | None


# ---- in ------------------------------------------------------------------------------------------------------------


def tables(data: Any, columns: Columns, progress: Progress | None = None) -> Iterator[Table]:
    """The rows of a file that read_vectors() knows, of a pandas or polars DataFrame, of a pyarrow Table or RecordBatch,
    or of dicts, some thousands at a time."""
    if isinstance(data, (str, os.PathLike)):
        dataset = read_vectors(data, column=columns.vector, progress=progress)
        yield from _of_dataset(dataset, columns._replace(vector=None))
        return
    for rows in _pieces(data):
        yield _of_rows(rows, columns)


def _of_dataset(dataset: Dataset, columns: Columns) -> Iterator[Table]:
    for start in range(0, len(dataset), _AT_ONCE):
        piece = slice(start, start + _AT_ONCE)
        vectors = dataset.vectors[piece]
        rows = dataset.metadata[piece] if dataset.metadata else [{} for _ in vectors]
        table = _of_rows(rows, columns)
        ids = table.ids
        if ids is None and dataset.ids is not None:
            ids = dataset.ids[piece].tolist()
        yield table._replace(ids=ids, vectors=vectors)


def _pieces(data: Any) -> Iterator[Rows]:
    if hasattr(data, "to_pylist") and hasattr(data, "slice"):  # pyarrow
        return (data.slice(start, _AT_ONCE).to_pylist() for start in range(0, data.num_rows, _AT_ONCE))
    if hasattr(data, "iloc"):  # pandas
        return (data.iloc[start : start + _AT_ONCE].to_dict("records") for start in range(0, len(data), _AT_ONCE))
    if hasattr(data, "to_dicts") and hasattr(data, "slice"):  # polars
        return (data.slice(start, _AT_ONCE).to_dicts() for start in range(0, len(data), _AT_ONCE))
    if isinstance(data, (Mapping, bytes)) or not isinstance(data, Iterable):
        raise ParameterError(f"cannot import from {type(data).__name__}")
    return _pieces_of_dicts(iter(data))


def _pieces_of_dicts(rows: Iterator[Any]) -> Iterator[Rows]:
    while piece := list(islice(rows, _AT_ONCE)):
        for row in piece:
            if not isinstance(row, Mapping):
                raise ParameterError(f"a row must be a dict, not {type(row).__name__}")
        yield [dict(row) for row in piece]


def _of_rows(rows: Rows, columns: Columns) -> Table:
    names = {str(name) for row in rows[:1] for name in row}
    id, vector, document = (
        _choose(named, usual, names)
        for named, usual in zip(columns, (ID_NAMES, VECTOR_NAMES, _DOCUMENT_NAMES), strict=True)
    )
    rows = [{str(name): value for name, value in row.items()} for row in rows]
    ids = None if id is None else [row.pop(id, None) for row in rows]
    vectors = None if vector is None else _stacked([row.pop(vector, None) for row in rows], vector)
    documents = None if document is None else [_text(row.pop(document, None)) for row in rows]
    return Table(ids, vectors, [_without_nan(_unfolded(row)) for row in rows], documents)


def _choose(named: str | None, usual: Sequence[str], names: set[str]) -> str | None:
    if named is not None and named not in names:
        raise ParameterError(f"there is no column {named!r}, only {', '.join(sorted(names))}")
    return named or next((name for name in usual if name in names), None)


def _unfolded(row: dict[str, Any]) -> dict[str, Any]:
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.startswith("{"):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            return row
    if not isinstance(metadata, Mapping):
        return row
    del row["metadata"]
    return {**metadata, **row}


def _stacked(column: list[Any], name: str) -> NDArray[np.float32]:
    try:
        return np.array(column, np.float32)
    except (TypeError, ValueError) as error:
        raise DataFormatError(f"the column {name!r} does not hold vectors of one length") from error


def _text(value: Any) -> str | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """NaN, NaT and NA are how tables say that nothing is there."""
    return {name: None if value is None or _is_missing(value) else value for name, value in row.items()}


def _is_missing(value: Any) -> bool:
    if isinstance(value, (str, bool, int, list, dict)):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA cannot say; an array says more than one thing
        return type(value).__name__ == "NAType"


# ---- out -----------------------------------------------------------------------------------------------------------


def export(path: Path, pages: Iterable[list[Record]], dim: int | None) -> int:
    """Write records to a file, whole or not at all; how many there were."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        write = _write_lines
    elif path.name.endswith(".parquet"):
        write = _write_parquet
    else:
        raise DataFormatError(f"{path}: unknown ending; what can be written is {' '.join(EXPORTS)}")
    with _replacing(path) as new:
        return write(new, pages, dim)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    new = path.with_name(f".new-{path.name}")
    try:
        yield new
        files.replace(new, path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
    finally:
        new.unlink(missing_ok=True)


def _write_lines(path: Path, pages: Iterable[list[Record]], dim: int | None) -> int:
    count = 0
    with _open_text(path) as file:
        for page in pages:
            for record in page:
                fields = record._asdict() | {"vector": record.vector.tolist()}
                file.write(json.dumps(fields, ensure_ascii=False) + "\n")
            count += len(page)
    return count


def _open_text(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "wt", encoding="utf-8")
    return path.open("w", encoding="utf-8")


def _write_parquet(path: Path, pages: Iterable[list[Record]], dim: int | None) -> int:
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow; install it with: pip install 'edgevec[arrow]'") from error
    remaining = iter(pages)
    page = next(remaining, None)
    if page is None:
        raise ParameterError("there are no records to export")
    schema, count = _schema(pyarrow, page[0], dim), 0
    with parquet.ParquetWriter(path, schema) as writer:
        while page is not None:
            writer.write_table(_arrow_table(pyarrow, page, schema))
            count += len(page)
            page = next(remaining, None)
    return count


def _schema(pyarrow: Any, first: Record, dim: int | None) -> Any:
    return pyarrow.schema(
        [
            ("id", pyarrow.int64() if isinstance(first.id, int) else pyarrow.string()),
            ("vector", pyarrow.list_(pyarrow.float32(), dim)),
            ("document", pyarrow.string()),
            ("metadata", pyarrow.string()),
        ]
    )


def _arrow_table(pyarrow: Any, page: list[Record], schema: Any) -> Any:
    kind = int if schema.field("id").type == pyarrow.int64() else str
    if any(type(record.id) is not kind for record in page):
        raise ParameterError("a column of a Parquet file has one type, and there are ids of both; export to .jsonl")
    vectors = np.concatenate([record.vector for record in page])
    return pyarrow.table(
        [
            pyarrow.array([record.id for record in page], schema.field("id").type),
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors), len(page[0].vector)),
            pyarrow.array([record.document for record in page], pyarrow.string()),
            pyarrow.array([json.dumps(record.metadata, ensure_ascii=False) for record in page], pyarrow.string()),
        ],
        schema=schema,
    )
