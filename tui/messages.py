"""The messages that jobs post to their screen, while they run and when they end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from .errors import ErrorMessage
from .file_stamp import Stamp
from .models import Answer, CollectionInfo, Data, FilterResult, Health, Queries, QuerySetSpec
from .session import IndexEntry

if TYPE_CHECKING:
    from edgevec.evaluation import Point

__all__ = [
    "Answered",
    "Built",
    "Checked",
    "Compared",
    "EmptyQuery",
    "Exported",
    "Failed",
    "FileOpened",
    "FolderChosen",
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
    """A job ended with an error."""

    group: str
    error: ErrorMessage


@dataclass(eq=False)
class FileOpened(JobMessage):
    """A file was opened.

    path    None for the sample
    entry   the index, if the file is one or one was built with the data
    stamps  of the files that were read, taken before reading
    """

    path: Path | None
    data: Data
    entry: IndexEntry | None
    stamps: Mapping[Path, Stamp | None] | None = None


@dataclass(eq=False)
class FolderChosen(JobMessage):
    """What was to be opened is a folder that is no index of shards."""

    path: Path


@dataclass(eq=False)
class Built(JobMessage):
    """An index over `data` was built."""

    data: Data
    entry: IndexEntry


@dataclass(eq=False)
class Checked(JobMessage):
    """The index in use was checked."""

    health: Health


@dataclass(eq=False)
class Answered(JobMessage):
    """A query was answered. description: how it was understood; since: the clock at the key press; filter: as typed."""

    description: str
    answer: Answer
    since: float
    filter: str


@dataclass(eq=False)
class Compared(JobMessage):
    """The last answer was compared with exact search. recall is None where it was not, and `why` says why not."""

    recall: float | None
    why: str = ""


@dataclass(eq=False)
class InvalidQuery(JobMessage):
    """What was typed is not valid (yet). position: of the error in the filter box; None if it is in the query box."""

    reason: str
    position: int | None = None


@dataclass(eq=False)
class EmptyQuery(JobMessage):
    """The query box is empty. filter_result: what passes the filter, if there is one."""

    filter_result: FilterResult | None
    filter: str


@dataclass(eq=False)
class InfoLoaded(JobMessage):
    """The sizes and counts of a collection were read."""

    info: CollectionInfo


@dataclass(eq=False)
class QueriesReady(JobMessage):
    """Queries over `data` and their true answers are ready."""

    data: Data
    spec: QuerySetSpec
    queries: Queries


@dataclass(eq=False)
class VariantReady(JobMessage):
    """An index of the comparison is built and will be measured. name: of the quantization, SIMD path or filter."""

    data: Data
    name: str
    entry: IndexEntry


@dataclass(eq=False)
class Measured(JobMessage):
    """One point of a curve of the comparison was measured."""

    name: str
    point: Point


class SweepDone(JobMessage):
    """The comparison is complete."""


@dataclass(eq=False)
class Exported(JobMessage):
    """A file was written."""

    path: Path
