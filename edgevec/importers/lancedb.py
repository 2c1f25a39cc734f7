"""Tables of a folder of LanceDB's, read by the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import Metric
from ..errors import EdgevecError, ParameterError
from .source import PIECE, Options, Piece, Source, choose, damaged, library

__all__ = ["opened"]

_METRICS: dict[str, Metric] = {"cosine": "cosine", "dot": "ip", "l2": "l2"}
_IDS = ("id", "ids")
_DOCUMENTS = ("text", "document", "documents", "content")


def opened(path: Path, options: Options) -> Source:
    lancedb = library(path, "lancedb", "lancedb")
    names = [entry.stem for entry in path.iterdir() if entry.suffix == ".lance"]
    name = choose(path, "table", names, options.table, "--table")
    try:
        table = lancedb.connect(str(path)).open_table(name)
        schema, count = table.schema, int(table.count_rows())
        metric = _metric(table)
    except EdgevecError:
        raise
    except Exception as error:  # of whatever class the library has
        raise damaged(path, str(error)) from error
    columns = [column.name for column in schema if _holds_vectors(column.type)]
    vector = choose(path, f"column of vectors of {name!r}", columns, options.vector, "--vector")
    id = _column(path, schema.names, options.id, _IDS, "--id")
    document = _column(path, schema.names, options.document, _DOCUMENTS, "--document")

    def pieces() -> Iterator[Piece]:
        start = 0
        try:
            for batch in table.search().to_batches(PIECE):
                yield _piece(path, batch, vector, id, document, start)
                start += batch.num_rows
        except EdgevecError:
            raise
        except (RuntimeError, OSError, ValueError) as error:
            raise damaged(path, str(error)) from error

    return Source(f"the table {name!r} of LanceDB", metric, count, pieces)


def _holds_vectors(type: Any) -> bool:
    return str(type).startswith("fixed_size_list") and str(type.value_type) in ("float", "double", "halffloat")


def _column(path: Path, names: list[str], wanted: str | None, usual: tuple[str, ...], option: str) -> str | None:
    if wanted is not None and wanted not in names:
        raise ParameterError(f"{path}: {option} {wanted}: there are only {', '.join(names)}")
    return wanted or next((name for name in usual if name in names), None)


def _piece(path: Path, batch: Any, vector: str, id: str | None, document: str | None, start: int) -> Piece:
    column = batch.column(vector)
    if column.null_count:
        raise ParameterError(f"{path}: {column.null_count:,} rows have no vector in {vector!r}")
    width = column.type.list_size
    vectors = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
    metadata = [name for name in batch.schema.names if name not in (vector, id, document)]
    rows = batch.select(metadata).to_pylist() if metadata else [{} for _ in range(batch.num_rows)]
    ids = list(range(start, start + batch.num_rows)) if id is None else batch.column(id).to_pylist()
    return Piece(ids, vectors, rows, None if document is None else batch.column(document).to_pylist())


def _metric(table: Any) -> Metric | None:
    """That of its index; without one LanceDB takes l2."""
    for index in table.list_indices():
        stats = table.index_stats(index.name)
        distance = getattr(stats, "distance_type", None)
        if distance is not None:
            return _METRICS.get(str(distance))
    return "l2"
