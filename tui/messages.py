"""The messages in which jobs end, and those that they send on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from edgevec.evaluation import Point

from .errors import ErrorMessage
from .file_stamp import Stamp
from .models import Answer, CollectionInfo, Data, FilterResult, Health, Queries, QuerySetSpec
from .session import IndexEntry

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


@dataclass(eq=False)
class Progressed(JobMessage):
    """How far a job is; at most ten a second."""

    group: str
    done: int
    total: int
    now: float


@dataclass(eq=False)
class Failed(JobMessage):
    group: str
    error: ErrorMessage


@dataclass(eq=False)
class FileOpened(JobMessage):
    """path: None for the sample; entry: the index, when the file is one or one was built along; stamps: of the files
    that were read, as they were before."""

    path: Path | None
    data: Data
    entry: IndexEntry | None
    stamps: Mapping[Path, Stamp | None] | None = None


@dataclass(eq=False)
class Built(JobMessage):
    """data: what the index is of."""

    data: Data
    entry: IndexEntry


@dataclass(eq=False)
class Checked(JobMessage):
    health: Health


@dataclass(eq=False)
class Answered(JobMessage):
    """What a query found. description: how it was read; since: the clock at the key press; filter: as it was typed."""

    description: str
    answer: Answer
    since: float
    filter: str


@dataclass(eq=False)
class Compared(JobMessage):
    """The recall of the last answer against exact search; None where words were asked for, which have no other."""

    recall: float | None


@dataclass(eq=False)
class InvalidQuery(JobMessage):
    """What was typed makes no sense (yet); the reason names the part. position: of the fault in the filter box."""

    reason: str
    position: int | None = None


@dataclass(eq=False)
class EmptyQuery(JobMessage):
    """Nothing was asked. allowed: what the filter would let through, if there is one."""

    allowed: FilterResult | None
    filter: str


@dataclass(eq=False)
class InfoLoaded(JobMessage):
    """What a collection holds now."""

    info: CollectionInfo


@dataclass(eq=False)
class QueriesReady(JobMessage):
    """data: what they are asked of."""

    data: Data
    wanted: QuerySetSpec
    queries: Queries


@dataclass(eq=False)
class VariantReady(JobMessage):
    """A contender of the comparison is ready to be measured: an index, under the name of what is compared."""

    data: Data
    name: str
    entry: IndexEntry


@dataclass(eq=False)
class Measured(JobMessage):
    name: str
    point: Point


class SweepDone(JobMessage):
    pass


@dataclass(eq=False)
class Exported(JobMessage):
    """Something was written to a file."""

    path: Path
