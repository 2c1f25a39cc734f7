"""edgevec db: a collection from the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from .. import Metric, Quantization, Storage
from ..errors import ParameterError
from ..file_kind import require
from ..printable import decimals, printable
from .arguments import Group
from .common import (
    INPUT,
    METRICS,
    QUANTIZATIONS,
    Command,
    encoder_option,
    example,
    force_option,
    memory_option,
    note,
    open_collection,
    output_option,
    progress_bar,
    protect,
    show,
    show_json,
    storage_option,
)

if TYPE_CHECKING:
    from ..collection import Collection, Hits, Plan
    from ..sharded_collection import ShardedCollection

__all__ = ["column_options", "db", "show_hits", "stored_vector", "where_option"]

_SHOWN = 60
"""Characters of a document or of metadata in a table."""


def where_option(command: Any) -> Any:
    return click.option(
        "--where", metavar="CONDITION", help="Only these records, such as: \"year >= 1990 AND lang IN ('de', 'fr')\"."
    )(command)


def column_options(command: Command) -> Command:
    """The columns of what is imported, and the parameters of a new collection."""
    for option in (
        click.option(
            "--quantization", "-q", type=click.Choice(QUANTIZATIONS), help="Of a new collection; default sq8."
        ),
        click.option("--metric", type=click.Choice(METRICS), help="Metric of a new collection; cosine by default."),
        click.option("--skip", multiple=True, metavar="COLUMN", help="A column to leave out; may come several times."),
        click.option(
            "--document", "document_column", help="The one with the texts, which are indexed for text search."
        ),
        click.option("--vector", "vector_column", help="The one with the vectors."),
        click.option("--id", "id_column", help="The column or field with the ids. Without one, rows get numbers."),
    ):
        command = option(command)
    return command


class _FileFirst(Group):
    """Commands after a file; told so where they come before it, as they do elsewhere."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = context.params["file"].name
        if name in self.commands and args[0] not in self.commands:
            if args[0] in context.help_option_names:
                return name, self.commands[name], args
            file = "FILE" if args[0].startswith("-") else args[0]
            raise click.UsageError(f"FILE comes first: edgevec db {file} {name} ...", context)
        return super().resolve_command(context, args)


@click.group(cls=_FileFirst, epilog=example("edgevec db notes.edgevec import notes.jsonl"))
@click.argument("file", type=INPUT)
@click.pass_context
def db(context: click.Context, file: Path) -> None:
    """Work with the collection in FILE: records with metadata and texts around an index."""
    context.obj = file


@db.command("import", epilog=example("edgevec db notes.edgevec import notes.jsonl"))
@click.argument("source", type=INPUT)
@column_options
@encoder_option
@memory_option
@storage_option
@click.pass_obj
def import_(
    file: Path,
    source: Path,
    id_column: str | None,
    vector_column: str | None,
    document_column: str | None,
    skip: tuple[str, ...],
    metric: Metric | None,
    quantization: Quantization | None,
    encoder: str | None,
    memory_limit: int | None,
    storage: Storage,
) -> None:
    """Read SOURCE (.jsonl, .parquet, .csv, .npy, ...); records whose id exists are replaced. All or nothing."""
    require(source, "vectors")
    start = time.perf_counter()
    parameters = {
        "metric": metric,
        "quantization": quantization,
        "encoder": encoder,
        "memory_limit": memory_limit,
        "storage": storage,
    }
    with open_collection(file, "a", **parameters) as collection, progress_bar("building") as report:
        count = collection.import_from(
            source, id=id_column, vector=vector_column, document=document_column, skip=skip, progress=report
        )
        note(f"{file}: {count:,} records in {time.perf_counter() - start:.2f} s; it holds {len(collection):,} now")


