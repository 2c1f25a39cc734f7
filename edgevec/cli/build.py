"""edgevec build: from a file of vectors to an index file."""

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
    index_options,
    note,
    output_option,
    protect,
    read,
    reading_options,
)

__all__ = ["build"]


@click.command(epilog=example("edgevec build vectors.npy -o vectors.ev"))
@click.argument("file", type=INPUT)
@output_option("-o", "--output", required=True, help="The index file to write.")
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
    **parameters: Any,
) -> None:
    """Build an index of the vectors in FILE.

    Ids are those of the file, else the row numbers from 0. An index that lies at the output is replaced; another file
    there with --force alone, and FILE itself never.
    """
    protect(output, file, force=force, ours="index")
    dataset = read(file, column=column, limit=limit)
    index, seconds = build_index(
        dataset.vectors, dataset.ids, metric=metric or dataset.metric or "cosine", **parameters
    )
    index.save(output)
    note(
        f"{output}: {len(index):,} x {index.dim}, {index.metric}, {index.quantization}; built in {seconds:.2f} s; "
        f"{output.stat().st_size / 1e6:,.1f} MB; {bytes_per_vector(index):,} bytes per vector in memory"
    )
