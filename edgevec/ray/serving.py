"""Actors that hold shards of an index, and a service that asks them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import PathLike, SearchResult, Storage
from .._validation import as_ids, as_int, as_rows, as_storage
from ..errors import CorruptIndexError, NotFiniteError, ShardNotFoundError, StorageError, ZeroVectorError
from ..sharded import Manifest, Missing, ShardedIndex
from ..sharded.folders import open_folder
from ..sharded.following import Following
from ..sharded.manifest import live
from ..sharded.routing import Router, need_router, read_centroids
from ..sharded.shards import check_storage
from ..sharded.writing import read_manifest
from .asking import Answer
from .gathering import Gathered
from .holding import Holder, Serving

__all__ = ["Service", "serve"]


class _Holder(Holder):
    """An actor that has some shards of an index open."""

    def __init__(
        self, address: str, manifest: Manifest, verify: bool, storage: Storage, options: dict[str, Any]
    ) -> None:
        folder = open_folder(address, options)
        how: dict[str, Any] = {"verify": verify, "storage": storage}
        following = Following(folder, mmap=True, missing="report", follows=False, **how)
        self._index = ShardedIndex._of(following)
        super().__init__(following, manifest)

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
        self.need(checksum, manifest)
        found = self._index._search(rows, k, filter=allowed, asked=asked, **options)
        return Answer(found, self._index.problems)


class Service(Serving[Manifest]):
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
        verify: bool,
        storage: Storage,
        storage_options: Mapping[str, Any] | None,
        **how: Any,
    ) -> None:
        self._storage, self._centroids = as_storage(storage), dict[str, npt.NDArray[np.float32]]()
        options = dict(storage_options or {})
        super().__init__(open_folder(manifest, options), _Holder, (verify, self._storage, options), **how)

    def __len__(self) -> int:
        return live(self._manifest.shards)

    def _read_manifest(self) -> Manifest:
        return read_manifest(self._folder)

    def _take(self, manifest: Manifest) -> None:
        check_storage(self._storage, manifest.settings, self._address)
        super()._take(manifest)
        self._take_centroids()

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
        return self._complete(lambda: self._asked(queries, k, allowed, options, few)).merged(k)

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
            manifest, parts = self._followed()
            router = self._router
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
            answers = self._ask(parts, sent, kind)
        except (NotFiniteError, ZeroVectorError):
            if asked is None:
                raise
            return self._asked(rows, k, allowed, options, None)  # which names the row of the batch
        for part, answer in answers:
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
        manifest,
        verify,
        storage,
        storage_options,
        replicas=replicas,
        actors=actors,
        hedge=hedge,
        timeout=timeout,
        missing=missing,
        ray_remote_args=ray_remote_args,
    )
