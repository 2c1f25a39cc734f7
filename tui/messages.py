"""What workers tell screens."""

from __future__ import annotations

from pathlib import Path

from textual.message import Message

from edgevec.index import Metric
from edgevec.measure import Point

from .model import Answer, Data, Floats, Health, Queries
from .session import Entry
from .trouble import Trouble

__all__ = [
    "Advanced",
    "Answered",
    "Built",
    "Checked",
    "Compared",
    "Contender",
    "Exported",
    "Failed",
    "FileOpened",
    "Measured",
    "Nothing",
    "QueriesReady",
    "SweepDone",
    "Unclear",
]


class JobMessage(Message, bubble=False):
    """From a job to the node that started it."""


class Advanced(JobMessage):
    """How far a job is; at most ten a second."""

    def __init__(self, group: str, done: int, total: int, now: float) -> None:
        super().__init__()
        self.group, self.done, self.total, self.now = group, done, total, now


class Failed(JobMessage):
    def __init__(self, group: str, trouble: Trouble) -> None:
        super().__init__()
        self.group, self.trouble = group, trouble


class FileOpened(JobMessage):
    """path: None for the sample; entry: the index, when the file is one or one was built along."""

    def __init__(self, path: Path | None, data: Data, entry: Entry | None) -> None:
        super().__init__()
        self.path, self.data, self.entry = path, data, entry


class Built(JobMessage):
    """data: what the index is of."""

    def __init__(self, data: Data, entry: Entry) -> None:
        super().__init__()
        self.data, self.entry = data, entry


class Checked(JobMessage):
    def __init__(self, health: Health) -> None:
        super().__init__()
        self.health = health


class Answered(JobMessage):
    """What a query found. asked: what was typed; vector: the query; since: the clock at the key press."""

    def __init__(self, asked: str, vector: Floats, answer: Answer, since: float) -> None:
        super().__init__()
        self.asked, self.vector, self.answer, self.since = asked, vector, answer, since


class Compared(JobMessage):
    """The recall of the last answer against exact search."""

    def __init__(self, recall: float) -> None:
        super().__init__()
        self.recall = recall


class Unclear(JobMessage):
    """What was typed makes no sense (yet); the reason names the part."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class Nothing(JobMessage):
    """Nothing was asked."""


class QueriesReady(JobMessage):
    """data: what they are asked of; source and metric: what was wanted."""

    def __init__(self, data: Data, source: str, metric: Metric, queries: Queries) -> None:
        super().__init__()
        self.data, self.source, self.metric, self.queries = data, source, metric, queries


class Contender(JobMessage):
    """A contender of the comparison is ready to be measured: an index, under the name of what is compared."""

    def __init__(self, data: Data, name: str, entry: Entry) -> None:
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