@db.command(epilog=example("edgevec db notes.edgevec search --text fruit"))
@click.option("--vector", help='A vector: "[0.1, 0.2]".')
@click.option("--id", "stored_id", help="Search near the vector stored under this id.")
@click.option("--text", help="Words to find in the documents; with a vector, both rankings are fused.")
@encoder_option
@storage_option
@where_option
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Results.")
@click.option("--ef", type=click.IntRange(1), help="Candidates that a search keeps; more is slower and finds more.")
@click.option(
    "--recall", type=float, help="Instead of --ef: the share of the true neighbors to find on average, such as 0.95."
)
@click.option("--exact", is_flag=True, help="Compare with every vector.")
@click.option("--explain", is_flag=True, help="Explain how the search and its condition are carried out.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of hits.")
@click.pass_obj
def search(
    file: Path,
    vector: str | None,
    stored_id: str | None,
    text: str | None,
    encoder: str | None,
    storage: Storage,
    where: str | None,
    k: int,
    ef: int | None,
    recall: float | None,
    exact: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Find records by vector, by words, or by both; with --encoder, by what a text means, too."""
    if vector is not None and stored_id is not None:
        raise click.UsageError("give --vector or --id, not both")
    with open_collection(file, "r", encoder=encoder, storage=storage) as collection:
        query = _parse(vector) if stored_id is None else stored_vector(collection, stored_id)
        hits = collection.search(query, k, text=text, where=where, ef=ef, exact=exact, recall=recall)
        plan = collection.explain(where) if explain and where else None
        holds = len(collection)
        note_unknown_fields(collection, where, hits)
    if as_json:
        show_json([hit.as_dict() for hit in hits])
    elif hits:
        show_hits(hits)
    else:
        show(f"nothing found{'' if holds else '; the collection is empty'}")
    if explain:
        _explain(hits, plan)


def note_unknown_fields(collection: Collection | ShardedCollection, where: str | None, hits: Hits) -> None:
    """Why nothing was found, where a condition names fields that no record has."""
    for name, similar in collection.unknown_fields(where).items() if where and not hits else ():
        note(f"no record has a field {name}" + (f"; there is {' and '.join(similar)}" if similar else ""))


def _parse(vector: str | None) -> Any:
    if vector is None:
        return None
    try:
        return json.loads(vector)
    except (ValueError, RecursionError):
        raise ParameterError(f"not a vector: {vector[:40]!r}") from None


def stored_vector(collection: Collection | ShardedCollection, id: str) -> Any:
    """The vector of an id; 7 on a command line may be the number or the text."""
    candidates: list[int | str] = [int(id), id] if id.lstrip("-").isdecimal() else [id]
    found = collection.get(candidates, missing="skip")
    if not found:
        collection.get([id])
    return found[0].vector


def show_hits(hits: Hits) -> None:
    table = Table("", "id", "score", "distance", "document", "metadata", box=None)
    for rank, hit in enumerate(hits, 1):
        distance = "" if hit.distance is None else decimals(hit.distance)
        metadata = json.dumps(hit.metadata, ensure_ascii=False)
        table.add_row(
            str(rank), printable(hit.id), decimals(hit.score), distance, _short(hit.document or ""), _short(metadata)
        )
    show(table)


def _short(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _explain(hits: Hits, plan: Plan | None) -> None:
    stats = hits.stats
    allowed = "" if stats.allowed is None else f", {stats.allowed:,} records allowed"
    note(f"strategy: {stats.strategy}{allowed}, {stats.distances:,} distances")
    if plan is not None:
        note(f"condition: {plan}")


@db.command(epilog=example("edgevec db notes.edgevec info"))
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def info(file: Path, as_json: bool) -> None:
    """Show what the collection holds, and how large it is."""
    with open_collection(file, "r") as collection:
        facts = {
            "dim": collection.dim,
            "metric": collection.metric,
            "quantization": collection.quantization,
            "encoder": collection.encoder,
            "indexes": collection.indexes(),
            **collection.stats(),
        }
    if as_json:
        show_json(facts)
        return
    table = Table("", "", box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), printable(_fact(value)))
    show(table)


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value or "")


@db.command(epilog=example("edgevec db notes.edgevec check"))
@click.option(
    "--repair",
    is_flag=True,
    help="Rebuild graph and full-text index where they are wrong, and set damaged records apart.",
)
@click.pass_obj
def check(file: Path, repair: bool) -> int:
    """Verify records, texts and graph. Exit code 1 when something is wrong (still, after --repair)."""
    with open_collection(file, "a" if repair else "r") as collection, progress_bar("checking") as report:
        found = collection.check(repair=repair, progress=report)
    for problem in found.problems:
        note(problem)
    for name in ("missing", "extra", "stale"):
        if getattr(found, name):
            note(f"{getattr(found, name):,} {name} in the graph")
    if found.graph is not None and not found.graph.ok:
        note(f"the graph: {found.graph}")
    if found.set_apart:
        note(f"{len(found.set_apart):,} damaged records are in the table 'damaged' of the file now")
    show(f"{found.records:,} records: {'in order' if found.ok else 'damaged'}{', repaired' * found.repaired}")
    return 0 if found.ok else 1


@db.command(epilog=example("edgevec db notes.edgevec compact"))
@click.pass_obj
def compact(file: Path) -> None:
    """Free the space of deleted records."""
    with open_collection(file, "a") as collection, progress_bar("compacting") as report:
        before = collection.stats()
        collection.compact(progress=report)
        after = collection.stats()
    for name in ("file_bytes", "snapshot_bytes"):
        note(f"{name.replace('_', ' ')}: {before[name]:,} -> {after[name]:,}")


@db.command(epilog=example("edgevec db notes.edgevec export -o copy.jsonl"))
@output_option("-o", "--output", required=True, help="The file to write: .jsonl, .jsonl.gz or .parquet")
@force_option
@where_option
@click.pass_obj
def export(file: Path, output: Path, force: bool, where: str | None) -> None:
    """Write the records to a file that import can read."""
    protect(output, file, force=force)
    with open_collection(file, "r") as collection:
        note(f"{output}: {collection.export(output, where):,} records")
