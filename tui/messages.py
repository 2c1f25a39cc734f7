"""What workers tell screens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from textual.message import Message

from edgevec.evaluation import Point

from .errors import ErrorMessage
from .models import Answer, CollectionInfo, Data, FilterResult, Health, Queries, QuerySetSpec
from .session import IndexEntry
from .stamps import Stamp

__all__ = [
    "Answered",
    "Built",
    "Checked",
    "Compared",
    "EmptyQuery",
    "Exported",
    "Failed",
    "FileOpened",
    "InfoLoaded",
    "InvalidQuery",
    "Measured",
    "Progressed",
    "QueriesReady",
    "SweepDone",
    "VariantReady",
]


class JobMessage(Message, bubble=False):
    """From a job to the node that started it."""


class Progressed(JobMessage):
    """How far a job is; at most ten a second."""

    def __init__(self, group: str, done: int, total: int, now: float) -> None:
        super().__init__()
        self.group, self.done, self.total, self.now = group, done, total, now


class Failed(JobMessage):
    def __init__(self, group: str, error: ErrorMessage) -> None:
        super().__init__()
        self.group, self.error = group, error


class FileOpened(JobMessage):
    """path: None for the sample; entry: the index, when the file is one or one was built along; stamps: of the files
    that were read, as they were before."""

    def __init__(
        self,
        path: Path | None,
        data: Data,
        entry: IndexEntry | None,
        stamps: Mapping[Path, Stamp | None] | None = None,
    ) -> None:
        super().__init__()
        self.path, self.data, self.entry, self.stamps = path, data, entry, stamps


class Built(JobMessage):
    """data: what the index is of."""

    def __init__(self, data: Data, entry: IndexEntry) -> None:
        super().__init__()
        self.data, self.entry = data, entry


class Checked(JobMessage):
    def __init__(self, health: Health) -> None:
        super().__init__()
        self.health = health


class Answered(JobMessage):
    """What a query found. asked: how it was read; since: the clock at the key press; filter: what stood in its box."""

    def __init__(self, asked: str, answer: Answer, since: float, filter: str) -> None:
        super().__init__()
        self.asked, self.answer, self.since, self.filter = asked, answer, since, filter


class Compared(JobMessage):
    """The recall of the last answer against exact search; None where words were asked for, which have no other."""

    def __init__(self, recall: float | None) -> None:
        super().__init__()
        self.recall = recall


class InvalidQuery(JobMessage):
    """What was typed makes no sense (yet); the reason names the part. position: of the fault in the filter box."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__()
        self.reason, self.position = reason, position


class EmptyQuery(JobMessage):
    """Nothing was asked. allowed: what the filter would let through, if there is one."""

    def __init__(self, allowed: FilterResult | None, filter: str) -> None:
        super().__init__()
        self.allowed, self.filter = allowed, filter


class InfoLoaded(JobMessage):
    """What a collection holds now."""

    def __init__(self, info: CollectionInfo) -> None:
        super().__init__()
        self.info = info


class QueriesReady(JobMessage):
    """data: what they are asked of."""

    def __init__(self, data: Data, wanted: QuerySetSpec, queries: Queries) -> None:
        super().__init__()
        self.data, self.wanted, self.queries = data, wanted, queries


class VariantReady(JobMessage):
    """A contender of the comparison is ready to be measured: an index, under the name of what is compared."""

    def __init__(self, data: Data, name: str, entry: IndexEntry) -> None:
        super().__init__()
        self.data, self.name, self.entry = data, name, entry


class Measured(JobMessage):
    def __init__(self, name: str, point: Point) -> None:
        super().__init__()
        self.name, self.point = name, point


class SweepDone(JobMessage):
    pass


class Exported(JobMessage):
    """Something was written to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
