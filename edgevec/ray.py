"""Sharded indexes on a Ray cluster: pip install 'edgevec[ray]'. Built by tasks, served by actors, asked by Ray Data."""

from __future__ import annotations

import heapq
import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgevec._types import KeepVectors, Metric, PathLike, Progress, Quantization, SearchResult, Storage
from edgevec._validation import as_ids, as_int, as_rows
from edgevec.errors import (
    BusyError,
    CancelledError,
    ClosedError,
    DataFormatError,
    DataNotFoundError,
    EdgevecError,
    MissingExtraError,
    ParameterError,
    ShardNotFoundError,
    StorageError,
)
from edgevec.progress import says_stop
from edgevec.sharded import Manifest, Missing, Settings, Shard, ShardedIndex
from edgevec.sharded.folders import open_folder
from edgevec.sharded.following import Following
from edgevec.sharded.index import settings_of
from edgevec.sharded.manifest import live
from edgevec.sharded.merging import merge
from edgevec.sharded.shards import Block, check_storage, write_shard
from edgevec.sharded.source import Piece, Source, blocks_of, open_source
from edgevec.sharded.writing import commit_build, previous_build, read_manifest

__all__ = ["Search", "Service", "build", "serve"]

_VECTORS = ("vectors", "vector", "embeddings", "embedding", "emb")
_IDS = ("id", "ids")
_ROWS_AT_ONCE = 16384
_ATTEMPTS = 4
"""How often a part of a query is asked, each time but the first of a new actor."""
_MOST_ROWS = 2**32


def _ray() -> Any:
    """The library, which nothing else imports."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError("edgevec.ray needs ray; install it with: pip install 'edgevec[ray]'") from error


# ---- build ---------------------------------------------------------------------------------------------------------


def build(
    source: Any,
    out: PathLike,
    *,
    ids: npt.ArrayLike | None = None,
    column: str | None = None,
    limit: int | None = None,
    rows_per_shard: int = 250_000,
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
    shards are under way. A task whose worker is killed is run again by Ray (`max_retries`). What is at the address
    is replaced when all shards are done; a run that failed is taken up by the next one, as by ShardedIndex.build().

    Args:
        source: as of ShardedIndex.build(), or a Ray Dataset, whose vectors are in `column` and whose ids, if it has
            any, are in "id" or "ids"
        out: a folder that all nodes share, or an address of an object store
        concurrency: shards that are built at a time; None: one per core of the cluster
        ray_remote_args: of the tasks; with `num_cpus` each builds with so many threads, 1 by default
        ids, column, limit, rows_per_shard: as of ShardedIndex.build()
        metric, quantization, M, ef_construction, seed, keep_vectors: as of ShardedIndex.build()
        storage_options, progress: as of ShardedIndex.build()

    Returns:
        What was committed.

    Raises:
        EdgevecError: as ShardedIndex.build()
        StorageError: tasks were lost more often than they are run again
    """
    ray = _ray()
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
    folder = open_folder(out, storage_options, create=True)
    remote = {"num_cpus": 1, **(ray_remote_args or {})}
    threads = max(1, int(remote["num_cpus"] or 1))
    task = ray.remote(_build_shard).options(**remote)
    shards: dict[int, Shard] = {}
    with folder.writing():
        previous = previous_build(folder)
        running: dict[Any, int] = {}
        try:
            if not ray.is_initialized():
                ray.init()
            most = concurrency or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
            for number, block in enumerate(blocks_of(opened.pieces(), settings.dim, rows_per_shard)):
                while len(running) >= most:
                    _collect(ray, running, shards, progress, opened)
                arguments = folder.address, dict(storage_options or {}), settings, threads, block.start
                running[task.remote(*arguments, block.rows.copy(), block.ids.copy())] = number
            while running:
                _collect(ray, running, shards, progress, opened)
        except BaseException:
            for reference in running:
                with suppress(Exception):
                    ray.cancel(reference)
            raise
        return commit_build(folder, settings, rows_per_shard, [shards[number] for number in sorted(shards)], previous)


def _build_shard(
    address: str,
    options: dict[str, Any],
    settings: Settings,
    threads: int,
    start: int,
    rows: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int64],
) -> Shard:
    """In a worker."""
    return write_shard(open_folder(address, options, create=True), Block(rows, ids, start), settings, threads=threads)


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
        yield Piece(_vectors(batch, column), ids)


