"""Actors that hold shards of a collection, and a service that asks them in rounds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from .._types import PathLike, Storage
from .._validation import as_int, as_storage
from ..collection import Encoder, Hits
from ..collection.hits import Included
from ..collection.parts import Part as Records
from ..collection.search import ALL, EQUAL, SearchRequest
from ..collection.where import Where
from ..encoders import as_encoder
from ..errors import EdgevecError, StorageError
from ..sharded import Missing
from ..sharded.manifest import MANIFEST
from ..sharded.searching import Helpers
from ..sharded_collection import CollectionManifest
from ..sharded_collection.collection import CONDITION_BYTES, folder_of
from ..sharded_collection.following import Following
from ..sharded_collection.manifest import read_manifest
from ..sharded_collection.reading import Reading
from ..sharded_collection.searching import Found, Here, Question, SearchParts, Shards
from .asking import Answer, Part
from .holding import Holder, Serving

__all__ = ["CollectionService", "serve_collection"]

_ATTEMPTS = 20
"""How often shards may be taken away while a call asks them."""
_Answer = TypeVar("_Answer")


class _CollectionHolder(Holder):
    """An actor that has some shards of a collection open."""

    def __init__(
        self,
        address: str,
        manifest: CollectionManifest,
        verify: bool,
        storage: Storage,
        condition_memory: int,
        options: dict[str, Any],
    ) -> None:
        self._helpers = Helpers()
        following = Following(
            folder_of(address, options),
            verify=verify,
            missing="report",
            encoder=None,
            mmap=storage == "memory",
            storage=storage,
            condition_memory=condition_memory,
            follows=False,
        )
        super().__init__(following, manifest)

    def search(
        self,
        checksum: str,
        manifest: CollectionManifest | None,
        every: Mapping[str, Question],
        own: Mapping[str, Question],
    ) -> Answer:
        """One round, by the manifest of this checksum, which is given where the actor is known to hold another one.

        Args:
            every: questions for all shards, by name
            own: a question for a shard, by file

        Returns:
            The answers by name and file, and by file.
        """
        self.need(checksum, manifest)
        with self._following.using() as held:
            files = [each.shard.file for each in held]
            here = Here(dict(enumerate(each.part for each in held)), self._helpers)
            found = {name: _by_file(files, each) for name, each in here.each(every).items()}
            alone = here.some({at: own[file] for at, file in enumerate(files) if file in own})
            return Answer((found, _by_file(files, alone)), dict(self._following.problems))


def _by_file(files: Sequence[str], found: Found) -> dict[str, Any]:
    return {files[at]: answer for at, answer in found.items()}


class _UnansweredError(Exception):
    """There is no use in another round: the problems say why."""


class _LostError(Exception):
    """A shard that has answered a round does not answer the next one."""


class _InActors:
    """The shards of one manifest, in actors, which are asked for one call; all rounds of it go to one replica.

    Args:
        ask: as Serving._ask(), with the turn
        kind: of calls that take about as long
        complete: whether a shard without an answer is the end
    """

    def __init__(
        self,
        manifest: CollectionManifest,
        parts: Sequence[Part],
        ask: Callable[[Sequence[Part], Sequence[tuple[Any, ...] | None], Hashable], list[tuple[Part, Answer]]],
        kind: Hashable,
        complete: bool,
    ) -> None:
        self.manifest, self._parts, self._ask, self._kind, self._complete = manifest, parts, ask, kind, complete
        self.problems: dict[str, EdgevecError] = {}
        self.answers: list[Any] = []
        self._places = {shard.file: at for at, shard in enumerate(manifest.shards)}
        self._rounds = 0

    def share(self) -> float:
        """Of the records, how many were searched."""
        counts = {shard.file: shard.count for shard in self.manifest.shards}
        return 1 - sum(counts[file] for file in self.problems) / sum(counts.values()) if counts else 1.0

    def each(self, questions: Mapping[str, Question]) -> dict[str, Found]:
        if not questions:
            return {}
        sent: list[tuple[Any, ...] | None] = [(questions, {}) if part.manifest.shards else None for part in self._parts]
        answered = [result[0] for result in self._round(sent, (*questions,))]
        return {name: self._in_order(each[name] for each in answered) for name in questions}

    def some(self, questions: Mapping[int, Question]) -> Found:
        if not questions:
            return {}
        own = {self.manifest.shards[at].file: question for at, question in questions.items()}
        sent: list[tuple[Any, ...] | None] = []
        for part in self._parts:
            of_part = {shard.file: own[shard.file] for shard in part.manifest.shards if shard.file in own}
            sent.append(({}, of_part) if of_part else None)
        return self._in_order(result[1] for result in self._round(sent, ("some",)))

    def _round(self, sent: Sequence[tuple[Any, ...] | None], names: tuple[str, ...]) -> list[Any]:
        problems: dict[str, EdgevecError] = {}
        results = []
        for _, answer in self._ask(self._parts, sent, (names, self._kind)):
            problems.update(answer.problems)
            if answer.result is not None:
                results.append(answer.result)
        self._rounds += 1
        if self._rounds > 1 and problems.keys() - self.problems.keys():
            raise _LostError
        self.problems.update(problems)
        if len(self.problems) == len(self._places) or (self.problems and self._complete):
            raise _UnansweredError
        return results

    def _in_order(self, answers: Any) -> Found:
        found = {self._places[file]: answer for each in answers for file, answer in each.items()}
        return dict(sorted(found.items()))


class CollectionService(Reading, Serving[CollectionManifest]):
    """A collection in shards that is held by actors; `serve_collection()` makes one.

    It answers as ShardedCollection does. Its actors are those of a Service: each replica holds all shards, a call goes
    to one replica, who is late is helped by another one, and an actor that is lost is replaced, and asked again. A call
    asks in rounds: a search by vector in two (what is nearest, the records), one with words in three. Threads may share
    a service.

    Example:
        >>> import edgevec.ray
        >>> service = edgevec.ray.serve_collection("notes", replicas=2)  # doctest: +SKIP
        >>> service.search([0.5, 1], k=5, where="year >= 2000")  # doctest: +SKIP
    """

    def __init__(
        self,
        manifest: PathLike,
        encoder: str | Encoder | None,
        verify: bool,
        storage: Storage,
        condition_memory: int | None,
        storage_options: Mapping[str, Any] | None,
        **how: Any,
    ) -> None:
        self._encoder, self._storage = None if encoder is None else as_encoder(encoder), as_storage(storage)
        memory = CONDITION_BYTES
        if condition_memory is not None:
            memory = as_int(condition_memory, "condition_memory", 0)
        options = dict(storage_options or {})
        self._nothings: list[Records] = []
        """Without records, one for each kind of collection that was here: what sees what is wrong with arguments."""
        self._helpers = Helpers()
        try:
            held = verify, self._storage, memory, options
            super().__init__(folder_of(manifest, options), _CollectionHolder, held, **how)
        except BaseException:
            self._close_nothings()
            raise

    def close(self) -> None:
        """End the actors."""
        super().close()
        self._close_nothings()

    def _close_nothings(self) -> None:
        for nothing in self._nothings:
            nothing.close()

    def _read_manifest(self) -> CollectionManifest:
        return read_manifest(self._folder)

    def _take(self, manifest: CollectionManifest) -> None:
        if not self._nothings or self._manifest.settings != manifest.settings:
            name, settings = self._folder.where(MANIFEST), asdict(manifest.settings)
            self._nothings.append(Records.of_nothing(name, settings, encoder=self._encoder, storage=self._storage))
        super()._take(manifest)

    def search(
        self,
        vector: ArrayLike | str | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
        ef: int | None = None,
        exact: bool = False,
        recall: float | None = None,
        weights: tuple[float, float] = EQUAL,
        include: Sequence[Included] = ALL,
    ) -> Hits:
        """As ShardedCollection.search(). The vector of a text is made here, once.

        Raises:
            EdgevecError: as ShardedCollection.search(); and what is wrong with a shard
            StorageError: an actor was lost again and again
        """
        k = as_int(k, "k", 1)

        @cache
        def request_of(nothing: Records) -> SearchRequest:
            return nothing.request(
                vector,
                k,
                text=text,
                where=where,
                params=params,
                ef=ef,
                exact=exact,
                recall=recall,
                weights=weights,
                include=include,
            )

        def search(shards: Shards, nothing: Records) -> Hits:
            return SearchParts(shards, request_of(nothing), nothing.scores).hits()

        return self._answer(search, ("search", k.bit_length(), where is None, repr((ef, exact, recall))))

    def _each(self, question: Question) -> list[Any]:
        def ask(shards: Shards, nothing: Records) -> list[Any]:
            return [*shards.each({"all": question})["all"].values()]

        return self._answer(ask, question.func.__name__)

    def _need_all(self) -> None:
        for problem in self.problems.values():
            raise problem

    def _answer(self, call: Callable[[Shards, Records], _Answer], kind: Hashable) -> _Answer:
        """What a call finds in the shards of one manifest, the latest.

        Args:
            call: call(shards, nothing), the latter one without records
            kind: of calls that take about as long
        """
        answer: _Answer
        [answer] = self._complete(lambda: self._asked(call, kind)).answers
        return answer

    def _asked(self, call: Callable[[Shards, Records], Any], kind: Hashable) -> _InActors:
        """The answer of a call, or why there is none."""
        for _ in range(_ATTEMPTS):
            with self._lock:
                manifest, parts = self._followed()
                nothing = self._nothings[-1]
            ask = partial(self._ask, turn=self._replicas.turn())
            asked = _InActors(manifest, parts, ask, kind, self._missing == "error")
            try:
                asked.answers.append(call(asked if manifest.shards else Here({0: nothing}, self._helpers), nothing))
            except _UnansweredError:
                pass
            except _LostError:
                continue
            except StorageError:
                # A change or another build may have removed a file that SQLite has open, or was to open.
                if manifest is self._manifest and not self._seems_changed():
                    raise
                continue
            return asked
        raise StorageError(f"{self._address}: shards are lost, or changed, again and again")


def serve_collection(
    manifest: PathLike,
    *,
    encoder: str | Encoder | None = None,
    replicas: int = 1,
    actors: int | None = None,
    hedge: float | None = 0.95,
    timeout: float | None = 600,
    missing: Missing = "error",
    verify: bool = True,
    storage: Storage = "memory",
    condition_memory: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> CollectionService:
    """Hold the shards of a collection in actors.

    Args:
        manifest: a folder that all nodes share, or an address that fsspec knows
        encoder: makes vectors of texts that are searched for, in the calling process; see edgevec.open()
        replicas, actors, hedge, timeout, missing, verify: as of serve()
        storage: "disk": actors hold links and codes, and read vectors; as of ShardedCollection.open()
        condition_memory: as of edgevec.open(), of all shards of an actor together
        ray_remote_args, storage_options: as of serve()

    Raises:
        EdgevecError: as ShardedCollection.open()
    """
    return CollectionService(
        manifest,
        encoder,
        verify,
        storage,
        condition_memory,
        storage_options,
        replicas=replicas,
        actors=actors,
        hedge=hedge,
        timeout=timeout,
        missing=missing,
        ray_remote_args=ray_remote_args,
    )
