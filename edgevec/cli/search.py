"""edgevec search: search an index file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

import edgevec

from .. import Storage
from ..errors import ParameterError
from ..file_kind import kind_of, require
from ..printable import printable
from ..readers import Request, Rows
from .common import INPUT, Command, example, progress_bar, show, show_json, shown_rows, storage_option

__all__ = ["queries_from", "query_options", "search", "show_found"]


def query_options(command: Command) -> Command:
    """What to search for, and how well: of an index in one file or in several."""
    for option in (
        click.option("--exact", is_flag=True, help="Compare with every vector."),
        click.option(
            "--recall",
            type=float,
            help="Instead of --ef: the share of the true neighbors to find on average, such as 0.95.",
        ),
        click.option(
            "--ef", type=click.IntRange(1), help="Candidates that a search keeps; more is slower and finds more."
        ),
        click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Results per query."),
        click.option("--column", help="The array, column or field of the file of --query that holds the vectors."),
        click.option(
            "--id", "stored_id", type=int, help="Instead of --query: search near the vector stored under this id."
        ),
        click.option("--row", type=click.IntRange(0), help="Use only this row of the file of --query."),
        click.option(
            "--query", help='A file of vectors, "-" for standard input (a vector a line), or a vector: "[0.1, 0.2]".'
        ),
    ):
        command = option(command)
    return command


@click.command(epilog=example("edgevec search vectors.ev --query queries.npy -k 3"))
@click.argument("index_file", metavar="INDEX", type=INPUT)
@query_options
@click.option("--data", type=INPUT, help="The file that the index was built from, to show its texts.")
@storage_option
@click.option("--mmap", is_flag=True, help="Use the index file in place, without loading it.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with an object for each query.")
def search(
    index_file: Path,
    query: str | None,
    row: int | None,
    stored_id: int | None,
    column: str | None,
    k: int,
    ef: int | None,
    recall: float | None,
    exact: bool,
    data: Path | None,
    storage: Storage,
    mmap: bool,
    as_json: bool,
) -> None:
    """Find the vectors of INDEX that are nearest to the queries."""
    queries_of = queries_from(query, row, stored_id, column)
    index: edgevec.Index | edgevec.DiskIndex
    if kind_of(index_file) == "disk_index":
        if recall is not None:
            raise edgevec.ParameterError("--recall needs an index in memory; give --ef to one with its graph on disk")
        index = edgevec.DiskIndex(index_file, mmap=mmap)
        queries = queries_of(index)
        found = index.search(queries, k, ef=ef, exact=exact)
    else:
        require(index_file, "index")
        index = edgevec.Index.load(index_file, mmap=mmap, storage=storage)
        queries = queries_of(index)
        found = index.search(queries, k, ef=ef, exact=exact, recall=recall)
    show_found(found, len(queries), as_json, empty=not len(index), texts=_read_texts(data))


def show_found(found: Any, queries: int, as_json: bool, *, empty: bool, texts: Mapping[int, str] | None = None) -> None:
    """JSON, or a table for each query; `empty`: there was nothing to search."""
    if as_json:
        show_json([_as_object(number, *answer, texts) for number, answer in _numbered(found)])
        return
    for number, (ids, distances) in _numbered(found):
        title = f"query {number}" if queries > 1 else None
        if not len(ids):
            nothing = "nothing found; the index is empty" if empty else "nothing found"
            show(nothing if title is None else f"{title}: {nothing}")
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("rank", justify="right")
        table.add_column("id", justify="right")
        if texts:
            table.add_column("text", ratio=1)
        table.add_column("distance", justify="right")
        for rank, id, distance in shown_rows(ids, distances):
            text = [printable(texts.get(id, ""))] if texts else []
            table.add_row(rank, str(id), *text, distance)
        show(table)


def queries_from(
    query: str | None, row: int | None, stored_id: int | None, column: str | None
) -> Callable[[Any], NDArray[np.float32]]:
    """What gives the queries, float32 [n, dim], to the index that is searched. Options that do not fit are refused."""
    if (query is None) == (stored_id is None):
        raise click.UsageError("give either --query or --id")
    from_file = query is not None and query != "-" and not query.lstrip().startswith("[")
    for option, value in (("--row", row), ("--column", column)):
        if value is not None and not from_file:
            raise click.UsageError(f"{option} is of a file, and --query names none")
    if query is None:
        return lambda index: index.get([stored_id])
    if from_file:
        return lambda _: _read_queries(query, row, column)
    name, lines = ("standard input", _standard_input) if query == "-" else ("--query", lambda: [query])
    return lambda _: _parse(lines(), Request(Path(name)))


def _read_queries(query: str, row: int | None, column: str | None) -> NDArray[np.float32]:
    require(Path(query), "vectors")
    queries = edgevec.read_vectors(query, column=column, limit=None if row is None else row + 1).vectors
    if row is None:
        return queries
    if row >= len(queries):
        raise ParameterError(f"{query}: there is no row {row}, only 0 to {len(queries) - 1}")
    return queries[row : row + 1]


def _standard_input() -> list[str]:
    if sys.stdin is None:
        raise ParameterError("standard input is closed")
    try:
        return sys.stdin.read().splitlines()
    except UnicodeDecodeError as error:
        raise ParameterError(f"standard input: not {error.encoding} text") from error


def _parse(lines: Iterable[str], request: Request) -> NDArray[np.float32]:
    """A vector a line: a JSON list, or numbers with commas or blanks between them."""
    rows = Rows(request)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text = line.strip()
        if not text.startswith("["):
            text = f"[{','.join(text.replace(',', ' ').split())}]"
        try:
            vector = json.loads(text)
        except (ValueError, RecursionError):
            raise request.error(f"line {number}: not a vector: {line.strip()[:40]!r}") from None
        rows.append(vector, f"line {number}")
    return rows.take()


def _read_texts(data: Path | None) -> dict[int, str]:
    if data is None:
        return {}
    require(data, "vectors")
    with progress_bar(f"reading {data.name}") as report:
        dataset = edgevec.read_vectors(data, progress=report)
    if dataset.texts is None:
        raise ParameterError(f"{data}: holds no texts")
    ids = range(len(dataset)) if dataset.ids is None else dataset.ids.tolist()
    return dict(zip(ids, dataset.texts, strict=True))


def _numbered(found: Any) -> Iterable[tuple[int, tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    """(number of the query, (ids, distances)), without the padding of short rows."""
    for number, (ids, distances) in enumerate(zip(found.ids, found.distances, strict=True)):
        real = np.isfinite(distances)
        yield number, (ids[real], distances[real])


def _as_object(
    number: int, ids: NDArray[np.int64], distances: NDArray[np.float32], texts: Mapping[int, str] | None
) -> dict[str, Any]:
    found = {"query": number, "ids": ids.tolist(), "distances": distances.tolist()}
    return found | {"texts": [texts.get(id) for id in found["ids"]]} if texts else found
