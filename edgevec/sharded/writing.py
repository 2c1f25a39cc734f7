"""The next manifest: of a build, an addition, a removal, a compaction. What is written before it counts for nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .._types import PathLike, Progress
from ..errors import (
    CancelledError,
    CorruptIndexError,
    DataNotFoundError,
    DuplicateIdError,
    IndexNotFoundError,
    OutOfMemoryError,
    about_file,
)
from ..index import Index
from ..progress import says_stop
from .folders import Folder, open_folder
from .manifest import MANIFEST, Manifest, Parsed, Removed, Settings, Shard, kind_of_manifest, live
from .placing import clustered_blocks
from .shards import Block, OpenShard, held_ids, open_shard, write_shard
from .source import Piece, Source, blocks_of

__all__ = [
    "CountableT",
    "added",
    "any_previous_build",
    "blocks_to_build",
    "build",
    "commit",
    "commit_alone",
    "commit_build",
    "compacted",
    "is_small",
    "kind_of_shards",
    "overlapping",
    "read_any_manifest",
    "read_manifest",
    "remove_old",
    "removed_from",
    "small_at_the_end",
    "written",
]

BlockT = TypeVar("BlockT")
_SMALL = 2
"""A shard that has less than one in so many of the rows of a full one is merged with others."""


def read_manifest(folder: Folder) -> Manifest:
    """That of a folder; IndexNotFoundError where there is none."""
    return read_any_manifest(folder, Manifest.parse)


def kind_of_shards(
    address: PathLike, storage_options: Mapping[str, Any] | None = None
) -> Literal["index", "collection"]:
    """What the manifest at an address lists, before it is opened.

    Args:
        address, storage_options: as of ShardedIndex.open()

    Raises:
        IndexNotFoundError: there is no manifest (a FileNotFoundError)
        CorruptIndexError: there is another kind of file

    Example:
        >>> import numpy as np
        >>> from edgevec import ShardedIndex
        >>> from edgevec.sharded import kind_of_shards
        >>> ShardedIndex.build(np.eye(3), "corners").close()
        >>> kind_of_shards("corners")
        'index'
    """
    return read_any_manifest(open_folder(address, storage_options), kind_of_manifest)


def read_any_manifest(folder: Folder, parse: Callable[[bytes, str], Parsed]) -> Parsed:
    """As read_manifest(), by parse(content, where)."""
    where = folder.where(MANIFEST)
    try:
        content = folder.read(MANIFEST)
    except DataNotFoundError as error:
        raise about_file(IndexNotFoundError(f"{where}: no such manifest of shards"), where, error.errno) from error
    return parse(content, where)


class Writable(Protocol):
    """A manifest of any kind."""

    def to_json(self) -> bytes: ...

    def files(self) -> set[str]: ...


def commit(folder: Folder, manifest: Writable) -> None:
    """From here on it counts."""
    folder.write(MANIFEST, manifest.to_json())


def commit_alone(folder: Folder, manifest: Writable) -> None:
    """From here on it counts, and no other file does."""
    commit(folder, manifest)
    remove_old(folder, manifest)


def remove_old(folder: Folder, manifest: Writable) -> None:
    """Remove what does not count: elsewhere than here another build may be under way, and no lock would say so."""
    if folder.is_local:
        folder.remove_all_but(manifest.files())


# ---- build ---------------------------------------------------------------------------------------------------------


def build(
    folder: Folder,
    source: Source,
    settings: Settings,
    rows_per_shard: int,
    *,
    cluster: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Build from all rows of a source; what is at the folder is replaced at the end."""
    with folder.writing():
        previous = previous_build(folder)
        options: dict[str, Any] = {"cluster": cluster, "progress": progress}
        blocks = blocks_to_build(folder, source, settings, rows_per_shard, **options)

        def write(block: Block, report: Progress | None) -> Shard:
            return write_shard(folder, block, settings, cluster=cluster, threads=threads, progress=report)

        shards = written(blocks, write, lambda: source.total, progress)
        return commit_build(folder, settings, rows_per_shard, shards, previous, cluster=cluster)


class Countable(Protocol):
    @property
    def count(self) -> int: ...


