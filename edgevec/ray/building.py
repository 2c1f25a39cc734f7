"""A build, each shard of which is made by a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import KeepVectors, Metric, PathLike, Progress, Quantization
from .._validation import as_ids, as_int
from ..errors import CancelledError, EdgevecError, ParameterError, StorageError
from ..progress import says_stop
from ..sharded import Manifest, Settings, Shard
from ..sharded.folders import open_folder
from ..sharded.index import settings_of
from ..sharded.shards import Block, write_shard
from ..sharded.source import Piece, Source, open_source
from ..sharded.writing import blocks_to_build, commit_build, previous_build
from .data import vectors_of
from .library import import_ray, running_ray

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
    ray = import_ray()
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
    remote = {"num_cpus": 1, **(ray_remote_args or {})}
    threads = max(1, int(remote["num_cpus"] or 1))
    task = ray.remote(_build_shard).options(**remote)
    shards: dict[int, Shard] = {}
    with folder.writing():
        previous = previous_build(folder)
        running: dict[Any, int] = {}
        options: dict[str, Any] = {"cluster": cluster, "progress": progress}
        blocks = blocks_to_build(folder, opened, settings, rows_per_shard, **options)
        try:
            most = concurrency or max(1, int(running_ray().cluster_resources().get("CPU", 1)) // threads)
            for number, block in enumerate(blocks):
                while len(running) >= most:
                    _collect(ray, running, shards, progress, opened)
                arguments = folder.address, dict(storage_options or {}), settings, threads, block.start
                running[task.remote(*arguments, block.rows.copy(), block.ids.copy(), cluster)] = number
            while running:
                _collect(ray, running, shards, progress, opened)
        except BaseException:
            for reference in running:
                with suppress(Exception):
                    ray.cancel(reference)
            raise
        finally:
            blocks.close()
        made = [shards[number] for number in sorted(shards)]
        return commit_build(folder, settings, rows_per_shard, made, previous, cluster=cluster)


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


def _collect(
    ray: Any, running: dict[Any, int], shards: dict[int, Shard], progress: Progress | None, source: Source
) -> None:
    """Wait for one more shard."""
    [reference], _ = ray.wait(list(running), num_returns=1)
    number = running.pop(reference)
    shards[number] = _result(ray, reference)
    done = sum(shard.count for shard in shards.values())
    if progress is not None and says_stop(progress(done, max(source.total, done))):
        raise CancelledError("stopped by its progress function")


def _result(ray: Any, reference: Any) -> Any:
    """What a task returns or raises; StorageError where it was lost."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgevecError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise StorageError(f"a task was lost: {' '.join(str(error).split())}") from error


def _of_dataset(dataset: Any, column: str | None) -> Iterator[Piece]:
    for batch in dataset.iter_batches(batch_size=_ROWS_AT_ONCE, batch_format="numpy"):
        names = [name for name in _IDS if name in batch and batch[name].dtype.kind in "iu"]
        ids = as_ids(batch[names[0]], "ids", to_keep=True) if names else None
        yield Piece(vectors_of(batch, column), ids)
