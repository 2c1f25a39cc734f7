"""The shards of a collection's latest manifest, open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._types import Storage
from ..collection.parts import Part, key_of, repeated_id
from ..collection.validation import Id
from ..encoders import TextEncoder
from ..errors import CorruptCollectionError
from ..sharded.folders import Folder
from ..sharded.follower import Follower, Missing, Opening
from ..sharded.manifest import MANIFEST
from ..sharded.writing import overlapping
from .manifest import CollectionManifest, CollectionShard, read_manifest
from .shards import OpenPart, open_shard

__all__ = ["Following"]


class Following(Follower[CollectionManifest, OpenPart]):
    """
    Args:
        verify, missing: as of ShardedCollection.open()
        encoder, mmap, storage, condition_memory: as of ShardedCollection.open()
        follows: whether `follow()` looks for another manifest
    """

    what = "collection"

    def __init__(
        self,
        folder: Folder,
        *,
        verify: bool,
        missing: Missing,
        encoder: TextEncoder | None,
        mmap: bool,
        storage: Storage,
        condition_memory: int,
        follows: bool = True,
    ) -> None:
        super().__init__(folder, verify=verify, missing=missing, follows=follows)
        self.encoder, self.mmap, self.storage, self.condition_memory = encoder, mmap, storage, condition_memory

    def read_manifest(self) -> CollectionManifest:
        return read_manifest(self.folder)

    def of_nothing(self, manifest: CollectionManifest) -> Part:
        """What answers where the manifest has no shards; ParameterError where it would not be opened as one of them."""
        settings, name = asdict(manifest.settings), self.folder.where(MANIFEST)
        return Part.of_nothing(name, settings, encoder=self.encoder, storage=self.storage)

    def opening(self, manifest: CollectionManifest) -> _Opening:
        return _Opening(self, manifest)

    def _forget_threads(self) -> None:
        super()._forget_threads()
        self._forked = "this process was forked from the one that opened the collection"


@dataclass(frozen=True)
class _Range:
    """The ids of a shard, as they are sorted."""

    held: OpenPart
    first_id: tuple[bool, Any]
    last_id: tuple[bool, Any]


class _Opening(Opening[CollectionManifest, OpenPart]):
    def __init__(self, following: Following, manifest: CollectionManifest) -> None:
        super().__init__(following, manifest)
        self._following = following

    def open(self, trusted: bool) -> None:
        # Those that a change of this process has just written were just read, too.
        following = self._following
        self._verify = following.verify and not (trusted and following.writes and following.folder.is_local)
        if not self.manifest.shards:
            self._following.of_nothing(self.manifest).close()
        super().open(trusted)

    def kept(self) -> dict[str, OpenPart]:
        following = self._following
        if not following.shards or following.manifest.settings != self.manifest.settings:
            return {}
        return {each.shard.file: each for each in following.shards}

    def one(self, shard: CollectionShard, each: OpenPart | None) -> OpenPart:
        if each is None:
            following = self._following
            each = open_shard(
                following.folder,
                shard,
                self.manifest.settings,
                following.copies(),
                verify=self._verify,
                encoder=following.encoder,
                mmap=following.mmap,
                storage=following.storage,
                condition_memory=following.condition_memory // len(self.manifest.shards),
            )
            self.new.append(each)
        return each

    def refuse_repeated(self) -> None:
        """Of the shards that were held before no two have an id in common, so not all ids are read of them again."""
        kept = [each for each in self.held if each not in self.new]
        if sum(each.shard.count for each in kept) < sum(each.shard.count for each in self.new):
            self._refuse_repeated_in(self.held)
            return
        self._refuse_repeated_in(self.new)
        gone = [each.part.all_ids() for each in self._following.shards if each not in kept]
        before = set[Id]().union(*gone)
        for each in self.new:
            ids = sorted((id for id in each.part.all_ids() if id not in before), key=key_of)
            for other in kept:
                if both := other.known(ids):
                    raise self._repeated(both[0], (each, other))

    def _refuse_repeated_in(self, shards: Sequence[OpenPart]) -> None:
        ranges = [_Range(each, key_of(each.shard.first_id), key_of(each.shard.last_id)) for each in shards]
        for group in overlapping(ranges):
            twice = repeated_id([each.held.path for each in group])
            if twice is not None:
                id, *both = twice
                raise self._repeated(id, [group[at].held for at in both])

    def _repeated(self, id: Id, both: Sequence[OpenPart]) -> CorruptCollectionError:
        files = " and ".join(each.shard.file for each in both)
        where = self._following.folder.where(MANIFEST)
        return CorruptCollectionError(f"{where}: damaged: id {id!r} is in two shards, {files}")

    def take(self, gone: list[OpenPart]) -> None:
        for each in gone:
            each.close()
