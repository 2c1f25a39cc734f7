"""Reading records from tables and files, and writing them to files.

A row of a table is a record: one column holds the vector, one the id, one the document, and the rest is metadata; a
column "metadata" that holds dicts, or them as JSON, is unfolded. Values become JSON values (readers.plain). Files are
written in that shape, so what was exported can be imported.
"""

from __future__ import annotations

import gzip
import importlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from .._types import Progress
from ..errors import DataFormatError, MissingExtraError, ParameterError
from ..files import replacing
from ..readers import read_pieces, read_records
from ..readers.dataset import TEXT_NAMES
from ..readers.plain import NotPlainError, is_missing, plain
from ..readers.request import ID_NAMES, VECTOR_NAMES, Request
from .records import Record
from .validation import Id

__all__ = ["EXPORTS", "Columns", "Table", "TableRows", "export", "stacked", "tables"]

EXPORTS = (".jsonl", ".jsonl.gz", ".parquet")
"""The endings of files that can be written."""

IMPORT_BATCH = 10_000
_DOCUMENT_NAMES = tuple(name for name in TEXT_NAMES if name not in ("title", "name"))
"""A column called title or name is more likely a field to filter by."""

_JSON = frozenset((str, int, bool, type(None)))
"""Types of values that need no conversion to JSON."""
_EXACT = 2**53
"""Below this every integer has a float of its own."""

TableRows = list[dict[str, Any]]


class Columns(NamedTuple):
    """The names of the columns that are not metadata; None: the usual names."""

    id: str | None = None
    vector: str | None = None
    document: str | None = None
    skip: frozenset[str] = frozenset()
    """Columns that are left out."""


class Table(NamedTuple):
    """Some rows. ids: None for a row without; vectors: [n, dim], or a list of vectors and None."""

    start: int
    """The number of its first row in the source."""
    ids: list[Id | None]
    vectors: Any
    metadata: TableRows
    documents: list[str | None]


# ---- in ------------------------------------------------------------------------------------------------------------


def tables(
    data: Any, columns: Columns, progress: Progress | None, *, encodes: bool = False
) -> Generator[Table, None, None]:
    """The rows of a source, IMPORT_BATCH at a time. What a row becomes depends on that row alone.

    Args:
        data: a file that read_vectors() knows, a pandas or polars DataFrame, a pyarrow Table or RecordBatch, or dicts
        encodes: rows may lack vectors, so a file of JSON lines may be without any
    """
    roles = _Roles(columns)
    if isinstance(data, (str, os.PathLike)):
        request = Request(Path(data), columns.vector, None, progress)
        if encodes and _lacks_vectors(request):
            with closing(read_records(request)) as records:
                yield from _of_rows(_pieces_of_dicts(records), roles)
        else:
            yield from _of_file(Path(data), roles, progress)
    else:
        yield from _of_rows(_pieces(data, roles), roles)
    roles.reject_missing()


def _of_rows(pieces: Iterator[TableRows], roles: _Roles) -> Iterator[Table]:
    start = 0
    for rows in pieces:
        yield roles.table(rows, start)
        start += len(rows)


def _lacks_vectors(request: Request) -> bool:
    """Whether the first line of a file of JSON lines holds no vector under a usual name."""
    if request.column is not None or not request.path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return False
    with closing(read_records(Request(request.path))) as records:
        first = next(records, {})
    return bool(first) and not any(_may_be_vector(first.get(name)) for name in VECTOR_NAMES)


def _of_file(path: Path, roles: _Roles, progress: Progress | None) -> Iterator[Table]:
    named = roles.columns
    texts = frozenset(() if named.document is None else (named.document,))
    start = 0
    with closing(read_pieces(Request(path, named.vector, None, progress, texts), IMPORT_BATCH)) as pieces:
        for piece in pieces:
            roles.found.update(piece.unread, () if named.vector is None else (named.vector,))
            for name, reason in piece.unread.items():
                if name not in named.skip:
                    raise DataFormatError(f"{path}: the column {name!r} cannot be read: {reason}; {_without(name)}")
            rows: TableRows = piece.metadata or [{} for _ in piece.vectors]
            if piece.ids is not None:
                for row, id in zip(rows, piece.ids.tolist(), strict=True):
                    row[str(piece.id_name)] = id
            yield roles.table(rows, start, piece.vectors)
            start += len(piece)


