"""Queries for the screens that measure: where they come from, and getting them ready on a worker."""

from __future__ import annotations

from edgevec.readers import SUFFIXES

from .. import workers
from ..messages import QueriesReady
from ..models import Data, Wanted
from .base import Place

__all__ = ["FILE_ENDINGS", "FROM_FILE", "prepare", "sources"]

FROM_FILE = "file …"
FILE_ENDINGS = SUFFIXES


def sources(data: Data) -> list[str]:
    """What can be asked: random rows, the data's own test set, or a file's vectors."""
    return ["rows", *(["test set"] if data.queries is not None else []), FROM_FILE]


def prepare(place: Place, wanted: Wanted) -> None:
    """Get queries and their truth; the place is told with QueriesReady."""
    data, searcher, engine = place.session.data, place.session.searcher, place.host.engine
    if data is None or searcher is None:
        return

    def work(job: workers.Job) -> QueriesReady | None:
        allowed = searcher.filters(data)(wanted.filter)
        queries = engine.queries(data, searcher, wanted.source, job.progress, allowed=allowed)
        return None if queries is None else QueriesReady(data, wanted, queries)

    place.job("queries", work, "The queries cannot be used")
