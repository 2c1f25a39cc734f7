"""edgevec convert: what other libraries have stored, as an index or a collection; an index with its graph on disk."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

import edgevec

from .. import Metric, Quantization
from ..errors import ParameterError
from ..file_kind import kind_of
from .arguments import example
from .common import (
    METRICS,
    QUANTIZATIONS,
    force_option,
    index_kind,
    note,
    output_option,
    progress_bar,
    protect,
    write_index,
)

__all__ = ["convert"]

_COLLECTION = ".edgevec"


@click.command(epilog=example("edgevec convert faiss.index -o vectors.ev"))
@click.argument("source", type=click.Path(path_type=Path))
@output_option(
    "-o",
    "--output",
    required=True,
    help="The file to write: a collection where it ends in .edgevec, an index with its graph on disk where it ends in "
    ".evd, else an index.",
)
@force_option
@click.option("--metric", type=click.Choice(METRICS), help="Default: what the source says. hnswlib's files do not.")
@click.option("--quantization", "-q", type=click.Choice(QUANTIZATIONS), help="sq8 by default.")
@click.option(
    "--graph",
    type=click.Choice(["keep", "rebuild"]),
    help="Of hnswlib and faiss HNSW: take it over, or build one. Default: taken over if it was built thoroughly.",
)
@click.option("--table", metavar="NAME", help="The collection or table, where the source has several.")
@click.option("--vector", metavar="COLUMN", help="The one with the vectors, where a table has several.")
@click.option("--id", "id_column", metavar="COLUMN", help="The one with the ids, of a table of LanceDB.")
@click.option("--document", metavar="COLUMN", help="The one with the texts of a table.")
def convert(
    source: Path,
    output: Path,
    force: bool,
    metric: Metric | None,
    quantization: Quantization | None,
    graph: str | None,
    table: str | None,
    vector: str | None,
    id_column: str | None,
    document: str | None,
) -> None:
    """Take over vectors, ids and records from SOURCE: an index file of hnswlib, faiss, usearch or Voyager, a folder of
    Chroma or LanceDB, a database with a table of sqlite-vec.

    The graph of an index of hnswlib or of faiss HNSW is taken over; others are built of the vectors. An index file of
    edgevec's becomes one with its graph on disk.
    """
    start = time.perf_counter()
    if index_kind(output) == "disk_index" and kind_of(source) == "index":
        protect(output, source, force=force, ours="disk_index")
        options = {"metric": metric, "quantization": quantization, "graph": graph, "table": table, "vector": vector}
        _refuse(source, {**options, "id": id_column, "document": document})
        count = _graph_to_disk(source, output)
        note(f"{output}: {count:,} of {source}, in {time.perf_counter() - start:.2f} s")
        return
    as_collection = output.suffix == _COLLECTION
    if as_collection and graph == "keep":
        raise ParameterError(f"{output}: a collection builds its graph itself; --graph keep is for an index")
    inputs = [source] if source.is_file() else []
    protect(output, *inputs, force=force, ours=None if as_collection else index_kind(output))
    importers: Any = importlib.import_module("edgevec.importers")
    write: Any = importlib.import_module("edgevec.importers.write")
    with closing(importers.open_source(source, importers.Options(table, vector, id_column, document))) as found:
        metric = metric or found.metric
        if metric is None:
            raise ParameterError(f"{source}: {found.kind}, which does not say its metric: --metric {'|'.join(METRICS)}")
        with progress_bar(f"converting {source.name}") as report:
            if as_collection:
                count = write.to_collection(found, output, metric, quantization, report)
            else:
                index = write.as_index(found, metric, quantization, report, graph)
        if not as_collection:
            write_index(index, output)
            count = len(index)
        for line in found.notes:
            note(f"{source}: {line}")
        note(f"{output}: {count:,} of {found.kind}, {metric}, in {time.perf_counter() - start:.2f} s")


def _refuse(source: Path, options: Mapping[str, object]) -> None:
    """Those that say how to read what another library has stored."""
    for name, value in options.items():
        if value is not None:
            raise ParameterError(f"{source}: an index of edgevec's, whose graph is written as it is: no --{name}")


def _graph_to_disk(source: Path, output: Path) -> int:
    """How many vectors the index has. It is used in its file, which may be larger than memory."""
    with edgevec.Index.load(source, mmap=True) as index:
        write_index(index, output)
        return len(index)
