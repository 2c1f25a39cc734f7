"""What the commands share: consoles, progress bars, options, and the steps of reading and building."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import edgevec

from ..index import Metric
from ..reading import Dataset

__all__ = [
    "INPUT",
    "build_index",
    "bytes_per_vector",
    "index_options",
    "note",
    "on_terminal",
    "output_option",
    "progress_bar",
    "read",
    "reading_options",
    "results",
    "shown_rows",
]

Command = TypeVar("Command", bound=Callable[..., Any])

results = Console(highlight=False, markup=False, emoji=False)
"""Standard output: what was asked for."""

_notes = Console(stderr=True, highlight=False, markup=False, emoji=False)

INPUT = click.Path(dir_okay=False, path_type=Path)


def note(line: str) -> None:
    """Say on standard error what is going on."""
    _notes.print(line, soft_wrap=True)


def output_option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that names a file to be written; that its folder is missing is said before the work, not after it."""

    def check_folder(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and not path.parent.is_dir():
            raise click.BadParameter(f"there is no folder {str(path.parent)!r}", context, parameter)
        return path

    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.option(*names, type=kind, callback=check_folder, **settings)


def index_options(command: Command) -> Command:
    """The parameters of an index, passed on to `build_index`."""
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Of the graph's levels and the codes."),
        click.option("--threads", type=click.IntRange(0), default=0, help="To build with; 0 (default): one per core."),
        click.option(
            "--keep-vectors/--codes-only", default=True, help="Codes alone take less memory and give estimates."
        ),
        click.option("--ef-construction", type=click.IntRange(1), default=200, show_default=True),
        click.option("-M", "M", type=click.IntRange(2), default=16, show_default=True, help="Links per node."),
        click.option(
            "--quantization", "-q", type=click.Choice(["none", "sq8", "binary"]), default="sq8", show_default=True
        ),
        click.option(
            "--metric", type=click.Choice(["cosine", "ip", "l2"]), help="Default: what the file says, else cosine."
        ),
    ):
        command = option(command)
    return command


def reading_options(command: Command) -> Command:
    """Which part of a file to read, passed on to `read`."""
    for option in (
        click.option("--limit", type=click.IntRange(1), help="Read this many rows."),
        click.option("--column", help="The array, column or field that holds the vectors."),
    ):
        command = option(command)
    return command


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; gives the function to call with (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_notes, transient=True, disable=not _notes.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def read(path: Path, *, column: str | None, limit: int | None) -> Dataset:
    start = time.perf_counter()
    with progress_bar(f"reading {path.name}") as report:
        dataset = edgevec.read_vectors(path, column=column, limit=limit, progress=report)
    note(f"{path.name}: {len(dataset):,} x {dataset.dim} read in {time.perf_counter() - start:.2f} s")
    return dataset


def build_index(
    vectors: NDArray[np.float32], ids: NDArray[np.int64] | None, *, metric: Metric, threads: int, **parameters: Any
) -> tuple[edgevec.Index, float]:
    """The index, and the seconds that it took."""
    index = edgevec.Index(vectors.shape[1], metric, **parameters)
    with progress_bar("building") as report:
        start = time.perf_counter()
        index.add(vectors, ids, threads=threads, progress=report)
        seconds = time.perf_counter() - start
    return index, seconds


def bytes_per_vector(index: edgevec.Index) -> int:
    return round(index.memory_usage()["total"] / max(1, len(index)))


def shown_rows(ids: NDArray[np.int64], distances: NDArray[np.float32]) -> Iterator[tuple[str, int, str]]:
    """(rank, id, distance) of one query's results, as a table shows them."""
    for rank, (id, distance) in enumerate(zip(ids.tolist(), distances.tolist(), strict=True), 1):
        yield str(rank), id, f"{distance:.4f}"


def on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
