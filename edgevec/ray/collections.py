"""A build of a collection, each shard of which is made by a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._types import Metric, PathLike, Progress, Quantization
from .._validation import as_int
from ..collection.import_export import IMPORT_BATCH, Columns, Table, tables
from ..collection.schema import Dtype
from ..sharded.folders import open_folder
from ..sharded_collection import CollectionManifest
from ..sharded_collection.building import columns_of, commit_build, previous_build
from ..sharded_collection.collection import folder_of, parameters_of
from ..sharded_collection.shards import Made, write_shard
from ..sharded_collection.source import Block, Source, blocks_of, no_records
from .library import import_ray
from .tasks import Tasks

__all__ = ["build_collection"]

_MOST_ROWS = 2**32 - 1


def build_collection(
    source: Any,
    out: PathLike,
    *,
    rows_per_shard: int = 250_000,
    id: str | None = None,
    vector: str | None = None,
    document: str | None = None,
    skip: Sequence[str] = (),
    metric: Metric = "cosine",
    quantization: Quantization = "sq8",
    M: int = 16,
    ef_construction: int = 200,
    dtype: Dtype = "float32",
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> CollectionManifest:
    """Build a sharded collection, each shard by a task of its own, and commit it once.

    The calling process reads the source, a shard at a time, and hands the records to the tasks; no more than
    `concurrency` shards are under way. A task whose worker is killed is run again by Ray (`max_retries`). What is at
    the address is replaced when all shards are done; a run that failed is taken up by the next one, as by
    ShardedCollection.build(). Records have their vectors: `map_batches` makes those of texts on all nodes.

    Args:
        source: a Ray Dataset, or what ShardedCollection.build() takes
        out: a folder that all nodes share, or an address of an object store
        rows_per_shard, id, vector, document, skip: as of ShardedCollection.build()
        metric, quantization, M, ef_construction, dtype: as of ShardedCollection.build()
        concurrency: shards that are built at a time; None: one per core of the cluster
        ray_remote_args: of the tasks; each takes all cores of its node to link its graph, whatever `num_cpus` says
        storage_options, progress: as of ShardedCollection.build()

    Returns:
        What was committed.

    Raises:
        EdgevecError: as ShardedCollection.build()
        StorageError: tasks were lost more often than they are run again
    """
    import_ray()
    rows_per_shard = as_int(rows_per_shard, "rows_per_shard", 1, _MOST_ROWS)
    if concurrency is not None:
        concurrency = as_int(concurrency, "concurrency", 1)
    columns, settings = (
        columns_of(id, vector, document, skip),
        parameters_of(metric, quantization, M, ef_construction, dtype),
    )
    read = _OfDataset(source, columns) if hasattr(source, "iter_batches") else Source(source, columns, encodes=False)
    folder = folder_of(out, storage_options, create=True)
    tasks = Tasks(_build_part, ray_remote_args, concurrency)

    def arguments(block: Block) -> tuple[Any, ...]:
        settings.setdefault("dim", block.dim)
        return folder.address, dict(storage_options or {}), dict(settings), block

    with folder.writing():
        previous = previous_build(folder)
        blocks = blocks_of(read.tables, rows_per_shard)
        made: list[Made] = tasks.run(blocks, arguments, lambda: read.total, progress)
        if not made:
            raise no_records(source)
        return commit_build(folder, rows_per_shard, made, previous)


def _build_part(address: str, options: dict[str, Any], settings: dict[str, Any], block: Block) -> Made:
    """In a worker."""
    return write_shard(open_folder(address, options, create=True), block, settings)


class _OfDataset:
    """Tables of a Ray Dataset.

    Attributes:
        total: rows that were read
    """

    def __init__(self, dataset: Any, columns: Columns) -> None:
        self._dataset, self._columns = dataset, columns
        self.total = 0

    def tables(self) -> Iterator[Table]:
        for batch in self._dataset.iter_batches(batch_size=IMPORT_BATCH, batch_format="pyarrow"):
            before = self.total
            for table in tables(batch, self._columns, None):
                self.total += len(table.ids)
                yield table._replace(start=before + table.start)
