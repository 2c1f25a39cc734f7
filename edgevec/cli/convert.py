"""edgevec convert: what other libraries have stored, as an index or a collection."""

from __future__ import annotations

import importlib
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from .. import Metric, Quantization
from ..errors import ParameterError
from .arguments import example
from .common import METRICS, QUANTIZATIONS, force_option, note, output_option, progress_bar, protect

__all__ = ["convert"]

_COLLECTION = ".edgevec"


@click.command(epilog=example("edgevec convert faiss.index -o vectors.ev"))
@click.argument("source", type=click.Path(path_type=Path))
@output_option(
    "-o", "--output", required=True, help="The file to write: a collection where it ends in .edgevec, else an index."
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

    The graph of an index of hnswlib or of faiss HNSW is taken over; others are built of the vectors.
    """
    as_collection = output.suffix == _COLLECTION
    if as_collection and graph == "keep":
        raise ParameterError(f"{output}: a collection builds its graph itself; --graph keep is for an index")
    inputs = [source] if source.is_file() else []
    protect(output, *inputs, force=force, ours=None if as_collection else "index")
    importers: Any = importlib.import_module("edgevec.importers")
    write: Any = importlib.import_module("edgevec.importers.write")
    start = time.perf_counter()
    with closing(importers.open_source(source, importers.Options(table, vector, id_column, document))) as found:
        metric = metric or found.metric
        if metric is None:
            raise ParameterError(f"{source}: {found.kind}, which does not say its metric: --metric {'|'.join(METRICS)}")
        with progress_bar(f"converting {source.name}") as report:
            if as_collection:
                count = write.to_collection(found, output, metric, quantization, report)
            else:
                count = write.to_index(found, output, metric, quantization, report, graph)
        for line in found.notes:
            note(f"{source}: {line}")
        note(f"{output}: {count:,} of {found.kind}, {metric}, in {time.perf_counter() - start:.2f} s")