def _pieces(data: Any, roles: _Roles) -> Iterator[TableRows]:
    if hasattr(data, "to_pylist") and hasattr(data, "slice") and hasattr(data, "num_rows"):  # pyarrow
        return _pieces_of_arrow(data, roles)
    if hasattr(data, "iloc") and hasattr(data, "to_dict") and hasattr(data, "columns"):  # pandas
        table = _with_index(data)
        _reject_duplicates(table.columns)
        return (
            table.iloc[start : start + IMPORT_BATCH].to_dict("records") for start in range(0, len(table), IMPORT_BATCH)
        )
    if hasattr(data, "to_dicts") and hasattr(data, "slice"):  # polars
        return (data.slice(start, IMPORT_BATCH).to_dicts() for start in range(0, len(data), IMPORT_BATCH))
    if isinstance(data, (Mapping, bytes)) or not isinstance(data, Iterable):
        raise ParameterError(f"cannot import from {type(data).__name__}")
    return _pieces_of_dicts(iter(data))


def _pieces_of_dicts(rows: Iterator[Any]) -> Iterator[TableRows]:
    while piece := list(islice(rows, IMPORT_BATCH)):
        for row in piece:
            if not isinstance(row, Mapping):
                raise ParameterError(f"a row must be a dict, not {type(row).__name__}")
        yield [dict(row) for row in piece]


def _pieces_of_arrow(data: Any, roles: _Roles) -> Iterator[TableRows]:
    names = data.schema.names
    _reject_duplicates(names)
    roles.found.update(names)
    wanted = [name for name in names if name not in roles.columns.skip]
    for start in range(0, data.num_rows, IMPORT_BATCH):
        piece, columns = data.slice(start, IMPORT_BATCH), []
        for name in wanted:
            try:
                columns.append(piece.column(name).to_pylist())
            except (ValueError, OverflowError, NotImplementedError) as error:
                raise DataFormatError(f"the column {name!r} cannot be read: {error}; {_without(name)}") from error
        values = zip(*columns, strict=True) if wanted else [()] * piece.num_rows
        yield [dict(zip(wanted, row, strict=True)) for row in values]


def _with_index(frame: Any) -> Any:
    """The DataFrame with the named levels of its index as columns."""
    for level, name in enumerate(frame.index.names):
        if name is None:
            continue
        values = frame.index.get_level_values(level)
        if name not in frame.columns:
            frame = frame.copy(deep=False)
            frame[name] = values
        elif list(values) != list(frame[name]):
            raise ParameterError(f"the index and a column are both called {name!r}, and differ: rename one")
    return frame


def _reject_duplicates(names: Iterable[Any]) -> None:
    seen: set[str] = set()
    for name in map(str, names):
        if name in seen:
            raise ParameterError(f"two columns are called {name!r}")
        seen.add(name)


class _Roles:
    """Which columns hold id, vector and document: those that were named, or in each row the first of the usual names
    with a fitting value."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.found: set[str] = set()
        """The names of columns seen so far."""
        self._rows = 0

    def reject_missing(self) -> None:
        """ParameterError when a column that was named is in no row."""
        for name in (self.columns.id, self.columns.document, *sorted(self.columns.skip)):
            if self._rows and name is not None and name not in self.found:
                raise ParameterError(f"there is no column {name!r}, only {', '.join(sorted(self.found))}")

    def table(self, rows: TableRows, start: int, vectors: Any = None) -> Table:
        """Rows as a Table. vectors: theirs, if they are not in a column."""
        table = Table(start, [], [] if vectors is None else vectors, [], [])
        self._rows += len(rows)
        for at, given in enumerate(rows, start):
            row = {str(name): value for name, value in given.items()}
            self.found.update(row)
            for name in self.columns.skip.intersection(row):
                del row[name]
            table.ids.append(self._id(row, at))
            if vectors is None:
                table.vectors.append(self._vector(row, at))
            table.documents.append(self._document(row, at))
            table.metadata.append(_metadata(row, at))
        return table

    def _id(self, row: dict[str, Any], at: int) -> Id | None:
        name = self.columns.id or next((name for name in ID_NAMES if name in row), None)
        if name is None:
            return None
        value = row.pop(name, None)
        if not isinstance(value, (int, str)):
            value = _plain(value, name, at)
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
            return int(value)  # a column of integers in which one is missing has become floats
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, str))):
            raise DataFormatError(f"row {at}: an id must be an integer or a string, not {_short(value)} in {name!r}")
        return value

    def _vector(self, row: dict[str, Any], at: int) -> Any:
        name = self.columns.vector
        if name is None:
            name = next((name for name in VECTOR_NAMES if name in row and _may_be_vector(row[name])), None)
            return None if name is None else row.pop(name)
        if name not in row:
            raise DataFormatError(f"row {at}: there is no column {name!r}, only {', '.join(sorted(row))}")
        value = row.pop(name)
        if not _is_nested(value) and is_missing(value):
            return None
        if not _may_be_vector(value):
            raise DataFormatError(f"row {at}: the column {name!r} holds {_short(value)}, not a vector")
        return value

    def _document(self, row: dict[str, Any], at: int) -> str | None:
        name = self.columns.document
        if name is None:
            name = next((name for name in _DOCUMENT_NAMES if name in row and not _is_nested(row[name])), None)
        if name is None:
            return None
        value = _plain(row.pop(name, None), name, at)
        if _is_nested(value):
            raise DataFormatError(f"row {at}: the column {name!r} holds {_short(value)}, not a text")
        return None if value is None else str(value)


def _is_nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple)) or getattr(value, "ndim", 0) > 0


def _may_be_vector(value: Any) -> bool:
    """Whether it is a sequence of something other than texts and dicts."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__"):
        return False
    return not isinstance(next(iter(value), None), (str, bytes, Mapping))


