"""Actors that hold shards, and a service that asks them."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import PathLike, SearchResult, Storage
from .._validation import as_ids, as_int, as_rows, as_storage
from ..errors import (
    BusyError,
    CorruptIndexError,
    DataNotFoundError,
    EdgevecError,
    NotFiniteError,
    ParameterError,
    ShardNotFoundError,
    StorageError,
    ZeroVectorError,
)
from ..sharded import Manifest, Missing, ShardedIndex
from ..sharded.folders import open_folder
from ..sharded.following import Following, as_missing
from ..sharded.manifest import live
from ..sharded.routing import Router, need_router, read_centroids
from ..sharded.shards import check_storage
from ..sharded.writing import read_manifest
from .asking import Answer, Part, Replicas, ServiceStats
from .gathering import Gathered
from .hedging import Delays
from .library import running_ray

__all__ = ["Service", "serve"]


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

    def search(
        self,
        checksum: str,
        manifest: Manifest | None,
        rows: Any,
        asked: npt.NDArray[np.bool_] | None,
        k: int,
        allowed: Any,
        options: dict[str, Any],
    ) -> Answer:
        """By the manifest of this checksum, which is given where the actor is known to hold another one."""
        if self._checksum != checksum:
            if manifest is None:
                raise BusyError("the actor holds another manifest")
            self.hold(manifest)
        found = self._index._search(rows, k, filter=allowed, asked=asked, **options)
        return Answer(found, self._index.problems)

    def pid(self) -> int:
        return os.getpid()


class Service:
    """A sharded index that is held by actors; `serve()` makes one.

    Each replica is a group of actors that together hold all shards. A query goes to one replica, once to each of its
    actors, and the answers are merged as by ShardedIndex. Who is late is helped by another replica; see `hedge` of
    serve(). An actor that is lost is replaced, and its part of the query is asked again. Threads may share a service.

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
        hedge: float | None,
        timeout: float | None,
        missing: Missing,
        verify: bool,
        storage: Storage,
        ray_remote_args: Mapping[str, Any] | None,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        self._storage = as_storage(storage)
        missing = as_missing(missing)
        replicas = as_int(replicas, "replicas", 1)
        if hedge is not None:
            hedge = _as_share(hedge)
        if timeout is not None:
            timeout = _as_seconds(timeout)
        self._ray = running_ray()
        self._folder = open_folder(manifest, storage_options)
        self._address = self._folder.address
        self._missing, self._verify, self._options = missing, verify, dict(storage_options or {})
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
        self._centroids: dict[str, npt.NDArray[np.float32]] = {}
        self._take_centroids()
        delays = None if hedge is None or replicas == 1 else Delays(hedge)
        self._replicas = Replicas(self._ray, self._hire, self._parts, replicas, delays, timeout)
        self.problems: dict[str, EdgevecError] = {}
        """With missing="report": why shards were not searched by the last search, of those that it asked."""
        self.share = 1.0
        """The share of the vectors that the last search had before it, of those in shards that it asked."""

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return live(self._manifest.shards)

    @property
    def stats(self) -> ServiceStats:
        """What was asked, late and lost since the service was made."""
        return self._replicas.stats

    def close(self) -> None:
        """End the actors."""
        self._replicas.close()

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
            self._take_centroids()
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
        nprobe: int | None = None,
    ) -> SearchResult:
        """As ShardedIndex.search(); `filter` is an array of ids. With `nprobe` an actor gets queries for its shards.

        Raises:
            EdgevecError: as ShardedIndex.search(); and what is wrong with a shard
            StorageError: an actor was lost again and again
        """
        k = as_int(k, "k", 1)
        allowed = None if filter is None else as_ids(filter, "filter ids", ordered=False)
        options = {"ef": ef, "exact": exact, "recall": recall}
        few = None if nprobe is None else as_int(nprobe, "nprobe", 1)
        search = self._asked(queries, k, allowed, options, few)
        while any(isinstance(error, ShardNotFoundError) for error in search.problems.values()):
            # A compaction may have removed a shard since its manifest was read, here or by another thread.
            self.refresh()
            if self._manifest == search.manifest:
                break
            search = self._asked(queries, k, allowed, options, few)
        if self._missing == "error":
            for problem in search.problems.values():
                raise problem
        self.problems, self.share = search.problems, search.share()
        if not search.answers:
            raise next(iter(search.problems.values()))
        return search.merged(k)

    def _asked(
        self,
        queries: Any,
        k: int,
        allowed: npt.NDArray[np.int64] | None,
        options: dict[str, Any],
        nprobe: int | None,
    ) -> Gathered:
        """What the actors of a replica say."""
        with self._lock:
            self._replicas.check_open()
            if self._folder.is_local and self._stamp != self._seen():
                self.refresh()
            manifest, parts, router = self._manifest, self._parts, self._router
        rows = as_rows(queries, manifest.settings.dim, "queries")
        asked = None
        if nprobe is not None:
            asked = need_router(router, self._address).asked(rows.reshape(-1, manifest.settings.dim), nprobe)
            if not asked.any():  # no queries or no shards: an actor sees whether the arguments are right
                asked = None
        found = Gathered(manifest, rows, asked)
        whole, filtered = self._ray.put(rows), self._ray.put(allowed)
        sent: list[tuple[Any, ...] | None] = []
        for part in parts:
            of_part = found.of(part)
            if of_part is None:
                sent.append((whole, None, k, filtered, options))
            elif not (some := of_part.any(axis=1)).any():
                sent.append(None)
            else:
                sent.append((whole if some.all() else rows[some], of_part[some], k, filtered, options))
        # What takes about as long: as many queries and neighbors, by powers of two, and the same options.
        kind = rows.size.bit_length(), k.bit_length(), allowed is None, repr(options), nprobe
        try:
            answers = self._replicas.ask(parts, sent, kind)
        except (NotFiniteError, ZeroVectorError):
            if asked is None:
                raise
            return self._asked(rows, k, allowed, options, None)  # which names the row of the batch
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, StorageError):
                error = StorageError(f"{self._address}: {answer}")
                if self._missing == "error":
                    raise error
                found.note(part, {shard.file: error for shard in part.manifest.shards})
            elif answer is not None:
                found.note(part, answer.problems, answer.result)
        return found

    def _take_centroids(self) -> None:
        """Those of the manifest. Where some cannot be had, the actor that holds the shard says so when it is asked."""
        known, self._centroids = self._centroids, {}
        for entry in (shard.centroids for shard in self._manifest.shards):
            if entry is not None:
                with suppress(CorruptIndexError, ShardNotFoundError, StorageError):
                    found = known.get(entry.file)
                    dim = self._manifest.settings.dim
                    self._centroids[entry.file] = read_centroids(self._folder, entry, dim) if found is None else found
        self._router = Router.of(self._manifest, self._centroids)

    def _seen(self) -> object:
        try:
            return self._folder.stamp()
        except DataNotFoundError:
            return None

    def _hire(self, part: Part) -> Any:
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
        self._parts = [Part.of(manifest, set(part)) for part in self._files]


