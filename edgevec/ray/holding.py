"""What is the same of services of any kind of shards: actors, what each of them holds, another manifest, the lost."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from .._validation import as_int
from ..errors import BusyError, DataNotFoundError, EdgevecError, ParameterError, ShardNotFoundError, StorageError
from ..sharded import Manifest
from ..sharded.folders import Folder
from ..sharded.follower import Follower, Missing, as_missing
from ..sharded_collection import CollectionManifest
from .asking import Answer, AnyManifest, Part, Replicas, ServiceStats, checksum_of
from .hedging import Delays
from .library import running_ray

__all__ = ["Holder", "Serving"]

ManifestT = TypeVar("ManifestT", Manifest, CollectionManifest)
ServingT = TypeVar("ServingT", bound="Serving[Any]")


class Holder:
    """An actor: it has some shards open, and answers for them."""

    def __init__(self, following: Follower[Any, Any], manifest: AnyManifest) -> None:
        self._following = following
        self._hold(manifest)

    def _hold(self, manifest: AnyManifest) -> None:
        self._following.hold(manifest)
        self._checksum = checksum_of(manifest)

    def need(self, checksum: str, manifest: AnyManifest | None) -> None:
        """Hold the manifest of this checksum; BusyError where the actor holds another one, and is not given it."""
        if self._checksum != checksum:
            if manifest is None:
                raise BusyError("the actor holds another manifest")
            self._hold(manifest)

    def pid(self) -> int:
        return os.getpid()


class Asked(Protocol):
    """What came of asking the shards of a manifest."""

    @property
    def manifest(self) -> Any: ...

    @property
    def problems(self) -> dict[str, EdgevecError]:
        """By file."""
        ...

    @property
    def answers(self) -> Sequence[Any]:
        """None where there are only problems."""
        ...

    def share(self) -> float: ...


AskedT = TypeVar("AskedT", bound=Asked)


class Serving(Generic[ManifestT]):
    """Shards that are held by actors. Threads may share it.

    Args:
        holder: the class of the actors
        held: what one is made of, beside the address and its part of the manifest
        replicas, actors, hedge, timeout, missing, ray_remote_args: as of serve()
    """

    def __init__(
        self,
        folder: Folder,
        holder: type[Holder],
        held: tuple[Any, ...],
        *,
        replicas: int,
        actors: int | None,
        hedge: float | None,
        timeout: float | None,
        missing: Missing,
        ray_remote_args: Mapping[str, Any] | None,
    ) -> None:
        self._missing = as_missing(missing)
        replicas = as_int(replicas, "replicas", 1)
        if hedge is not None:
            hedge = _as_share(hedge)
        if timeout is not None:
            timeout = _as_seconds(timeout)
        self._ray = running_ray()
        self._folder, self._address, self._held = folder, folder.address, held
        # A lost actor is replaced here, where it is known what it is to hold.
        self._kind = self._ray.remote(holder).options(**{"num_cpus": 1, "max_restarts": 0, **(ray_remote_args or {})})
        self._lock = threading.RLock()
        self._stamp: object = None
        manifest = self._read_manifest()
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        count = as_int(actors, "actors", 1) if actors is not None else nodes
        self._files: list[list[str]] = [[] for _ in range(max(1, min(count, len(manifest.shards))))]
        self._take(manifest)
        delays = None if hedge is None or replicas == 1 else Delays(hedge)
        self._replicas = Replicas(self._ray, self._hire, self._parts, replicas, delays, timeout)
        self.problems: dict[str, EdgevecError] = {}
        """With missing="report": why shards were not searched by the last search, of those that it asked."""
        self.share = 1.0
        """The share of the vectors that the last search had before it, of those in shards that it asked."""

    _manifest: ManifestT
    _parts: list[Part]

    def _read_manifest(self) -> ManifestT:
        """That of the folder."""
        raise NotImplementedError

    def _take(self, manifest: ManifestT) -> None:
        """It is the one that counts."""
        self._manifest = manifest
        self._share_out()

    def __enter__(self: ServingT) -> ServingT:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
            manifest = self._read_manifest()
            changed = manifest != self._manifest
            if changed:
                self._take(manifest)
            self._stamp = stamp
            return changed

    def _followed(self) -> tuple[ManifestT, list[Part]]:
        """The manifest that counts, and the parts of it that actors are to hold. For one who has the lock."""
        self._replicas.check_open()
        if self._seems_changed():
            self.refresh()
        return self._manifest, self._parts

    def _seems_changed(self) -> bool:
        return self._folder.is_local and self._stamp != self._seen()

    def _seen(self) -> object:
        try:
            return self._folder.stamp()
        except DataNotFoundError:
            return None

    def _complete(self, ask: Callable[[], AskedT]) -> AskedT:
        """What is found by the latest manifest; the problems are raised or reported.

        Args:
            ask: ask(), which is called again where the manifest names shards that are gone
        """
        found = ask()
        while any(isinstance(error, (ShardNotFoundError, StorageError)) for error in found.problems.values()):
            # A change may have removed a shard since its manifest was read, here or by another thread: before its
            # actor opened it, or just then.
            self.refresh()
            if self._manifest == found.manifest:
                break
            found = ask()
        if self._missing == "error":
            for problem in found.problems.values():
                raise problem
        self.problems, self.share = found.problems, found.share()
        if not found.answers:
            raise next(iter(found.problems.values()))
        return found

    def _ask(
        self, parts: Sequence[Part], sent: Sequence[tuple[Any, ...] | None], kind: Hashable, turn: int | None = None
    ) -> list[tuple[Part, Answer]]:
        """As Replicas.ask(), of those that are asked. That a part is lost is an error, or a problem of its shards."""
        found = []
        for part, answer in zip(parts, self._replicas.ask(parts, sent, kind, turn), strict=True):
            if isinstance(answer, StorageError):
                error = StorageError(f"{self._address}: {answer}")
                if self._missing == "error":
                    raise error
                answer = Answer(None, {shard.file: error for shard in part.manifest.shards})
            if answer is not None:
                found.append((part, answer))
        return found

    def _hire(self, part: Part) -> Any:
        return self._kind.remote(self._address, part.manifest, *self._held)

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
