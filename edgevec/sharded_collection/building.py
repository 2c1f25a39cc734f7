"""A build: the shards of all records, and the manifest at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._types import Progress
from ..collection.import_export import Columns
from ..encoders import TextEncoder
from ..errors import ParameterError
from ..sharded.folders import Folder
from ..sharded.writing import any_previous_build, commit_alone, written
from .manifest import CollectionManifest, CollectionSettings, CollectionShard
from .shards import Made, write_shard
from .source import Block, Source, blocks_of, no_records

__all__ = ["build", "columns_of", "commit_build", "entries_of", "previous_build"]


def columns_of(id: str | None, vector: str | None, document: str | None, skip: Sequence[str]) -> Columns:
    """As of Collection.import_from()."""
    return Columns(id, vector, document, frozenset([skip] if isinstance(skip, str) else skip))


def build(
    folder: Folder,
    data: Any,
    columns: Columns,
    settings: dict[str, Any],
    rows_per_shard: int,
    encoder: TextEncoder | None,
    progress: Progress | None,
) -> CollectionManifest:
    """Build from all records of a source; what is at the folder is replaced at the end."""
    source = Source(data, columns, encodes=encoder is not None)
    known = dict(settings)

    def write(block: Block, report: Progress | None) -> Made:
        if block.dim is not None:
            known.setdefault("dim", block.dim)
        made = write_shard(folder, block, known, encoder, report)
        known["dim"] = made.settings.dim  # the following ones have it, too
        return made

    with folder.writing():
        previous = previous_build(folder)
        blocks = blocks_of(source.tables, rows_per_shard)
        made = written(blocks, write, lambda: source.total, progress)
        if not made:
            raise no_records(data)
        return commit_build(folder, rows_per_shard, made, previous)


def previous_build(folder: Folder) -> CollectionManifest | None:
    """What a build is about to replace. CorruptCollectionError where that is no manifest of a collection: it stays."""
    return any_previous_build(folder, CollectionManifest.parse)


def entries_of(made: Sequence[Made], settings: CollectionSettings) -> tuple[CollectionShard, ...]:
    """The entries of shards; ParameterError where one has other settings."""
    for each in made:
        if each.settings != settings:
            raise ParameterError(f"shards of different parameters: {settings} and {each.settings}")
    return tuple(each.shard for each in made)


def commit_build(
    folder: Folder, rows_per_shard: int, made: Sequence[Made], previous: CollectionManifest | None
) -> CollectionManifest:
    """Write the manifest of a build, of whose records no two have one id."""
    settings: CollectionSettings = made[0].settings
    shards = entries_of(made, settings)
    manifest = CollectionManifest(settings, rows_per_shard, shards, previous.generation + 1 if previous else 1)
    commit_alone(folder, manifest)
    return manifest
