"""Queries for the screens that measure: where they come from, and getting them ready on a worker."""

from __future__ import annotations

from edgevec.readers import SUFFIXES

from .. import workers
from ..messages import QueriesReady
from ..models import Data, QuerySetSpec
from .base import BaseScreen

__all__ = ["FILE_ENDINGS", "FROM_FILE", "prepare", "sources"]

FROM_FILE = "file …"
FILE_ENDINGS = SUFFIXES


def sources(data: Data) -> list[str]:
    """What can be asked: random rows, the data's own test set, or a file's vectors."""
    return ["rows", *(["test set"] if data.queries is not None else []), FROM_FILE]


def prepare(place: BaseScreen, wanted: QuerySetSpec) -> None:
    """Get queries and their truth; the place is told with QueriesReady."""
    data, backend, engine = place.session.data, place.session.backend, place.host.engine
    if data is None or backend is None:
        return

    def work(job: workers.Job) -> QueriesReady | None:
        allowed = backend.filters(data)(wanted.filter)
        queries = engine.queries(data, backend, wanted.source, job.progress, allowed=allowed)
        return None if queries is None else QueriesReady(data, wanted, queries)

    place.job("queries", work, "The queries cannot be used")