def _vectors(batch: Mapping[str, Any], column: str | None) -> npt.NDArray[np.float32]:
    """The vectors of a batch of Ray Data: float32[n, dim]"""
    name = column or next((name for name in _VECTORS if name in batch), None)
    if name is None or name not in batch:
        raise DataFormatError(f"no column of vectors is called {name!r}; found {', '.join(batch)}; name it by column=")
    values = batch[name]
    if values.dtype == object:
        try:
            values = np.stack([np.asarray(value, np.float32) for value in values])
        except ValueError as error:
            raise DataFormatError(f"column {name}: vectors of one length are needed: {error}") from None
    if values.ndim != 2:
        raise DataFormatError(f"column {name}: expected vectors, found {values.dtype} {values.shape}")
    return as_rows(values, values.shape[1], "vectors")


# ---- serve ---------------------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    result: SearchResult
    problems: dict[str, EdgevecError]


class _Part(NamedTuple):
    """The manifest as one actor is to have it."""

    manifest: Manifest
    checksum: str

    @classmethod
    def of(cls, manifest: Manifest, files: set[str]) -> _Part:
        part = replace(manifest, shards=tuple(shard for shard in manifest.shards if shard.file in files))
        return cls(part, part.checksum())


class _Holder:
    """An actor: it has some shards open, and answers for them."""

    def __init__(
        self, address: str, manifest: Manifest, verify: bool, storage: Storage, options: dict[str, Any]
    ) -> None:
        folder = open_folder(address, options)
        how: dict[str, Any] = {"verify": verify, "storage": storage}
        self._following = Following(folder, mmap=True, missing="report", follows=False, **how)
        self._index = ShardedIndex._of(self._following)
        self.hold(manifest)

    def hold(self, manifest: Manifest) -> None:
        self._following.hold(manifest)
        self._checksum = manifest.checksum()

    def search(self, checksum: str, rows: Any, k: int, allowed: Any, options: dict[str, Any]) -> _Answer:
        if self._checksum != checksum:
            raise BusyError("the actor holds another manifest")
        return _Answer(self._index.search(rows, k, filter=allowed, **options), self._index.problems)

    def pid(self) -> int:
        return os.getpid()


