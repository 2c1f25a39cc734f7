"""What a search returns."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

from .records import as_fields, listed
from .unread import Details
from .validation import Id

__all__ = ["Hit", "HitStats", "Hits"]


log = logging.getLogger("edgevec")


class HitStats(NamedTuple):
    """How a search was answered."""

    strategy: str
    """"graph", "exact" (a scan of what is allowed), "filtered_graph"; "text"; or two of them: "graph + text"."""
    allowed: int | None
    """Records that `where` allows; None without one, and where only a text was asked for."""
    visited: int
    """Nodes of the graph whose links were read."""
    distances: int
    """Distances computed."""
    vanished: int = 0
    """What the search met and left out, since its record is gone: something other than edgevec deleted it. Nothing
    else is left out for it; check() says more."""


class Hit:
    """A record that was found.

    Attributes:
        score: more is better. A vector search: the cosine, the inner product, or minus the squared distance. A text
            search: BM25. Both: the fused score.
        distance: of the vectors, as in Index.search: less is closer. None where only a text was asked for.
        metadata, document: as they were at the time of the search, whatever has become of the record since. They
            are read for all hits of a result together when they are first asked for, or before the collection
            changes or closes. Damaged metadata are {}, and a document that is no text is None; check() finds both.
    """

    __slots__ = ("_details", "_metadata", "_row", "distance", "id", "score")

    def __init__(self, id: Id, score: float, distance: float | None, row: int, details: Details) -> None:
        self.id = id
        self.score = score
        self.distance = distance
        self._row = row
        self._details = details
        self._metadata: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        if self._metadata is None:
            fields = as_fields(self._details.of(self._row)[1])
            if fields is None:
                log.warning("the metadata of the record with %s are damaged and count as none", listed([self.id]))
            self._metadata = fields or {}
        return self._metadata

    @property
    def document(self) -> str | None:
        document = self._details.of(self._row)[2]
        return document if isinstance(document, str) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.id, self.score, self.distance, json.dumps(self.metadata), self.document)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("id", "score", "distance", "metadata", "document")}

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Hit) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Hit({', '.join(f'{name}={value!r}' for name, value in self.as_dict().items())})"


class Hits(list[Hit]):
    """Hits, best first, and how they were found."""

    stats: HitStats


def _restored(id: Id, score: float, distance: float | None, metadata: str, document: str | None) -> Hit:
    return Hit(id, score, distance, 0, Details((0,), {0: (id, metadata, document)}))
