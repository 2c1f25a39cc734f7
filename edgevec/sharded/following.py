"""The shards of the latest manifest, open: searches hold on to them while those of the next one take their place."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from .._types import Storage
from ..errors import (
    ClosedError,
    DataNotFoundError,
    EdgevecError,
    ForkedError,
    OutOfMemoryError,
    ParameterError,
    ShardNotFoundError,
    about_file,
)
from .folders import Folder
from .gate import Gate
from .manifest import MANIFEST, Manifest, Settings, Shard
from .routing import Router, read_centroids
from .shards import OpenShard, check_storage, open_shard, read_removed
from .writing import read_manifest, refuse_repeated_open

__all__ = ["Following", "Missing", "as_missing"]

Missing = Literal["error", "report"]
_ATTEMPTS = 20
"""How often another manifest may come while the shards of one are opened."""


def as_missing(value: Any) -> Missing:
    """It; ParameterError for anything else."""
    if value not in get_args(Missing):
        raise ParameterError(f'missing must be "error" or "report", not {value!r:.40}')
    return cast(Missing, value)


class Following:
    """The shards of one manifest, open, until `follow()` finds another one.

    Threads share it. `using()` is the block of those who look into shards, which keeps changes out; `changing` is the
    lock of those who take another manifest or write one.

    Args:
        mmap, verify, missing, storage: as of ShardedIndex.open()
        follows: whether `follow()` looks for another manifest
    """

    manifest: Manifest

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
        self.folder, self.mmap, self.verify, self.missing, self.storage = folder, mmap, verify, missing, storage
        self.changing = threading.RLock()
        self.shards: tuple[OpenShard, ...] = ()
        self.router: Router | None = None
        """None where shards have no centroids."""
        self.centroids: dict[str, npt.NDArray[np.float32]] = {}
        """By their files."""
        self.problems: dict[str, EdgevecError] = {}
        """By file: why a shard is not open, with missing="report"."""
        self.closed = self._forked = False
        self._follows = follows
        self._gate = Gate()
        self._stamp: object = None
        self._copies: _Copies | None = None
        _all.add(self)

    def check(self) -> None:
        """ClosedError after close()."""
        if self.closed:
            raise ClosedError("the index was closed")
        if self._forked:
            raise ForkedError("another thread was taking in a new manifest when this process was forked; open it again")

    @contextmanager
    def using(self) -> Iterator[tuple[OpenShard, ...]]:
        """A block in which the shards stay as they are."""
        with self._gate.shared():
            self.check()
            yield self.shards

    def close(self) -> None:
        """Close all shards, once what other threads do with them has ended."""
        with self.changing, self._gate.alone():
            self.closed = True
            for each in self.shards:
                each.index.close()
            self.shards = ()
            if self._copies is not None:
                self._copies.remove()
                self._copies = None

    def need_all(self) -> None:
        """Raise what is wrong with a shard, if anything is."""
        for error in self.problems.values():
            raise error

    def follow(self, *, first: bool = False, again: bool = False, trusted: bool = False) -> None:
        """Take in another manifest, if there is one.

        Args:
            first: none was read yet
            again: read it, whether or not it seems to have changed, and look for shards that were missing
            trusted: no id is in two of its shards
        """
        if not first and not again and not self._seems_changed():
            return
        with self.changing:
            self.check()
            for attempt in range(_ATTEMPTS):
                stamp, manifest = self._read()
                if not first and manifest == self.manifest and not (again and self.problems):
                    self._stamp = stamp
                    return
                opened = _Opening(self)
                try:
                    opened.open(manifest, trusted)
                    gone = any(isinstance(error, ShardNotFoundError) for error in opened.problems.values())
                except ShardNotFoundError:
                    if attempt + 1 == _ATTEMPTS or self._read()[1] == manifest:
                        raise
                    continue
                # Not there: a compaction may have removed it since the manifest was read.
                if gone and attempt + 1 < _ATTEMPTS and self._read()[1] != manifest:
                    opened.undo()
                    continue
                self._take(opened, manifest, stamp)
                return

    def hold(self, manifest: Manifest) -> None:
        """Take in this manifest, which is known to have no id twice."""
        with self.changing:
            self.check()
            opened = _Opening(self)
            opened.open(manifest, trusted=True)
            self._take(opened, manifest, None)

    def _seems_changed(self) -> bool:
        if not self.folder.is_local or not self._follows:
            return False
        try:
            return self.folder.stamp() != self._stamp
        except DataNotFoundError:
            return True

    def _read(self) -> tuple[object, Manifest]:
        with suppress(DataNotFoundError):
            # The stamp comes first: what changes between the two is seen the next time.
            return self.folder.stamp(), read_manifest(self.folder)
        return None, read_manifest(self.folder)

    def _take(self, opened: _Opening, manifest: Manifest, stamp: object) -> None:
        with self._gate.alone():
            kept = {id(each) for each in opened.held}
            gone = [each for each in self.shards if id(each) not in kept]
            for each, shard, removed in opened.more:
                each.remove(shard, removed)
            self.shards, self.problems = tuple(opened.held), opened.problems
            self.manifest, self._stamp = manifest, stamp
            self.centroids, self.router = opened.centroids, Router.of(manifest, opened.centroids)
        if self._copies is not None:
            # They are not closed, as somebody may be iterating over them.
            self._copies.forget({each.shard.file for each in gone} - {each.shard.file for each in opened.held})

    def opened(self, shard: Shard, settings: Settings) -> OpenShard:
        if self._copies is None and not self.folder.is_local:
            self._copies = _Copies()
        copies = self._copies.path if self._copies else Path(".")
        return open_shard(
            self.folder, shard, settings, copies, mmap=self.mmap, verify=self.verify, storage=self.storage
        )

    def _forget_threads(self) -> None:
        """In a forked process, which has no other threads: what these have locked nobody gives back."""
        self._forked = self._forked or self._gate.taken
        self.changing, self._gate = threading.RLock(), Gate()
        self._copies = None


class _Opening:
    """The shards of another manifest, of which those that are open already are taken over: all of them or none."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._new: list[OpenShard] = []
        self.held: list[OpenShard] = []
        self.more: list[tuple[OpenShard, Shard, npt.NDArray[np.int64]]] = []
        """Which of those that are open are to lose which ids."""
        self.problems: dict[str, EdgevecError] = {}
        self.centroids: dict[str, npt.NDArray[np.float32]] = {}

    def undo(self) -> None:
        for each in self._new:
            each.index.close()

    def open(self, manifest: Manifest, trusted: bool) -> None:
        following = self._following
        check_storage(following.storage, manifest.settings, following.folder.where(MANIFEST))
        kept: dict[str, OpenShard] = {}
        if following.shards and following.manifest.settings == manifest.settings:
            kept = {each.shard.file: each for each in following.shards}
        try:
            for shard in manifest.shards:
                try:
                    self._take_centroids(shard, manifest.settings)
                    self.held.append(self._one(shard, manifest.settings, kept.get(shard.file)))
                except EdgevecError as error:
                    problem = error
                    if isinstance(error, DataNotFoundError):
                        where = following.folder.where(shard.file)
                        problem = about_file(ShardNotFoundError(str(error)), where, error.errno)
                    if following.missing == "error" or isinstance(error, OutOfMemoryError):
                        raise problem from None
                    self.problems[shard.file] = problem.with_traceback(None)
            if following.verify and not trusted:
                gone_soon = {each.shard.file: removed for each, _, removed in self.more}
                refuse_repeated_open(self._new, self.held, gone_soon, following.folder.where(MANIFEST))
        except BaseException:
            self.undo()
            raise

    def _take_centroids(self, shard: Shard, settings: Settings) -> None:
        entry = shard.centroids
        if entry is not None:
            known = self._following.centroids.get(entry.file)
            if known is None:
                known = read_centroids(self._following.folder, entry, settings.dim)
            self.centroids[entry.file] = known

    def _one(self, shard: Shard, settings: Settings, each: OpenShard | None) -> OpenShard:
        following = self._following
        if each is not None and each.shard.removed != shard.removed:
            removed = read_removed(following.folder, shard)
            each.verify()
            if np.isin(each.removed, removed).all():
                self.more.append((each, shard, removed))
            else:
                each = None  # some of them are there again
        if each is None:
            each = following.opened(shard, settings)
            self._new.append(each)
        return each


class _Copies:
    """A temporary folder for files that are not on this machine; a forked process leaves it to its parent."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="edgevec-"))
        self.remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def forget(self, files: set[str]) -> None:
        for file in files:
            with suppress(OSError):  # Windows, where a file that is mapped stays
                (self.path / file).unlink()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


_all: weakref.WeakSet[Following] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