CountableT = TypeVar("CountableT", bound=Countable)


def written(
    blocks: Generator[BlockT, None, None],
    write: Callable[[BlockT, Progress | None], CountableT],
    total: Callable[[], int],
    progress: Progress | None,
) -> list[CountableT]:
    """The shards of blocks, one after the other; the blocks are closed.

    Args:
        write: write(block, progress), which writes the shard of one
        total: total(), the rows of all, as far as is known
    """
    shards: list[CountableT] = []
    done = 0
    with closing(blocks):
        for block in blocks:
            report = _within(progress, done, total())
            shards.append(write(block, report))
            done += shards[-1].count
            if report is not None and says_stop(report(shards[-1].count, 0)):
                raise CancelledError("stopped by its progress function")
    return shards


def blocks_to_build(
    folder: Folder,
    source: Source,
    settings: Settings,
    rows_per_shard: int,
    *,
    cluster: bool,
    progress: Progress | None,
) -> Generator[Block, None, None]:
    """The rows of each shard; to be closed. With `cluster` progress is told, while all are read, that none is done."""

    def beat() -> None:
        if progress is not None and says_stop(progress(0, source.total)):
            raise CancelledError("stopped by its progress function")

    return _blocks(folder, source.pieces(), settings, rows_per_shard, cluster, beat)


def _blocks(
    folder: Folder,
    pieces: Iterable[Piece],
    settings: Settings,
    rows_per_shard: int,
    cluster: bool,
    beat: Callable[[], None] | None = None,
) -> Generator[Block, None, None]:
    if cluster:
        return clustered_blocks(folder, pieces, settings, rows_per_shard, beat)
    return blocks_of(pieces, settings.dim, rows_per_shard)


def _within(progress: Progress | None, done: int, total: int) -> Progress | None:
    """Progress of the whole, told of that in one block. total: it may be an estimate."""
    if progress is None:
        return None
    return lambda some, of: progress(done + some, max(total, done + some))


def previous_build(folder: Folder) -> Manifest | None:
    """What a build is about to replace. CorruptIndexError where that is no manifest: it stays."""
    return any_previous_build(folder, Manifest.parse)


def any_previous_build(folder: Folder, parse: Callable[[bytes, str], Parsed]) -> Parsed | None:
    """As previous_build(), by parse(content, where)."""
    try:
        return read_any_manifest(folder, parse)
    except IndexNotFoundError:
        return None


def commit_build(
    folder: Folder,
    settings: Settings,
    rows_per_shard: int,
    shards: Sequence[Shard],
    previous: Manifest | None,
    *,
    cluster: bool,
) -> Manifest:
    """Write the manifest of a build. DuplicateIdError where an id is in two shards."""
    if not cluster:  # what made the blocks has seen all ids, and ranges of ids say nothing
        _refuse_repeated(folder, settings, shards)
    next_id = max([0, *(shard.last_id + 1 for shard in shards)])
    generation = previous.generation + 1 if previous else 1
    manifest = Manifest(settings, rows_per_shard, next_id, tuple(shards), generation, cluster)
    commit_alone(folder, manifest)
    return manifest


def _refuse_repeated(folder: Folder, settings: Settings, shards: Sequence[Shard]) -> None:
    """Raise DuplicateIdError for an id that is in two shards. Those whose ranges of ids are apart are not read."""

    def ids_of(shard: Shard) -> npt.NDArray[np.int64]:
        with folder.scratch() as copies:
            opened = open_shard(folder, shard, settings, Path(copies), mmap=False, verify=False)
            with opened.index:
                return held_ids(opened.index)

    for group in overlapping(shards):
        _refuse_twice_in([(shard, ids_of(shard)) for shard in group])