class Service:
    """A sharded index that is held by actors; `serve()` makes one.

    Each replica is a group of actors that together hold all shards. A query goes to one group, once to each of its
    actors, and the answers are merged as by ShardedIndex. An actor that is lost is replaced, and its part of the query
    is asked again. Threads may share a service.

    Example:
        >>> import edgevec.ray
        >>> service = edgevec.ray.serve("items", replicas=2)  # doctest: +SKIP
        >>> service.search([[0.5, 1]], k=5)  # doctest: +SKIP
    """

    def __init__(
        self,
        manifest: PathLike,
        replicas: int,
        actors: int | None,
        missing: Missing,
        verify: bool,
        storage: Storage,
        ray_remote_args: Mapping[str, Any] | None,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        if storage not in ("memory", "disk"):
            raise ParameterError(f'storage must be "memory" or "disk", not {storage!r:.40}')
        if missing not in ("error", "report"):
            raise ParameterError(f'missing must be "error" or "report", not {missing!r:.40}')
        replicas = as_int(replicas, "replicas", 1)
        self._ray = _ray()
        if not self._ray.is_initialized():
            self._ray.init()
        self._folder = open_folder(manifest, storage_options)
        self._address = self._folder.address
        self._missing, self._verify, self._options = missing, verify, dict(storage_options or {})
        self._storage = storage
        # A lost actor is replaced here, where it is known what it is to hold.
        self._kind = self._ray.remote(_Holder).options(**{"num_cpus": 1, "max_restarts": 0, **(ray_remote_args or {})})
        self._lock = threading.RLock()
        self._manifest = read_manifest(self._folder)
        check_storage(storage, self._manifest.settings, self._address)
        self._stamp: object = None
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        count = as_int(actors, "actors", 1) if actors is not None else nodes
        self._files: list[list[str]] = [[] for _ in range(max(1, min(count, len(self._manifest.shards))))]
        self._share_out()
        self._groups = [[self._hire(part) for part in self._parts] for _ in range(replicas)]
        self._turn = 0
        self._closed = False
        self.problems: dict[str, EdgevecError] = {}
        """With missing="report": why shards were not searched by the last search."""
        self.share = 1.0
        """The share of the vectors that the last search had before it."""

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return live(self._manifest.shards)

    def close(self) -> None:
        """End the actors."""
        with self._lock:
            self._closed = True
            for actor in (actor for group in self._groups for actor in group):
                self._ray.kill(actor)
            self._groups = []

    def refresh(self) -> bool:
        """Take in another manifest, if there is one. In a local folder each search does so by itself."""
        with self._lock:
            stamp = self._seen()
            manifest = read_manifest(self._folder)
            self._stamp = stamp
            if manifest == self._manifest:
                return False
            self._manifest = manifest
            self._share_out()
            return True

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        ef: int | None = None,
        filter: npt.ArrayLike | None = None,
        exact: bool = False,
        recall: float | None = None,
    ) -> SearchResult:
        """As ShardedIndex.search(); `filter` is an array of ids.

        Raises:
            EdgevecError: as ShardedIndex.search(); and what is wrong with a shard
            StorageError: an actor was lost again and again
        """
        k = as_int(k, "k", 1)
        allowed = None if filter is None else as_ids(filter, "filter ids")
        for _ in range(_ATTEMPTS):
            manifest, answers, problems = self._asked(queries, k, allowed, {"ef": ef, "exact": exact, "recall": recall})
            # A compaction may have removed a shard since its manifest was read.
            if not any(isinstance(error, ShardNotFoundError) for error in problems.values()) or not self.refresh():
                break
        if self._missing == "error":
            for problem in problems.values():
                raise problem
        lost = sum(shard.live for shard in manifest.shards if shard.file in problems)
        every = live(manifest.shards)
        self.problems, self.share = problems, 1 - lost / every if every else 1.0
        if not answers:
            raise next(iter(problems.values()))
        return merge(answers, k)

    def _asked(
        self, queries: Any, k: int, allowed: npt.NDArray[np.int64] | None, options: dict[str, Any]
    ) -> tuple[Manifest, list[SearchResult], dict[str, EdgevecError]]:
        """The answers of the actors of a group, and by file what is wrong with shards."""
        with self._lock:
            self._check_open()
            if self._folder.is_local and self._stamp != self._seen():
                self.refresh()
            manifest, parts, self._turn = self._manifest, self._parts, self._turn + 1
            group = self._turn % len(self._groups)
        rows = as_rows(queries, manifest.settings.dim, "queries")
        sent = self._ray.put(rows), k, self._ray.put(allowed), options
        asked = [self._ask(group, number, part, sent) for number, part in enumerate(parts)]
        answers: list[SearchResult] = []
        problems: dict[str, EdgevecError] = {}
        for number, (part, question) in enumerate(zip(parts, asked, strict=True)):
            try:
                answer = self._answer(group, number, part, question, sent)
            except StorageError as error:
                if self._missing == "error":
                    raise
                problems.update({shard.file: error for shard in part.manifest.shards})
                continue
            answers.append(answer.result)
            problems.update(answer.problems)
        return manifest, answers, problems

    def _seen(self) -> object:
        try:
            return self._folder.stamp()
        except DataNotFoundError:
            return None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the service was closed")

    def _ask(self, group: int, number: int, part: _Part, sent: tuple[Any, ...]) -> tuple[Any, Any]:
        with self._lock:
            self._check_open()
            actor = self._groups[group][number]
        return actor, actor.search.remote(part.checksum, *sent)

    def _answer(
        self, group: int, number: int, part: _Part, question: tuple[Any, Any], sent: tuple[Any, ...]
    ) -> _Answer:
        """Of one actor, or of those that take its place."""
        actor, reference = question
        ray = self._ray
        lost: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                found: _Answer = ray.get(reference)
                return found
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, BusyError):  # another manifest came
                    lost = error
                    actor.hold.remote(part.manifest)
                elif isinstance(error.cause, EdgevecError):
                    raise error.cause from None
                else:
                    raise
            except ray.exceptions.RayError as error:
                lost = error
                self._replace(group, number, actor, part)
            actor, reference = self._ask(group, number, part, sent)
        reason = " ".join(str(lost).split())[:300]
        raise StorageError(f"{self._address}: no actor answers for {len(part.manifest.shards)} shards: {reason}")

    def _replace(self, group: int, number: int, actor: Any, part: _Part) -> None:
        with self._lock:
            if not self._closed and self._groups[group][number] is actor:  # no other thread has done so
                self._groups[group][number] = self._hire(part)

    def _hire(self, part: _Part) -> Any:
        return self._kind.remote(self._address, part.manifest, self._verify, self._storage, self._options)

    def _share_out(self) -> None:
        """Leave shards where they are, and give new ones to those who have least."""
        manifest = self._manifest
        sizes = {shard.file: shard.bytes for shard in manifest.shards}
        self._files = [[file for file in part if file in sizes] for part in self._files]
        given = {file for part in self._files for file in part}
        least = [(sum(sizes[file] for file in part), number) for number, part in enumerate(self._files)]
        heapq.heapify(least)
        for file in sorted(sizes.keys() - given, key=lambda file: (-sizes[file], file)):
            size, number = least[0]
            self._files[number].append(file)
            heapq.heapreplace(least, (size + sizes[file], number))
        self._parts = [_Part.of(manifest, set(part)) for part in self._files]


