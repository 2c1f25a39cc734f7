"""edgevec shards: an index or a collection in several files from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

import edgevec

from .. import Storage
from ..file_kind import require
from ..sharded import ShardContext, kind_of_shards
from .arguments import Group
from .common import (
    encoder_option,
    example,
    index_options,
    note,
    progress_bar,
    reading_options,
    show,
    show_json,
    storage_option,
)
from .db import column_options, where_option
from .search import queries_from, query_options, show_found
from .shards_of_collection import compact_collection, import_collection, info_of_collection, search_collection

__all__ = ["shards"]

_FOLDER = click.argument("folder")
_ONLY_HERE = ("memory_limit",)
"""Options of a single index."""


@click.group(cls=Group, epilog=example("edgevec shards build vectors.npy -o items --rows-per-shard 1000"))
def shards() -> None:
    """Work with an index or a collection in several files, its shards.

    They lie in a FOLDER or at an address such as s3://...
    """


def _without_limit(command: Any) -> Any:
    """The options of an index, without the one that a shard does not have."""
    made = index_options(command)
    made.__click_params__ = [each for each in made.__click_params__ if each.name not in _ONLY_HERE]
    return made


@shards.command(epilog=example("edgevec shards build vectors.npy -o items --rows-per-shard 1000"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where to write; an index there is replaced.")
@click.option("--rows-per-shard", type=click.IntRange(1), default=250_000, show_default=True)
@click.option("--cluster", is_flag=True, help="Put near vectors into one shard, for search --nprobe.")
@_without_limit
@reading_options
def build(file: Path, output: str, **parameters: Any) -> None:
    """Build an index of the vectors in FILE, or in all files of a folder, shard by shard; memory holds one.

    After an interruption, the same command goes on with the shards that are not finished.
    """
    if not file.is_dir():
        require(file, "vectors")
    start = time.perf_counter()
    with (
        progress_bar("building") as report,
        edgevec.ShardedIndex.build(file, output, progress=report, **parameters) as index,
    ):
        size = sum(shard.bytes for shard in index.shards)
        note(
            f"{output}: {len(index):,} x {index.dim}, {index.metric}, in {len(index.shards)} shards; "
            f"built in {time.perf_counter() - start:.2f} s; {size / 1e6:,.1f} MB"
        )


@shards.command("import", epilog=example("edgevec shards import notes.jsonl -o notes --rows-per-shard 1000"))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where to write; a collection there is replaced.")
@click.option("--rows-per-shard", type=click.IntRange(1), default=250_000, show_default=True)
@column_options
@encoder_option
def import_(source: Path, output: str, **parameters: Any) -> None:
    """Build a collection of the records in SOURCE, or in all files of a folder, shard by shard; memory holds one.

    After an interruption, the same command goes on with the shards that are not finished.
    """
    if not source.is_dir():
        require(source, "vectors")
    import_collection(source, output, **parameters)


@shards.command(epilog=example("edgevec shards info items"))
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(folder: str, as_json: bool) -> None:
    """Show the settings and the shards, and what is wrong with them. All files are verified."""
    if kind_of_shards(folder) == "collection":
        info_of_collection(folder, as_json)
        return
    with edgevec.ShardedIndex.open(folder, missing="report") as index:
        manifest, problems = index.manifest, {file: str(error) for file, error in index.problems.items()}
        facts = {
            "vectors": len(index),
            "dim": index.dim,
            "metric": index.metric,
            **manifest.settings.parameters(),
            "rows_per_shard": manifest.rows_per_shard,
            "cluster": manifest.cluster,
            "generation": manifest.generation,
            "share": index.share,
        }
    rows = [
        {
            "file": shard.file,
            "vectors": shard.count,
            "removed": shard.count - shard.live,
            "first_id": shard.first_id,
            "last_id": shard.last_id,
            "bytes": shard.bytes,
            "centroids": shard.centroids.count if shard.centroids else None,
            "problem": problems.get(shard.file),
        }
        for shard in manifest.shards
    ]
    if as_json:
        show_json({**facts, "shards": rows})
        return
    about = Table(show_header=False, box=None)
    for name, value in facts.items():
        about.add_row(name, f"{value:,}" if type(value) is int else str(value))
    table = Table()
    for name in ("file", "vectors", "removed", "ids", "MB", "problem")[: 6 if problems else 5]:
        table.add_column(name, justify="left" if name in ("file", "problem") else "right")
    for row in rows:
        cells = [
            f"{str(row['file'])[:12]}...",
            f"{row['vectors']:,}",
            f"{row['removed']:,}",
            f"{row['first_id']}..{row['last_id']}",
            f"{int(row['bytes'] or 0) / 1e6:,.1f}",
        ]
        table.add_row(*cells, *([str(row["problem"] or "")] if problems else []))
    show(about, table)


def _with_any_id(command: Any) -> Any:
    """The options of a query, with an id that may be a text."""
    made = query_options(command)
    for each in made.__click_params__:
        if each.name == "stored_id":
            each.type = click.STRING
    return made


@shards.command(epilog=example("edgevec shards search items --query queries.npy -k 3"))
@_FOLDER
@_with_any_id
@click.option("--text", help="Of a collection: words to find in the documents; with a vector, both are fused.")
@where_option
@encoder_option
@storage_option
@click.option("--nprobe", type=click.IntRange(1), help="Ask each query of so many shards; for a build with --cluster.")
@click.option("--report", is_flag=True, help="Go on without shards that are missing or damaged, and say so.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with an object for each query.")
def search(
    folder: str,
    query: str | None,
    row: int | None,
    stored_id: str | None,
    column: str | None,
    k: int,
    ef: int | None,
    recall: float | None,
    exact: bool,
    text: str | None,
    where: str | None,
    encoder: str | None,
    storage: Storage,
    nprobe: int | None,
    report: bool,
    as_json: bool,
) -> None:
    """Find the vectors of all shards that are nearest to the queries; of a collection, records by a query or --text."""
    if kind_of_shards(folder) == "collection":
        if nprobe is not None:
            raise click.UsageError("--nprobe is for an index, and this is a collection")
        queries_of = None
        if query is not None:
            queries_of = queries_from(query, row, None, column)
        options: dict[str, Any] = {"text": text, "where": where, "ef": ef, "recall": recall, "exact": exact}
        how: dict[str, Any] = {"encoder": encoder, "storage": storage, "missing": "report" if report else "error"}
        search_collection(folder, queries_of, stored_id, k, options, how, as_json)
        return
    for option, value in (("--text", text), ("--where", where), ("--encoder", encoder)):
        if value is not None:
            raise click.UsageError(f"{option} is for a collection, and this is an index")
    if stored_id is not None and not stored_id.removeprefix("-").isdecimal():
        raise click.UsageError(f"--id of an index is a number, not {stored_id!r}")
    queries_of = queries_from(query, row, None if stored_id is None else int(stored_id), column)
    with edgevec.ShardedIndex.open(folder, missing="report" if report else "error", storage=storage) as index:
        queries = queries_of(index)
        context = ShardContext(index)
        found = index.search(queries, k, ef=ef, exact=exact, recall=recall, nprobe=nprobe, context=context)
        missed = [stats.problem for stats in context.stats if stats.problem is not None and stats.queries]
        for problem in missed:
            note(f"{folder}: {problem}")
        if missed:
            of_what = "vectors" if nprobe is None else "vectors in the shards that are asked"
            note(f"{folder}: {context.share:.1%} of the {of_what} are searched")
        show_found(found, len(queries), as_json, empty=not len(index))


@shards.command(epilog=example("edgevec shards compact items"))
@_FOLDER
def compact(folder: str) -> None:
    """Write shards with removed vectors or records anew, merge small ones, and remove files that no longer count."""
    if kind_of_shards(folder) == "collection":
        compact_collection(folder)
        return
    with edgevec.ShardedIndex.open(folder) as index, progress_bar("compacting") as report:
        before = len(index.shards)
        index.compact(progress=report)
        note(f"{folder}: {before} shards before, {len(index.shards)} now; {len(index):,} vectors")