def _twice(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those that are there more than once, ascending."""
    ordered = np.sort(ids)
    twice: npt.NDArray[np.int64] = ordered[1:][ordered[1:] == ordered[:-1]]
    return twice


def _refuse_twice_in(held: Sequence[tuple[Shard, npt.NDArray[np.int64]]]) -> None:
    """DuplicateIdError for an id that two of these hold."""
    twice = _twice(np.concatenate([ids for _, ids in held]))
    if len(twice):
        files = [shard.file for shard, ids in held if (ids == twice[0]).any()]
        raise DuplicateIdError(f"id {twice[0]} is in two shards, {' and '.join(files[:2]) or 'of one file'}")


class Ranged(Protocol):
    @property
    def first_id(self) -> Any: ...

    @property
    def last_id(self) -> Any: ...


RangedT = TypeVar("RangedT", bound=Ranged)


def overlapping(shards: Sequence[RangedT]) -> Iterator[list[RangedT]]:
    """Groups of two or more, in each of which the ranges of ids hang together."""
    group: list[RangedT] = []
    last: Any = None
    for shard in sorted(shards, key=lambda each: each.first_id):
        if group and shard.first_id <= last:
            group.append(shard)
            last = max(last, shard.last_id)
            continue
        if len(group) > 1:
            yield group
        group, last = [shard], shard.last_id
    if len(group) > 1:
        yield group


def refuse_repeated_open(
    new: Sequence[OpenShard],
    held: Sequence[OpenShard],
    removed: Mapping[str, npt.NDArray[np.int64]],
    where: str,
) -> None:
    """CorruptIndexError for an id that one of the new shards holds, and another of those that are held.

    Args:
        removed: the ids that the shards of these files are about to lose
        where: the manifest, for the message
    """
    try:
        if len(new) == len(held):
            by_file = {each.shard.file: each for each in held}
            for group in overlapping([each.shard for each in held]):
                _refuse_twice_in([(shard, held_ids(by_file[shard.file].index)) for shard in group])
            return
        for one in new:
            ids = held_ids(one.index)
            for other in held:
                if other is not one:
                    both = ids[other.held(ids)]
                    both = both[~np.isin(both, removed.get(other.shard.file, ()))]
                    _refuse_twice_in([(one.shard, both), (other.shard, both)])
    except DuplicateIdError as error:
        raise CorruptIndexError(f"{where}: damaged: {error}") from None


# ---- changes -------------------------------------------------------------------------------------------------------


def added(
    folder: Folder,
    manifest: Manifest,
    held: Sequence[OpenShard],
    rows: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int64] | None,
    *,
    threads: int,
    progress: Progress | None,
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """The manifest with these rows in new shards, and their ids. Nothing is written over."""
    if ids is None:
        if manifest.next_id + len(rows) > 2**63:
            raise OutOfMemoryError(f"the index cannot hold more: no ids are left after {2**63 - 1}")
        ids = np.arange(manifest.next_id, manifest.next_id + len(rows), dtype=np.int64)
    else:
        ids = ids.copy()
        if len(twice := _twice(ids)):
            raise DuplicateIdError(f"the same id twice in one call: id {twice[0]}")
    new: list[Shard] = []
    done, most, settings, cluster = 0, manifest.rows_per_shard, manifest.settings, manifest.cluster
    merged = _merged_with(held, len(rows), manifest)
    kept = held[: len(held) - len(merged)]
    total = len(rows) + live(tuple(each.shard for each in merged))
    with closing(_with_others(folder, merged, rows, ids, settings, most, cluster)) as blocks:
        for block in blocks:
            report = _within(progress, done, total)
            new.append(write_shard(folder, block, settings, cluster=cluster, threads=threads, progress=report))
            done += len(block.ids)
    # Of the same rows as before, of which some were removed since, the file is the same: it goes, and comes anew.
    old, _ = removed_from(folder, kept, ids)
    next_id = max([manifest.next_id, *(shard.last_id + 1 for shard in new)])
    return manifest.following((*old, *new), next_id), ids


def _merged_with(held: Sequence[OpenShard], added: int, manifest: Manifest) -> Sequence[OpenShard]:
    """The shards at the end that go into one with so many rows that are added.

    None where rows are placed by clusters, where they would each time lose more of what codes keep of them, and where
    some are damaged, which stay as they are.
    """
    settings = manifest.settings
    if manifest.cluster or (settings.keep_vectors is False and settings.quantization != "none"):
        return ()
    counts = [each.shard.live for each in held]
    merged = held[len(held) - small_at_the_end(counts, added, manifest.rows_per_shard) :]
    try:
        for each in merged:
            each.verify()
    except CorruptIndexError:
        return ()
    return merged


def small_at_the_end(counts: Sequence[int], added: int, rows_per_shard: int) -> int:
    """How many of the last shards are written anew, together with so many rows that come after them.

    Those that are small, and no larger than what comes after them. So of rows that are added one by one each is written
    as many times, at most, as a small shard's rows can be halved, and there are no more small shards than that.
    """
    taken = 0
    for count in reversed(counts):
        if count > added or not is_small(count, rows_per_shard):
            break
        taken, added = taken + 1, added + count
    return taken


def _with_others(
    folder: Folder,
    merged: Sequence[OpenShard],
    rows: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int64],
    settings: Settings,
    most: int,
    cluster: bool,
) -> Generator[Block, None, None]:
    """Rows, and after them those of some shards that they do not replace: errors count rows from the first."""
    if not merged:
        yield from _of_array(folder, rows, ids, settings, most, cluster)
        return

    def pieces() -> Iterator[Piece]:
        yield Piece(rows, ids)
        for each in merged:
            for piece in _rows_of(each.index):
                assert piece.ids is not None
                stay = ~np.isin(piece.ids, ids)
                yield Piece(piece.rows[stay], piece.ids[stay])

    with closing(_blocks(folder, pieces(), settings, most, cluster)) as blocks:
        yield from blocks


def _of_array(
    folder: Folder,
    rows: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int64],
    settings: Settings,
    most: int,
    cluster: bool,
) -> Generator[Block, None, None]:
    """Without a copy, where nothing is clustered or all is one shard."""
    if cluster and len(rows) > most:
        yield from clustered_blocks(folder, [Piece(rows, ids)], settings, most)
        return
    for start in range(0, len(rows), most):
        yield Block(rows[start : start + most], ids[start : start + most], start)


def removed_from(
    folder: Folder, held: Sequence[OpenShard], ids: npt.NDArray[np.int64]
) -> tuple[tuple[Shard, ...], int]:
    """The shards without these ids, and how many of them were held. A shard of which nothing is left goes."""
    shards, count = [], 0
    for each in held:
        shard = each.shard
        gone = np.unique(ids[each.held(ids)])
        if len(gone):
            each.verify()
            count += len(gone)
            entry, content = Removed.of(np.concatenate([each.removed, gone]))
            if entry.count < shard.count:
                folder.write(entry.file, content)
            shard = replace(shard, removed=entry)
        if shard.live:
            shards.append(shard)
    return tuple(shards), count


def compacted(
    folder: Folder, manifest: Manifest, held: Sequence[OpenShard], progress: Progress | None
) -> Manifest | None:
    """The manifest with the shards written anew that hold removed vectors, or few. None: there are none such."""
    small = [each for each in held if is_small(each.shard.live, manifest.rows_per_shard)]
    chosen = [each for each in held if each.shard.removed or (each in small and len(small) > 1)]
    if not chosen:
        return None
    for each in chosen:
        each.verify()
    total = live(tuple(each.shard for each in chosen))
    new: list[Shard] = []
    done = 0
    pieces = (piece for each in chosen for piece in _rows_of(each.index))
    most, settings, cluster = min(manifest.rows_per_shard, total), manifest.settings, manifest.cluster
    with closing(_blocks(folder, pieces, settings, most, cluster)) as blocks:
        for block in blocks:
            report = _within(progress, done, total)
            new.append(write_shard(folder, block, settings, cluster=cluster, progress=report))
            done += len(block.ids)
    kept = tuple(each.shard for each in held if each not in chosen)
    return manifest.following((*kept, *new), manifest.next_id)


def is_small(count: int, rows_per_shard: int) -> bool:
    """Whether a shard of so many rows is merged with others that are."""
    return _SMALL * count < rows_per_shard


_ROWS_AT_ONCE = 16384


def _rows_of(index: Index) -> Iterator[Piece]:
    ids = held_ids(index)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        part = ids[start : start + _ROWS_AT_ONCE]
        yield Piece(index.get(part), part)
