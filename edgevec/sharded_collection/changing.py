"""Changes: the next manifest of a collection, of which those shards are written anew that records leave or change in.

A shard never changes. One with other records is a copy, to which the ordinary call was made; new records come into new
shards, at the end. What is written before the manifest counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Progress
from ..collection.import_export import IMPORT_BATCH, Table
from ..collection.part_files import update_part, upsert_part
from ..collection.parts import key_of
from ..collection.records import format_ids
from ..collection.updating import Changes
from ..collection.validation import Id, NewRecords
from ..encoders import TextEncoder
from ..errors import CorruptCollectionError, DuplicateIdError, UnknownIdError
from ..sharded.folders import Folder
from ..sharded.writing import is_small, small_at_the_end, written
from .building import entries_of
from .manifest import CollectionManifest
from .shards import Made, OpenPart, rewrite_shard, write_shard
from .source import Block, blocks_of

__all__ = ["compacted", "with_changes", "with_records", "without"]

Held = Sequence[OpenPart]
"""All shards of the manifest, in its order."""


def without(
    folder: Folder, manifest: CollectionManifest, held: Held, gone: Callable[[OpenPart], list[Id]]
) -> tuple[CollectionManifest, int]:
    """The manifest without some records, and how many these are. A shard of which nothing is left goes.

    Args:
        gone: gone(shard), the ids of those that a shard loses
    """
    shards, count = [], 0
    for each in held:
        ids, shard = gone(each), each.shard
        count += len(ids)
        if len(ids) < shard.count:
            shards.append(_without(folder, each, ids).shard if ids else shard)
    return manifest.following(tuple(shards)), count


def _without(folder: Folder, each: OpenPart, ids: list[Id]) -> Made:
    return rewrite_shard(folder, each, lambda made: made.delete(ids))


def with_records(
    folder: Folder,
    manifest: CollectionManifest,
    held: Held,
    new: NewRecords,
    vectors: NDArray[Any],
    *,
    replaces: bool,
    progress: Progress | None,
) -> CollectionManifest:
    """The manifest with these records: in the places of those whose id exists, and the others in new shards.

    Small shards at the end go into the new ones, but for those with damaged records, which stay as they are.

    Args:
        vectors: checked, in the type that is stored
        replaces: False: DuplicateIdError for an id that exists, before anything is written
    """
    places = {id: at for at, id in enumerate(new.ids)}
    ordered = sorted(new.ids, key=key_of)
    changed: list[tuple[OpenPart, list[int]]] = []
    for each in held:
        known = each.known(ordered)
        if known and not replaces:
            raise DuplicateIdError(f"id {known[0]!r} exists already: upsert() replaces records, add() does not")
        if known:
            changed.append((each, sorted(places.pop(id) for id in known)))
    added = list(places.values())
    merged, before = _merged_with(folder, held, len(added), manifest.rows_per_shard)
    kept = held[: len(held) - len(merged)]
    changed = [(each, some) for each, some in changed if each in kept]
    total = sum(each.shard.count for each in merged) + sum(each.shard.count for each, _ in changed) + len(added)

    def write(work: tuple[OpenPart, list[int]] | Block, report: Progress | None) -> Made:
        if isinstance(work, Block):
            return _write(folder, manifest, work, report)
        each, some = work
        records = _taken(new, some)
        return rewrite_shard(folder, each, lambda made: upsert_part(made, records, vectors[some], report))

    def tables() -> Iterator[Table]:
        replaced = {id: at for at, id in enumerate(new.ids) if id not in places}
        for table in before:
            yield _with_replaced(table, replaced, new, vectors)
        if added:
            yield _table(sum(each.shard.count for each in merged), _taken(new, added), vectors[added])

    def works() -> Generator[tuple[OpenPart, list[int]] | Block, None, None]:
        yield from changed
        with closing(blocks_of(tables, manifest.rows_per_shard)) as blocks:
            yield from blocks

    return _following(manifest, kept, [each for each, _ in changed], written(works(), write, lambda: total, progress))


def _merged_with(folder: Folder, held: Held, added: int, rows_per_shard: int) -> tuple[Held, list[Table]]:
    """The shards at the end that go into one with so many records that are added, and their records."""
    merged = held[len(held) - small_at_the_end([each.shard.count for each in held], added, rows_per_shard) :]
    try:
        return merged, list(_tables(folder, merged))
    except CorruptCollectionError:
        return (), []


def _with_replaced(table: Table, replaced: Mapping[Id, int], new: NewRecords, vectors: NDArray[Any]) -> Table:
    """The table with new records, at these places among them, in the places of those of their ids."""
    ids = enumerate(table.ids)
    places = {at: place for at, id in ids if id is not None and (place := replaced.get(id)) is not None}
    if not places:
        return table
    rows, metadata, documents = np.array(table.vectors), list(table.metadata), list(table.documents)
    for at, place in places.items():
        rows[at], metadata[at], documents[at] = vectors[place], json.loads(new.metadata[place]), new.documents[place]
    return table._replace(vectors=rows, metadata=metadata, documents=documents)


def with_changes(
    folder: Folder,
    manifest: CollectionManifest,
    held: Held,
    ids: list[Id] | None,
    changes: Changes,
    *,
    meant: Callable[[OpenPart], list[Id]],
    progress: Progress | None,
) -> tuple[CollectionManifest, int]:
    """The manifest with records of which parts are changed, and how many these are.

    Args:
        ids: whose positions those of the changes are: UnknownIdError where one does not exist, before anything is
            written. None: the changes are the same for all
        meant: meant(shard), the ids of those in it that change
    """
    changed = [(each, some) for each in held if (some := meant(each))]
    places = {} if ids is None else {id: at for at, id in enumerate(ids)}
    unknown = places.keys() - {id for _, some in changed for id in some}
    if unknown:
        raise UnknownIdError(f"no record has the {format_ids(sorted(unknown, key=places.__getitem__))}")

    def write(work: tuple[OpenPart, list[Id]], report: Progress | None) -> Made:
        each, some = work
        part = changes.taken([places[id] for id in some]) if places else changes
        return rewrite_shard(folder, each, lambda made: update_part(made, some, part, report))

    total = sum(each.shard.count for each, _ in changed)
    made = written((work for work in changed), write, lambda: total, progress)
    return _following(manifest, held, [each for each, _ in changed], made), sum(len(some) for _, some in changed)


def _following(
    manifest: CollectionManifest, held: Held, changed: Sequence[OpenPart], made: Sequence[Made]
) -> CollectionManifest:
    """The manifest with shards in the place of those that changed, and with new ones, which were made after them."""
    entries = entries_of(made, manifest.settings)
    replaced = {each.shard.file: entry for each, entry in zip(changed, entries, strict=False)}
    old = [replaced.get(each.shard.file, each.shard) for each in held]
    return manifest.following((*old, *entries[len(changed) :]))


def _taken(new: NewRecords, places: list[int]) -> NewRecords:
    """Those at these places."""
    return NewRecords(
        [new.ids[at] for at in places], [new.metadata[at] for at in places], [new.documents[at] for at in places]
    )


def _table(start: int, new: NewRecords, vectors: NDArray[Any]) -> Table:
    """As of an import."""
    return Table(start, list(new.ids), vectors, [json.loads(fields) for fields in new.metadata], new.documents)


def _write(folder: Folder, manifest: CollectionManifest, block: Block, report: Progress | None) -> Made:
    """The shard of records that have their vectors."""
    settings: dict[str, Any] = manifest.settings.parameters()
    name = manifest.settings.encoder
    return write_shard(folder, block, settings, None if name is None else TextEncoder(name, _no_encoder), report)


def _no_encoder(texts: list[str]) -> Any:
    raise AssertionError("records have their vectors")


# ---- compaction ----------------------------------------------------------------------------------------------------


def compacted(
    folder: Folder, manifest: CollectionManifest, held: Held, progress: Progress | None
) -> CollectionManifest | None:
    """The manifest with the shards written anew that were changed, or are small and beside another one of these.

    Records stay in their order. None: there are no such shards.
    """
    runs = [*_runs(held, manifest.rows_per_shard)]
    total = sum(each.shard.count for run, anew in runs if anew for each in run)
    if not total:
        return None
    places: list[int] = []
    """The run that each new shard is of."""

    def blocks() -> Generator[Block, None, None]:
        for at, (run, anew) in enumerate(runs):
            if anew:
                with closing(blocks_of(partial(_tables, folder, run), manifest.rows_per_shard)) as some:
                    for block in some:
                        places.append(at)
                        yield block

    made = written(blocks(), partial(_write, folder, manifest), lambda: total, progress)
    new = [*zip(places, entries_of(made, manifest.settings), strict=True)]
    shards = [
        shard
        for at, (run, anew) in enumerate(runs)
        for shard in ([shard for place, shard in new if place == at] if anew else [each.shard for each in run])
    ]
    return manifest.following(tuple(shards))


def _runs(held: Held, rows_per_shard: int) -> Iterator[tuple[list[OpenPart], bool]]:
    """Neighbors, and whether they are to be written anew."""

    def may_be_merged(each: OpenPart) -> bool:
        return each.shard.is_changed or is_small(each.shard.count, rows_per_shard)

    for merged, run in groupby(held, may_be_merged):
        shards = list(run)
        yield shards, merged and (len(shards) > 1 or shards[0].shard.is_changed)


def _tables(folder: Folder, run: Sequence[OpenPart]) -> Iterator[Table]:
    """The records of these shards. CorruptCollectionError where some are damaged: nothing is lost by a compaction."""
    start = 0
    for each in run:
        before = start
        each.verify(folder.where(each.shard.file))
        for page in each.part.collection.pages(IMPORT_BATCH):
            ids, vectors, metadata, documents = zip(
                *((record.id, record.vector, record.metadata, record.document) for record in page), strict=True
            )
            yield Table(start, list(ids), np.stack(vectors), list(metadata), list(documents))
            start += len(page)
        if start - before != each.shard.count:
            where, count = folder.where(each.shard.file), each.shard.count - start + before
            raise CorruptCollectionError(f"{where}: {count:,} damaged records, which check() names; see edgevec.open()")