def serve(
    manifest: PathLike,
    *,
    replicas: int = 1,
    actors: int | None = None,
    missing: Missing = "error",
    verify: bool = True,
    storage: Storage = "memory",
    ray_remote_args: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Service:
    """Hold the shards of an index in actors.

    Args:
        manifest: a folder that all nodes share, or an address that fsspec knows
        replicas: groups of actors, each of which holds all shards
        actors: in a group; None: one per node. Shards are shared out by size.
        missing: "report": search without shards that cannot be had; `share` and `problems` of the service say so
        verify: compare the checksums of all files when actors open them
        storage: "disk": actors hold links and codes, and read vectors; as of ShardedIndex.open()
        ray_remote_args: of the actors, such as `num_cpus` (1 by default) or `scheduling_strategy`
        storage_options: for fsspec

    Raises:
        EdgevecError: as ShardedIndex.open()
    """
    return Service(manifest, replicas, actors, missing, verify, storage, ray_remote_args, storage_options)


# ---- Ray Data ------------------------------------------------------------------------------------------------------


class Search:
    """Searches an index for each row of a batch: `ds.map_batches(edgevec.ray.Search("items", k=10), concurrency=4)`.

    Rows get the columns `ids` and `distances`, the k nearest of each. A worker opens the index once, mapped.

    Args:
        manifest: as of ShardedIndex.open()
        k: neighbors wanted
        column: with the vectors; None: the one called "vector", "embedding" or the like
        ef, recall, exact: as of ShardedIndex.search()
        storage_options: for fsspec

    Example:
        >>> import numpy as np
        >>> from edgevec import ShardedIndex
        >>> from edgevec.ray import Search
        >>> ShardedIndex.build(np.eye(3), "corners").close()
        >>> Search("corners", k=1)({"vector": np.eye(3, dtype=np.float32)[1:]})["ids"].tolist()
        [[1], [2]]
    """

    def __init__(
        self,
        manifest: PathLike,
        k: int = 10,
        *,
        column: str | None = None,
        ef: int | None = None,
        recall: float | None = None,
        exact: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._address = open_folder(manifest, storage_options).address
        self._k, self._column = as_int(k, "k", 1), column
        self._options = {"ef": ef, "recall": recall, "exact": exact}
        self._storage = dict(storage_options or {})

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        index = _opened(self._address, self._storage)
        found = index.search(_vectors(batch, self._column), self._k, **self._options)  # type: ignore[arg-type]
        return {**batch, "ids": found.ids, "distances": found.distances}


_guard = threading.Lock()
_indexes: dict[tuple[int, str, str], ShardedIndex] = {}
"""Of this process: workers of Ray Data get a new Search with each batch."""


def _opened(address: str, options: dict[str, Any]) -> ShardedIndex:
    with _guard:
        key = os.getpid(), address, repr(sorted(options.items()))
        if key not in _indexes:
            _indexes[key] = ShardedIndex.open(address, storage_options=options)
        return _indexes[key]
