"""What a manifest names, held open: searches hold on to its shards while those of the next one take their place.

Of any kind of shards: `following` has those of an index.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, get_args

from ..errors import (
    BusyError,
    ClosedError,
    DataNotFoundError,
    EdgevecError,
    ForkedError,
    LockedError,
    OutOfMemoryError,
    ParameterError,
    ShardNotFoundError,
    StorageError,
    about_file,
)
from ..workspace import Workspace
from .folders import COPIES, Folder
from .gate import Gate

__all__ = ["Follower", "Missing", "Opening", "as_missing"]

Missing = Literal["error", "report"]
_ATTEMPTS = 20
"""How often another manifest may come while the shards of one are opened."""


def as_missing(value: Any) -> Missing:
    """It; ParameterError for anything else."""
    if value not in get_args(Missing):
        raise ParameterError(f'missing must be "error" or "report", not {value!r:.40}')
    return cast(Missing, value)


class Entry(Protocol):
    """A shard, as a manifest has it."""

    @property
    def file(self) -> str: ...


EntryT = TypeVar("EntryT", bound=Entry)


class Listing(Protocol):
    """A manifest."""

    @property
    def shards(self) -> tuple[Any, ...]: ...


class Held(Protocol):
    """A shard that is open."""

    @property
    def shard(self) -> Any: ...

    def close(self) -> None: ...


ManifestT = TypeVar("ManifestT", bound=Listing)
HeldT = TypeVar("HeldT", bound=Held)


class Opening(Generic[ManifestT, HeldT]):
    """The shards of another manifest, of which those that are open already are taken over: all of them or none."""

    def __init__(self, follower: Follower[ManifestT, HeldT], manifest: ManifestT) -> None:
        self.follower, self.manifest = follower, manifest
        self.new: list[HeldT] = []
        self.held: list[HeldT] = []
        self.problems: dict[str, EdgevecError] = {}

    def undo(self) -> None:
        for each in self.new:
            each.close()
        self.follower.remove_copies()

    def open(self, trusted: bool) -> None:
        """trusted: no id is in two of its shards"""
        follower = self.follower
        kept = self.kept()
        try:
            for shard in self.manifest.shards:
                try:
                    self.held.append(self.one(shard, kept.get(shard.file)))
                except EdgevecError as error:
                    problem = error
                    if isinstance(error, DataNotFoundError):
                        where = follower.folder.where(shard.file)
                        problem = about_file(ShardNotFoundError(str(error)), where, error.errno)
                    if follower.missing == "error" or isinstance(error, OutOfMemoryError):
                        raise problem from None
                    self.problems[shard.file] = problem.with_traceback(None)
            if follower.verify and not trusted:
                self.refuse_repeated()
        except BaseException:
            self.undo()
            raise

    def kept(self) -> dict[str, HeldT]:
        """Of the shards that are open those that may stay, by file."""
        raise NotImplementedError

    def one(self, shard: Any, each: HeldT | None) -> HeldT:
        """The shard, open: the one that is, or one of `new`."""
        raise NotImplementedError

    def refuse_repeated(self) -> None:
        """CorruptIndexError for an id that is in two shards."""
        raise NotImplementedError

    def take(self, gone: list[HeldT]) -> None:
        """They are those of the follower now, and nobody looks into any; `gone` are not any more."""
        raise NotImplementedError


class Follower(Generic[ManifestT, HeldT]):
    """The shards of one manifest, open, until `follow()` finds another one.

    Threads share it. `using()` is the block of those who look into shards, which keeps changes out; `changing` is the
    lock of those who take another manifest or write one.

    Args:
        verify, missing: as of ShardedIndex.open()
        follows: whether `follow()` looks for another manifest
    """

    manifest: ManifestT
    what = "index"
    """What messages call it."""

    def __init__(self, folder: Folder, *, verify: bool, missing: Missing, follows: bool = True) -> None:
        self.folder, self.verify, self.missing = folder, verify, missing
        self.changing = threading.RLock()
        self.shards: tuple[HeldT, ...] = ()
        self.problems: dict[str, EdgevecError] = {}
        """By file: why a shard is not open, with missing="report"."""
        self.closed = False
        self._writes = False
        """Whether the thread that has `changing` is in a block of writing()."""
        self._forked = ""
        """Why a forked process cannot use it."""
        self._follows = follows
        self._gate = Gate()
        self._stamp: object = None
        self._copies: _Copies | None = None
        _all.add(self)

    def read_manifest(self) -> ManifestT:
        """That of the folder."""
        raise NotImplementedError

    def opening(self, manifest: ManifestT) -> Opening[ManifestT, HeldT]:
        """What opens its shards."""
        raise NotImplementedError

    def check(self) -> None:
        """ClosedError after close()."""
        if self.closed:
            raise ClosedError(f"the {self.what} was closed")
        if self._forked:
            raise ForkedError(f"{self._forked}; open it again")

    @property
    def writes(self) -> bool:
        """Whether a thread is in a block of writing()."""
        return self._writes

    @contextmanager
    def using(self) -> Iterator[tuple[HeldT, ...]]:
        """A block in which the shards stay as they are."""
        with self._gate.shared():
            self.check()
            yield self.shards

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A block in which nobody else writes, with all shards of the latest manifest open.

        BusyError inside another such block: in a progress function.
        """
        self.check()
        with self.changing:
            self._refuse_inside()
            with self.folder.writing():
                self._writes = True
                try:
                    self.follow(again=True)
                    self.need_all()
                    yield
                finally:
                    self._writes = False

    def need_same(self) -> None:
        """LockedError in a block of writing() where another manifest is there by now: of an object store, with no lock.

        Who writes one between this and the next manifest is not noticed.
        """
        if not self.folder.is_local and self.read_manifest() != self.manifest:
            raise about_file(
                LockedError(f"{self.folder.address}: was written to meanwhile, here or in another process"),
                self.folder.address,
                errno.EAGAIN,
            )

    def _refuse_inside(self) -> None:
        if self._writes:
            raise BusyError(f"the {self.what} is being changed by the call whose progress function this is")

    def close(self) -> None:
        """Close all shards, once what other threads do with them has ended. BusyError in a block of writing()."""
        with self.changing:
            self._refuse_inside()
            with self._gate.alone():
                self.closed = True
                for each in self.shards:
                    each.close()
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
        if not first and not again and not self.seems_changed():
            return
        with self.changing:
            self.check()
            for attempt in range(_ATTEMPTS):
                stamp, manifest = self._read()
                if not first and manifest == self.manifest and not (again and self.problems):
                    self._stamp = stamp
                    return
                opened = self.opening(manifest)
                try:
                    opened.open(trusted)
                    gone = any(isinstance(error, ShardNotFoundError) for error in opened.problems.values())
                except (ShardNotFoundError, StorageError):
                    # A file may be gone when it is opened, or just then, or when its ids are read.
                    if attempt + 1 == _ATTEMPTS or self._read()[1] == manifest:
                        raise
                    continue
                # Not there: a compaction may have removed it since the manifest was read.
                if gone and attempt + 1 < _ATTEMPTS and self._read()[1] != manifest:
                    opened.undo()
                    continue
                self._take(opened, stamp)
                return

    def hold(self, manifest: ManifestT) -> None:
        """Take in this manifest, which is known to have no id twice."""
        with self.changing:
            self.check()
            opened = self.opening(manifest)
            opened.open(trusted=True)
            self._take(opened, None)

    def seems_changed(self) -> bool:
        """Whether there may be another manifest."""
        if not self.folder.is_local or not self._follows:
            return False
        try:
            return self.folder.stamp() != self._stamp
        except DataNotFoundError:
            return True

    def _read(self) -> tuple[object, ManifestT]:
        with suppress(DataNotFoundError):
            # The stamp comes first: what changes between the two is seen the next time.
            return self.folder.stamp(), self.read_manifest()
        return None, self.read_manifest()

    def _take(self, opened: Opening[ManifestT, HeldT], stamp: object) -> None:
        with self._gate.alone():
            kept = {id(each) for each in opened.held}
            gone = [each for each in self.shards if id(each) not in kept]
            self.shards, self.problems = tuple(opened.held), opened.problems
            self.manifest, self._stamp = opened.manifest, stamp
            opened.take(gone)
        self.remove_copies()

    def copies(self) -> Path:
        """A folder for copies of files that are not on this machine."""
        if self._copies is None and not self.folder.is_local:
            self._copies = _Copies()
        return self._copies.path if self._copies else Path(".")

    def remove_copies(self) -> None:
        """But for those of the shards that are held."""
        if self._copies is not None:
            self._copies.remove_all_but({each.shard.file for each in self.shards})

    def _forget_threads(self) -> None:
        """In a forked process, which has no other threads: what these have locked nobody gives back."""
        if self._gate.taken:
            self._forked = "another thread was taking in a new manifest when this process was forked"
        self.changing, self._gate = threading.RLock(), Gate()
        self._writes = False
        self._copies = None


class _Copies(Workspace):
    """Of files that are not on this machine; a forked process leaves them to its parent."""

    def __init__(self) -> None:
        super().__init__(COPIES)

    def remove_all_but(self, files: set[str]) -> None:
        """And the files beside these, whose names begin as theirs do."""
        kept = {_stem(file) for file in files}
        for copy in [*self.path.iterdir()]:
            if _stem(copy.name) not in kept:
                with suppress(OSError):  # Windows, where a file that is mapped stays
                    copy.unlink()


def _stem(file: str) -> str:
    return file.partition(".")[0]


_all: weakref.WeakSet[Follower[Any, Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