def _as_share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = 0.0
    if isinstance(value, bool) or not 0 < share < 1:
        raise ParameterError(f"hedge must be above 0 and below 1, or None, not {value!r:.40}")
    return share


def _as_seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ParameterError(f"timeout must be a number of seconds above 0, or None, not {value!r:.40}")
    return seconds


def serve(
    manifest: PathLike,
    *,
    replicas: int = 1,
    actors: int | None = None,
    hedge: float | None = 0.95,
    timeout: float | None = 600,
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
        hedge: with two replicas or more: what is not answered within the time in which this share of such questions
            was, is asked of another replica, too, and the first answer counts. So the others ask 1 in 20 questions
            twice, and who is stuck is not waited for. None: never.
        timeout: seconds. An actor that owes an answer, and gives none for so long, is taken to hang: it is replaced,
            and its part of the query asked again. So more than the longest query takes; to start and to open its
            shards an actor may take as long as it needs. None: it is waited for.
        missing: "report": search without shards that cannot be had; `share` and `problems` of the service say so
        verify: compare the checksums of all files when actors open them
        storage: "disk": actors hold links and codes, and read vectors; as of ShardedIndex.open()
        ray_remote_args: of the actors, such as `num_cpus` (1 by default) or `scheduling_strategy`
        storage_options: for fsspec

    Raises:
        EdgevecError: as ShardedIndex.open()
    """
    return Service(
        manifest, replicas, actors, hedge, timeout, missing, verify, storage, ray_remote_args, storage_options
    )