def stacked(vectors: Any, start: int) -> Any:
    """[n, dim] of the rows of a source from `start` on. DataFormatError says which row does not fit."""
    if isinstance(vectors, np.ndarray):
        return vectors
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused by row
            return np.array(vectors, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        wrong = error
    for at, vector in enumerate(vectors, start):
        if len(vector) != len(vectors[0]):
            raise DataFormatError(
                f"row {at}: {len(vector)} elements where row {start} has {len(vectors[0])}; "
                "a column holds vectors of one length"
            )
        try:
            np.array(vector, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataFormatError(f"row {at}: a vector holds something other than numbers: {error}") from error
    raise DataFormatError(f"the rows from {start} on do not hold vectors of one length: {wrong}")


def _metadata(row: dict[str, Any], at: int) -> dict[str, Any]:
    """The remaining columns; a column "metadata" that holds a dict, or one as JSON, is unfolded."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.startswith("{"):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            metadata = None
    if isinstance(metadata, Mapping):
        del row["metadata"]
        for name in sorted(metadata.keys() & row.keys()):
            raise DataFormatError(f"row {at}: {name!r} is a column and in the metadata too; {_without(name)}")
        row = {**metadata, **row}
    for name, value in row.items():
        if type(value) not in _JSON:
            row[name] = _plain(value, name, at)
    return row


def _plain(value: Any, name: str, at: int) -> Any:
    try:
        return plain(value)
    except NotPlainError as error:
        raise DataFormatError(f"row {at}, column {name!r}: {error}; {_without(name)}") from error
    except RecursionError:
        raise DataFormatError(f"row {at}, column {name!r}: nested too deeply; {_without(name)}") from None


def _without(name: str) -> str:
    return f"skip=[{name!r}] leaves it out"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# ---- out -----------------------------------------------------------------------------------------------------------


def export(path: Path, pages: Iterable[list[Record]], dim: int | None) -> int:
    """Write records to a file, whole or not at all; how many were written."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        write = _write_lines
    elif path.name.endswith(".parquet"):
        write = _write_parquet
    else:
        raise DataFormatError(f"{path}: unknown ending; known are {' '.join(EXPORTS)}")
    with replacing(path) as new:
        return write(new, pages, dim)


def _write_lines(path: Path, pages: Iterable[list[Record]], dim: int | None) -> int:
    count = 0
    numbers = "%.9g," * (dim or 0)  # nine digits give every float32 back; json writes up to seventeen
    with _open_text(path) as file:
        for page in pages:
            for record in page:
                id, metadata, document = (
                    json.dumps(field, ensure_ascii=False) for field in (record.id, record.metadata, record.document)
                )
                # -0 is an integer in JSON, which has no sign
                vector = (numbers % tuple(record.vector.tolist())).replace("-0,", "-0.0,")[:-1]
                file.write(f'{{"id": {id}, "vector": [{vector}], "metadata": {metadata}, "document": {document}}}\n')
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
    first = next(remaining, None)
    if first is None:
        raise ParameterError("there are no records to export")
    schema, count = _schema(pyarrow, first[0], dim), 0
    remaining = chain([first], remaining)
    # Of vectors no dictionary, since hardly a number comes twice: their bytes by place compress far better.
    encoding = {"vector.list.element": "BYTE_STREAM_SPLIT"}
    settings = {"use_dictionary": ["metadata"], "column_encoding": encoding, "compression": "zstd"}
    with parquet.ParquetWriter(path, schema, **settings) as writer:
        while tables := [_arrow_table(pyarrow, page, schema) for page in islice(remaining, _GROUP_PAGES)]:
            group = pyarrow.concat_tables(tables)
            writer.write_table(group)
            count += group.num_rows
    return count


_GROUP_PAGES = 8
"""Pages of records in a row group of Parquet, which readers read as a whole."""


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
