"""What edgevec shards does with a collection in several files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

import edgevec

from ..errors import ParameterError
from ..printable import printable
from .common import note, progress_bar, show, show_json
from .db import note_unknown_fields, show_hits, stored_vector

__all__ = ["compact_collection", "import_collection", "info_of_collection", "search_collection"]


def import_collection(
    source: Path,
    output: str,
    *,
    id_column: str | None,
    vector_column: str | None,
    document_column: str | None,
    **parameters: Any,
) -> None:
    """Build it. parameters: the others of ShardedCollection.build(), None where they are not given"""
    start = time.perf_counter()
    given = {name: value for name, value in parameters.items() if value is not None}
    columns: dict[str, Any] = {"id": id_column, "vector": vector_column, "document": document_column}
    with (
        progress_bar("building") as report,
        edgevec.ShardedCollection.build(source, output, progress=report, **columns, **given) as made,
    ):
        size = sum(shard.bytes + shard.graph_bytes for shard in made.shards)
        note(
            f"{output}: {len(made):,} records, {made.dim} dimensions, {made.metric}, in {len(made.shards)} shards; "
            f"built in {time.perf_counter() - start:.2f} s; {size / 1e6:,.1f} MB"
        )


def info_of_collection(folder: str, as_json: bool) -> None:
    with edgevec.ShardedCollection.open(folder, missing="report") as made:
        manifest, problems = made.manifest, {file: str(error) for file, error in made.problems.items()}
        facts = {
            "records": sum(shard.count for shard in made.shards if shard.file not in problems),
            **asdict(manifest.settings),
            "rows_per_shard": manifest.rows_per_shard,
            "generation": manifest.generation,
            "share": made.share,
        }
    if as_json:
        shards = [{**asdict(shard), "problem": problems.get(shard.file)} for shard in manifest.shards]
        show_json({**facts, "shards": shards})
        return
    about = Table(show_header=False, box=None)
    for name, value in facts.items():
        about.add_row(name, f"{value:,}" if type(value) is int else str(value))
    table = Table()
    for name in ("file", "records", "ids", "MB", "problem")[: 5 if problems else 4]:
        table.add_column(name, justify="left" if name in ("file", "problem") else "right")
    for shard in manifest.shards:
        cells = (
            f"{shard.file[:12]}...",
            f"{shard.count:,}",
            printable(f"{shard.first_id}..{shard.last_id}"),
            f"{(shard.bytes + shard.graph_bytes) / 1e6:,.1f}",
        )
        table.add_row(*cells, *([problems.get(shard.file, "")] if problems else []))
    show(about, table)


def search_collection(
    folder: str,
    queries_of: Callable[[Any], Any] | None,
    stored_id: str | None,
    k: int,
    options: dict[str, Any],
    how: dict[str, Any],
    as_json: bool,
) -> None:
    """
    Args:
        queries_of: what gives the vectors that are searched for, of which there may be one
        stored_id: in their place, the id of a record
        options: of ShardedCollection.search()
        how: of ShardedCollection.open()
    """
    with edgevec.ShardedCollection.open(folder, **how) as made:
        query = None
        if queries_of is not None and stored_id is not None:
            raise ParameterError("give --query or --id, not both")
        if queries_of is not None:
            queries = queries_of(made)
            if len(queries) != 1:
                raise ParameterError(f"a collection is searched for one vector, not {len(queries)}; --row chooses one")
            query = queries[0]
        elif stored_id is not None:
            query = stored_vector(made, stored_id)
        hits = made.search(query, k, **options)
        note_unknown_fields(made, options.get("where"), hits)
        problems, share = made.problems.values(), made.share
    for problem in problems:
        note(f"{folder}: {problem}")
    if problems:
        note(f"{folder}: {share:.1%} of the records are searched")
    if as_json:
        show_json([hit.as_dict() for hit in hits])
    elif hits:
        show_hits(hits)
    else:
        show("nothing found")


def compact_collection(folder: str) -> None:
    with edgevec.ShardedCollection.open(folder) as made, progress_bar("compacting") as report:
        before = len(made.shards)
        made.compact(progress=report)
        note(f"{folder}: {before} shards before, {len(made.shards)} now; {len(made):,} records")
