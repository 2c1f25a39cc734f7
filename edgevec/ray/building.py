"""A build, each shard of which is made by a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import KeepVectors, Metric, PathLike, Progress, Quantization
from .._validation import as_ids, as_int
from ..errors import ParameterError
from ..sharded import Manifest, Settings, Shard
from ..sharded.folders import open_folder
from ..sharded.index import settings_of
from ..sharded.shards import Block, write_shard
from ..sharded.source import Piece, Source, open_source
from ..sharded.writing import blocks_to_build, commit_build, previous_build
from .data import vectors_of
from .library import import_ray
from .tasks import Tasks

__all__ = ["build"]

_IDS = ("id", "ids")
_ROWS_AT_ONCE = 16384
_MOST_ROWS = 2**32


def build(
    source: Any,
    out: PathLike,
    *,
    ids: npt.ArrayLike | None = None,
    column: str | None = None,
    limit: int | None = None,
    rows_per_shard: int = 250_000,
    cluster: bool = False,
    metric: Metric | None = None,
    quantization: Quantization = "sq8",
    M: int = 16,
    ef_construction: int = 200,
    seed: int = 0,
    keep_vectors: KeepVectors = True,
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Build a sharded index, each shard by a task of its own, and commit it once.

    The calling process reads the source, a shard at a time, and hands the rows to the tasks; no more than `concurrency`
    shards are under way. With `cluster` its disk holds all rows first, as by ShardedIndex.build(). A task whose worker
    is killed is run again by Ray (`max_retries`). What is at the address is replaced when all shards are done; a run
    that failed is taken up by the next one, as by ShardedIndex.build().

    Args:
        source: as of ShardedIndex.build(), or a Ray Dataset, whose vectors are in `column` and whose ids, if it has
            any, are in "id" or "ids"
        out: a folder that all nodes share, or an address of an object store
        concurrency: shards that are built at a time; None: one per core of the cluster
        ray_remote_args: of the tasks; with `num_cpus` each builds with so many threads, 1 by default
        ids, column, limit, rows_per_shard, cluster: as of ShardedIndex.build()
        metric, quantization, M, ef_construction, seed, keep_vectors: as of ShardedIndex.build()
        storage_options, progress: as of ShardedIndex.build()

    Returns:
        What was committed.

    Raises:
        EdgevecError: as ShardedIndex.build()
        StorageError: tasks were lost more often than they are run again
    """
    import_ray()
    rows_per_shard = as_int(rows_per_shard, "rows_per_shard", 1, _MOST_ROWS)
    if concurrency is not None:
        concurrency = as_int(concurrency, "concurrency", 1)
    if hasattr(source, "iter_batches"):
        if ids is not None or limit is not None:
            raise ParameterError("ids and limit are not for a Ray Dataset, which has a column of ids and .limit()")
        opened = Source(_of_dataset(source, column), "the dataset")
    else:
        opened = open_source(source, ids, column=column, limit=limit)
    settings = settings_of(
        opened.dim, metric or opened.metric or "cosine", quantization, M, ef_construction, seed, keep_vectors
    )
    folder, cluster = open_folder(out, storage_options, create=True), bool(cluster)
    tasks = Tasks(_build_shard, ray_remote_args, concurrency)

    def arguments(block: Block) -> tuple[Any, ...]:
        where = folder.address, dict(storage_options or {}), settings, tasks.threads
        return *where, block.start, block.rows.copy(), block.ids.copy(), cluster

    with folder.writing():
        previous = previous_build(folder)
        options: dict[str, Any] = {"cluster": cluster, "progress": progress}
        blocks = blocks_to_build(folder, opened, settings, rows_per_shard, **options)
        shards: list[Shard] = tasks.run(blocks, arguments, lambda: opened.total, progress)
        return commit_build(folder, settings, rows_per_shard, shards, previous, cluster=cluster)


def _build_shard(
    address: str,
    options: dict[str, Any],
    settings: Settings,
    threads: int,
    start: int,
    rows: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int64],
    cluster: bool,
) -> Shard:
    """In a worker."""
    folder = open_folder(address, options, create=True)
    return write_shard(folder, Block(rows, ids, start), settings, cluster=cluster, threads=threads)


def _of_dataset(dataset: Any, column: str | None) -> Iterator[Piece]:
    for batch in dataset.iter_batches(batch_size=_ROWS_AT_ONCE, batch_format="numpy"):
        names = [name for name in _IDS if name in batch and batch[name].dtype.kind in "iu"]
        ids = as_ids(batch[names[0]], "ids", to_keep=True) if names else None
        yield Piece(vectors_of(batch, column), ids)
