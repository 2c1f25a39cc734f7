"""edgevec build: from a file of vectors to an index file, with the graph in memory or on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import Metric
from .common import (
    INPUT,
    build_index,
    bytes_per_vector,
    example,
    force_option,
    index_kind,
    index_options,
    note,
    output_option,
    protect,
    read,
    reading_options,
    write_index,
)

__all__ = ["build"]


@click.command(epilog=example("edgevec build vectors.npy -o vectors.ev"))
@click.argument("file", type=INPUT)
@output_option(
    "-o", "--output", required=True, help="The index file to write: with the graph on disk where it ends in .evd."
)
@force_option
@index_options
@reading_options
def build(
    file: Path,
    output: Path,
    force: bool,
    metric: Metric | None,
    column: str | None,
    limit: int | None,
    threads: int,
    **parameters: Any,
) -> None:
    """Build an index of the vectors in FILE.

    Ids are those of the file, else the row numbers from 0. An index that lies at the output is replaced; another file
    there with --force alone, and FILE itself never.

    One that ends in .evd can be searched alone, in its file, however little memory there is.
    """
    kind = index_kind(output)
    protect(output, file, force=force, ours=kind)
    dataset = read(file, column=column, limit=limit)
    index, seconds = build_index(
        dataset.vectors, dataset.ids, metric=metric or dataset.metric or "cosine", threads=threads, **parameters
    )
    write_index(index, output, threads=threads)
    shape, size = f"{len(index):,} x {index.dim}, {index.metric}", f"{output.stat().st_size / 1e6:,.1f} MB"
    if kind == "disk_index":
        note(f"{output}: {shape}, its graph on disk; built in {seconds:.2f} s; {size}")
        return
    memory = f"{bytes_per_vector(index):,} bytes per vector in memory"
    note(f"{output}: {shape}, {index.quantization}; built in {seconds:.2f} s; {size}; {memory}")
