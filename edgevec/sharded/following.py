"""The shards of an index's latest manifest, open, without the vectors that are removed, and their centroids."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._types import Storage
from .folders import Folder
from .follower import Follower, Missing, Opening, as_missing
from .manifest import MANIFEST, Manifest, Shard
from .routing import Router, read_centroids
from .shards import OpenShard, check_storage, open_shard, read_removed
from .writing import read_manifest, refuse_repeated_open

__all__ = ["Following", "Missing", "as_missing"]


class Following(Follower[Manifest, OpenShard]):
    """
    Args:
        mmap, verify, missing, storage: as of ShardedIndex.open()
        follows: whether `follow()` looks for another manifest
    """

    def __init__(
        self,
        folder: Folder,
        *,
        mmap: bool,
        verify: bool,
        missing: Missing,
        storage: Storage = "memory",
        follows: bool = True,
    ) -> None:
        super().__init__(folder, verify=verify, missing=missing, follows=follows)
        self.mmap, self.storage = mmap, storage
        self.router: Router | None = None
        """None where shards have no centroids."""
        self.centroids: dict[str, npt.NDArray[np.float32]] = {}
        """By their files."""

    def read_manifest(self) -> Manifest:
        return read_manifest(self.folder)

    def opening(self, manifest: Manifest) -> _Opening:
        return _Opening(self, manifest)


class _Opening(Opening[Manifest, OpenShard]):
    def __init__(self, following: Following, manifest: Manifest) -> None:
        super().__init__(following, manifest)
        self._following = following
        self._more: list[tuple[OpenShard, Shard, npt.NDArray[np.int64]]] = []
        """Which of those that are open are to lose which ids."""
        self._centroids: dict[str, npt.NDArray[np.float32]] = {}

    def kept(self) -> dict[str, OpenShard]:
        following, settings = self._following, self.manifest.settings
        check_storage(following.storage, settings, following.folder.where(MANIFEST))
        if not following.shards or following.manifest.settings != settings:
            return {}
        return {each.shard.file: each for each in following.shards}

    def one(self, shard: Shard, each: OpenShard | None) -> OpenShard:
        self._take_centroids(shard)
        following = self._following
        if each is not None and each.shard.removed != shard.removed:
            removed = read_removed(following.folder, shard)
            each.verify()
            if np.isin(each.removed, removed).all():
                self._more.append((each, shard, removed))
            else:
                each = None  # some of them are there again
        if each is None:
            how = {"mmap": following.mmap, "verify": following.verify}
            settings, copies = self.manifest.settings, following.copies()
            each = open_shard(following.folder, shard, settings, copies, storage=following.storage, **how)
            self.new.append(each)
        return each

    def _take_centroids(self, shard: Shard) -> None:
        entry = shard.centroids
        if entry is not None:
            known = self._following.centroids.get(entry.file)
            if known is None:
                known = read_centroids(self._following.folder, entry, self.manifest.settings.dim)
            self._centroids[entry.file] = known

    def refuse_repeated(self) -> None:
        gone_soon = {each.shard.file: removed for each, _, removed in self._more}
        refuse_repeated_open(self.new, self.held, gone_soon, self._following.folder.where(MANIFEST))

    def take(self, gone: list[OpenShard]) -> None:
        """Those that are gone are not closed, as somebody may be iterating over them."""
        for each, shard, removed in self._more:
            each.remove(shard, removed)
        self._following.centroids = self._centroids
        self._following.router = Router.of(self.manifest, self._centroids)
