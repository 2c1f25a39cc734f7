"""One query on its way to the actors of a replica, and to others where some are lost or late."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..errors import BusyError, ClosedError, EdgevecError, StorageError
from ..sharded import Manifest
from ..sharded_collection import CollectionManifest
from .hedging import Delays

__all__ = ["ATTEMPTS", "Answer", "AnyManifest", "Part", "Replicas", "ServiceStats", "checksum_of"]

ATTEMPTS = 4
"""How often a part of a query is asked after it was lost."""


AnyManifest = Manifest | CollectionManifest


class Answer(NamedTuple):
    """Of an actor: what its shards answer, and by file what is wrong with the others."""

    result: Any
    problems: dict[str, EdgevecError]


class Part(NamedTuple):
    """The manifest as one actor is to have it."""

    manifest: AnyManifest
    checksum: str

    @classmethod
    def of(cls, manifest: AnyManifest, files: set[str]) -> Part:
        shards: Any = tuple(shard for shard in manifest.shards if shard.file in files)
        part = replace(manifest, shards=shards)
        return cls(part, checksum_of(part))


def checksum_of(manifest: AnyManifest) -> str:
    """Of the content."""
    return hashlib.sha256(manifest.to_json()).hexdigest()


class ServiceStats(NamedTuple):
    """What a service has done since it was made.

    Attributes:
        asked: questions to actors: one for each actor of a replica and query
        hedged: how many of them were late, and were asked of another replica, too
        won: how many of those the other replica answered first
        replaced: actors that were lost, or hung
    """

    asked: int = 0
    hedged: int = 0
    won: int = 0
    replaced: int = 0


@dataclass(eq=False)
class _Actor:
    handle: Any
    heard: float | None = None
    """When it last gave an answer, or had opened its shards; None: it has yet to."""


@dataclass(eq=False)
class _Question:
    part: int
    replica: int
    actor: _Actor
    hedge: bool
    start: float = field(default_factory=time.perf_counter)
    over: bool = False
    """It was answered, or its actor is lost."""

    def waited(self) -> float:
        """Seconds in which its actor, which could have, has answered nothing."""
        heard = self.actor.heard
        return 0.0 if self.over or heard is None else time.perf_counter() - max(self.start, heard)


class Replicas:
    """The actors: replicas[n][m] is to hold part m of the manifest, in each of the replicas.

    Threads may share it.

    Args:
        ray: the library
        hire: makes an actor for a part
        delays: None: no question is asked of two replicas
        timeout: an actor that owes an answer, and gives none to anybody for so many seconds, is replaced; None: never
    """

    def __init__(
        self,
        ray: Any,
        hire: Callable[[Part], Any],
        parts: Sequence[Part],
        count: int,
        delays: Delays | None,
        timeout: float | None,
    ) -> None:
        self._ray, self._hire, self._delays, self._timeout = ray, hire, delays, timeout
        self._lock = threading.Lock()
        self._actors = [[self._hired(part) for part in parts] for _ in range(count)]
        self._late: list[list[_Question]] = [[] for _ in range(count)]
        """Questions that others have answered in their place."""
        self._turn = 0
        self._closed = False
        self._stats = ServiceStats()

    @property
    def stats(self) -> ServiceStats:
        return self._stats

    def actor(self, replica: int, part: int) -> _Actor:
        with self._lock:
            self.check_open()
            return self._actors[replica][part]

    def _hired(self, part: Part) -> _Actor:
        actor = _Actor(self._hire(part))

        def note(future: Any) -> None:
            if future.exception() is None:
                actor.heard = time.perf_counter()

        actor.handle.__ray_ready__.remote().future().add_done_callback(note)
        return actor

    def close(self) -> None:
        """End the actors."""
        with self._lock:
            self._closed = True
            actors = [actor for each in self._actors for actor in each]
            self._actors = []
        for actor in actors:
            self._ray.kill(actor.handle)

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError("the service was closed")

    def turn(self) -> int:
        """For questions that are to be asked of one replica, one after the other."""
        with self._lock:
            self._turn += 1
            return self._turn

    def ask(
        self,
        parts: Sequence[Part],
        sent: Sequence[tuple[Any, ...] | None],
        kind: Hashable,
        turn: int | None = None,
    ) -> list[Answer | StorageError | None]:
        """The answers for all parts, or why there is none.

        Args:
            sent: for each part what an actor's search() is given beside the checksum; None: it is not asked
            kind: of questions that take about as long
            turn: what turn() has returned; None: its turn is that of the question alone

        Raises:
            EdgevecError: what an actor found wrong with the query
        """
        self._replace_hung(parts)
        return _Query(self, parts, sent, kind).answers(self._next(turn))

    def _next(self, turn: int | None = None) -> int:
        """The replica that is asked first: each in turn, but those last that owe answers."""
        turn = self.turn() if turn is None else turn
        with self._lock:
            self.check_open()
            return self._least_late(turn)

    def _other(self, replica: int) -> int:
        with self._lock:
            return self._least_late(replica + 1, but=replica)

    def _least_late(self, start: int, but: int | None = None) -> int:
        count = len(self._late)
        for number, late in enumerate(self._late):
            self._late[number] = [question for question in late if not question.over]
        order = [(start + n) % count for n in range(count)]
        return min((n for n in order if n != but or count == 1), key=lambda n: len(self._late[n]))

    def _replace(self, question: _Question, part: Part) -> None:
        with self._lock:
            actors = None if self._closed else self._actors[question.replica]
            if actors is None or actors[question.part] is not question.actor:  # another thread has done so
                return
            actors[question.part] = self._hired(part)
        self._count(replaced=1)
        with suppress(Exception):  # it may only have been out of reach
            self._ray.kill(question.actor.handle)

    def _is_hung(self, question: _Question) -> bool:
        return self._timeout is not None and question.waited() >= self._timeout

    def _replace_hung(self, parts: Sequence[Part]) -> None:
        """Those whose answers others have given in their place."""
        with self._lock:
            hung = [question for late in self._late for question in late if self._is_hung(question)]
        for question in hung:
            self._replace(question, parts[question.part])

    def _count(self, **more: int) -> None:
        with self._lock:
            stats = self._stats
            self._stats = stats._replace(**{name: getattr(stats, name) + number for name, number in more.items()})

    def _leave(self, questions: Sequence[_Question]) -> None:
        """Nobody waits for them any longer."""
        with self._lock:
            for question in questions:
                self._late[question.replica].append(question)


class _Query:
    """One query: each part is asked of the actor of one replica; of a second, if the first is late."""

    def __init__(
        self, replicas: Replicas, parts: Sequence[Part], sent: Sequence[tuple[Any, ...] | None], kind: Hashable
    ) -> None:
        self._replicas, self._parts, self._sent, self._kind = replicas, parts, sent, kind
        self._arrived: queue.SimpleQueue[tuple[_Question, Any, float]] = queue.SimpleQueue()
        self._open: dict[int, list[_Question]] = {part: [] for part, some in enumerate(sent) if some is not None}
        """The parts that have no answer yet."""
        self._lost = [0] * len(parts)
        self._answers: list[Answer | StorageError | None] = [None] * len(parts)

    def answers(self, first: int) -> list[Any]:
        """first: the replica that is asked first"""
        replicas = self._replicas
        delay = replicas._delays.of(self._kind) if replicas._delays else None
        for part in self._open:
            self._ask(part, first)
        replicas._count(asked=len(self._open))
        due = None if delay is None else time.perf_counter() + delay
        try:
            while self._open:
                try:
                    self._take(*self._arrived.get(timeout=self._patience(due)))
                except queue.Empty:
                    if due is not None and time.perf_counter() >= due:
                        due = None
                        self._hedge()
                    self._lose_hung()
        finally:
            replicas._leave([question for asked in self._open.values() for question in asked])
        return self._answers

    def _patience(self, due: float | None) -> float | None:
        """Seconds until another replica is due, or an actor may have hung; None: for ever."""
        waits = [] if due is None else [due - time.perf_counter()]
        if (timeout := self._replicas._timeout) is not None:
            waits += [timeout - question.waited() for asked in self._open.values() for question in asked]
        return max(0.0, min(waits)) if waits else None

    def _ask(self, part: int, replica: int, *, hedge: bool = False, again: bool = False) -> None:
        question, arrived = _Question(part, replica, self._replicas.actor(replica, part), hedge), self._arrived
        self._open[part].append(question)

        def note(future: Any) -> None:
            now = time.perf_counter()
            question.over, question.actor.heard = True, now
            arrived.put((question, future, now))

        checksum, manifest = self._parts[part].checksum, self._parts[part].manifest if again else None
        reference = question.actor.handle.search.remote(checksum, manifest, *(self._sent[part] or ()))
        reference.future().add_done_callback(note)

    def _hedge(self) -> None:
        late = [asked[0] for asked in self._open.values() if len(asked) == 1]
        for question in late:
            self._ask(question.part, self._replicas._other(question.replica), hedge=True)
        self._replicas._count(hedged=len(late))

    def _take(self, question: _Question, future: Any, arrived: float) -> None:
        part, replicas = question.part, self._replicas
        if question not in self._open.get(part, ()):  # another replica was first, or its actor has hung
            return
        error = future.exception()
        if error is None:
            self._open[part].remove(question)
            self._end(part, future.result())
            if replicas._delays is not None:
                # Of the one that answered, so that one who never does has no part in it.
                replicas._delays.note(self._kind, arrived - question.start)
            replicas._count(won=int(question.hedge))
            return
        errors = replicas._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            if not isinstance(error.cause, BusyError):  # which says that another manifest came
                if isinstance(error.cause, EdgevecError):
                    raise error.cause from None
                raise error
            self._open[part].remove(question)
            self._ask_again(part, question.replica)
        elif isinstance(error, errors.RayError):
            self._lose(question, " ".join(str(error).split())[:300])
        else:
            raise error

    def _lose_hung(self) -> None:
        for question in [question for asked in self._open.values() for question in asked]:
            if self._replicas._is_hung(question):
                self._lose(question, f"none within {self._replicas._timeout:g} seconds")

    def _lose(self, question: _Question, reason: str) -> None:
        """Its actor will not answer."""
        part = question.part
        self._open[part].remove(question)
        self._lost[part] += 1
        self._replicas._replace(question, self._parts[part])
        if self._lost[part] < ATTEMPTS:
            self._ask_again(part, self._replicas._other(question.replica))  # which need not be started first
        elif not self._open[part]:
            shards = len(self._parts[part].manifest.shards)
            self._end(part, StorageError(f"no actor answers for {shards} shards: {reason}"))

    def _ask_again(self, part: int, replica: int) -> None:
        if not self._open[part]:  # else the hedge may still answer
            self._ask(part, replica, again=True)

    def _end(self, part: int, answer: Answer | StorageError) -> None:
        self._answers[part] = answer
        self._replicas._leave(self._open.pop(part))
