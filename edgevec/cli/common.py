"""What the commands share: output, options, checks of files, and the steps of reading and building."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import edgevec

from .. import Metric, Quantization, Storage
from ..errors import ParameterError, StorageError
from ..file_kind import KIND_NAMES, Kind, kind_of, require
from ..printable import decimals, printable
from ..readers import Dataset
from .arguments import INPUT, as_bytes, example

if TYPE_CHECKING:
    from ..collection import Collection

__all__ = [
    "INPUT",
    "METRICS",
    "QUANTIZATIONS",
    "STORAGES",
    "build_index",
    "bytes_per_vector",
    "encoder_option",
    "example",
    "force_option",
    "index_kind",
    "index_options",
    "memory_option",
    "note",
    "on_terminal",
    "open_collection",
    "output_option",
    "progress_bar",
    "protect",
    "read",
    "reading_options",
    "show",
    "show_json",
    "shown_rows",
    "storage_option",
    "write_index",
]

METRICS: tuple[Metric, ...] = get_args(Metric)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
STORAGES: tuple[Storage, ...] = get_args(Storage)
_GRAPH_ON_DISK = ".evd"

Command = TypeVar("Command", bound=Callable[..., Any])


class _Console(Console):
    """Prints every text as it stands, in tables too: neither markup nor control characters take effect."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(printable(text, lines=True), **settings)


_results, _notes = _Console(), _Console(stderr=True)


def show(*what: str | Table) -> None:
    """Print results on standard output: tables, and lines, which are not folded."""
    _check_output()
    for part in what:
        _results.print(part, soft_wrap=isinstance(part, str))


def show_json(value: object) -> None:
    """Print it as one line of JSON, in ASCII where standard output has an encoding that cannot hold it."""
    _check_output()
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    click.echo(text)


def _check_output() -> None:
    if sys.stdout is None:
        raise StorageError("standard output is closed: there is nowhere to show the results")


def note(line: str) -> None:
    """Print a line about the work on standard error; failing to do so is ignored."""
    with contextlib.suppress(OSError):
        _notes.print(line, soft_wrap=True)


# ---- files ---------------------------------------------------------------------------------------------------------


def protect(output: Path, *inputs: Path, force: bool, ours: Kind | None = None) -> None:
    """Refuse to write over an input; and over any other file that has content, unless `force` is given or the file is
    of the kind `ours`, which may be replaced.

    Called before the work, so that the work is not lost.
    """
    if not output.exists():
        return
    if any(path.exists() and output.samefile(path) for path in inputs):
        raise ParameterError(f"{output}: is read by this command; write to another file")
    kind = kind_of(output)
    if not output.is_file():
        raise ParameterError(f"{output}: not a regular file")
    if kind not in ("empty", ours) and not force:
        raise ParameterError(f"{output}: exists, and is {KIND_NAMES[kind]}; --force replaces it")


force_option = click.option("--force", is_flag=True, help="Replace a file that exists, whatever it is.")


def output_option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that names a file to be written. A missing folder is an error before the work, not after it."""

    def check_folder(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and not path.parent.is_dir():
            raise click.BadParameter(f"there is no folder {str(path.parent)!r}", context, parameter)
        return path

    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.option(*names, type=kind, callback=check_folder, **settings)


memory_option = click.option(
    "--memory-limit",
    metavar="SIZE",
    callback=as_bytes,
    help="What the index may take in memory, such as 500MB; more is an error.",
)


storage_option = click.option(
    "--storage",
    type=click.Choice(STORAGES),
    default="memory",
    show_default=True,
    help="disk: hold links and codes in memory, and read vectors from the file.",
)


encoder_option = click.option(
    "--encoder", metavar="NAME", help="What makes vectors of texts, such as model2vec:minishlab/potion-base-8M."
)


def index_options(command: Command) -> Command:
    """The parameters of an index, passed on to `build_index`."""
    for option in (
        memory_option,
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Seed of the graph's levels and the codes."
        ),
        click.option(
            "--threads", type=click.IntRange(0), default=0, help="Threads to build with; 0 (default): one per core."
        ),
        click.option(
            "--keep-vectors/--codes-only",
            default=True,
            help="Codes alone take less memory; distances are then estimates.",
        ),
        click.option("--ef-construction", type=click.IntRange(1), default=200, show_default=True),
        click.option("-M", "M", type=click.IntRange(2), default=16, show_default=True, help="Links per node."),
        click.option("--quantization", "-q", type=click.Choice(QUANTIZATIONS), default="sq8", show_default=True),
        click.option("--metric", type=click.Choice(METRICS), help="Default: what the file says, else cosine."),
    ):
        command = option(command)
    return command


def reading_options(command: Command) -> Command:
    """Which part of a file to read, passed on to `read`."""
    for option in (
        click.option("--limit", type=click.IntRange(1), help="Read only this many rows."),
        click.option("--column", help="The array, column or field that holds the vectors."),
    ):
        command = option(command)
    return command


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere. Yields the function to call with (done, total)."""
    if not _notes.is_terminal:
        yield lambda done, total: None  # releases of rich before 15 write an empty line for a bar that is disabled
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_notes, transient=True) as progress:
        task = progress.add_task(printable(title), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def read(path: Path, *, column: str | None, limit: int | None) -> Dataset:
    require(path, "vectors")
    start = time.perf_counter()
    with progress_bar(f"reading {path.name}") as report:
        dataset = edgevec.read_vectors(path, column=column, limit=limit, progress=report)
    note(f"{path.name}: {len(dataset):,} x {dataset.dim} read in {time.perf_counter() - start:.2f} s")
    for name, why in dataset.unread.items():
        note(f"{path.name}: without the column {name!r}: {why}")
    return dataset


def open_collection(file: Path, mode: Any, **parameters: Any) -> Collection:
    require(file, "collection")
    if mode == "a" and not parameters and not file.exists():
        mode = "r"  # which says that there is none
    with progress_bar("building the graph") as report:
        return edgevec.open(file, mode=mode, progress=report, **parameters)


def build_index(
    vectors: NDArray[np.float32], ids: NDArray[np.int64] | None, *, metric: Metric, threads: int, **parameters: Any
) -> tuple[edgevec.Index, float]:
    """Build an index; returns it, and the seconds that it took."""
    index = edgevec.Index(vectors.shape[1], metric, **parameters)
    with progress_bar("building") as report:
        start = time.perf_counter()
        index.add(vectors, ids, threads=threads, progress=report)
        seconds = time.perf_counter() - start
    return index, seconds


def index_kind(output: Path) -> Kind:
    """Of the index to be written there: its name says whether the graph is to stay on disk."""
    return "disk_index" if output.suffix == _GRAPH_ON_DISK else "index"


def write_index(index: edgevec.Index, output: Path, *, threads: int = 0) -> None:
    """Write it as the kind of file that `index_kind` says."""
    if index_kind(output) == "index":
        index.save(output)
        return
    with progress_bar(f"writing {output.name}") as report:
        edgevec.DiskIndex.write(index, output, threads=threads, progress=report)


def bytes_per_vector(index: edgevec.Index) -> int:
    return round(index.memory_usage()["total"] / max(1, len(index)))


def shown_rows(ids: NDArray[np.int64], distances: NDArray[np.float32]) -> Iterator[tuple[str, int, str]]:
    """(rank, id, distance) of one query's results, as a table shows them."""
    for rank, (id, distance) in enumerate(zip(ids.tolist(), distances.tolist(), strict=True), 1):
        yield str(rank), id, decimals(distance)


def on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
