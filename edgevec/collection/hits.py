"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .validation import Id

__all__ = ["Hit", "HitStats", "Hits", "Included"]

Included = Literal["metadata", "document"]
"""What a hit may hold beside id, score and distance."""


class HitStats(NamedTuple):
    """How a search was answered.

    Example:
        >>> import edgevec
        >>> with edgevec.open(":memory:", dim=2) as notes:
        ...     _ = notes.upsert(["a", "b"], [[1, 0], [0, 1]], [{"year": 1999}, {"year": 2020}])
        ...     stats = notes.search([1, 0], k=1, where="year >= 2000").stats
        >>> stats.strategy, stats.allowed
        ('exact', 1)
    """

    strategy: str
    """"graph", "exact" (a scan of what is allowed), "filtered_graph"; "text"; or two of them: "graph + text"."""
    allowed: int | None
    """Records that `where` allows; None without one, and where only a text was asked for."""
    visited: int
    """Nodes of the graph whose links were read."""
    distances: int
    """Distances computed."""
    vanished: int = 0
    """Results left out because something other than edgevec has deleted their records; others take their places.
    Collection.check() says more."""


@dataclass(slots=True)
class Hit:
    """A record that was found, as it was at the time of the search.

    Attributes:
        id: The record's id.
        score: More is better. A vector search: the cosine, the inner product, or minus the squared distance. A text
            search: BM25. Both: the fused score.
        distance: Of the vectors, as in `Index.search`: less is closer. None where only a text was asked for.
        metadata: The record's own copy; {} where `include=` leaves it out, and where it is damaged (check() finds it).
        document: The text; None where there is none, where `include=` leaves it out, and where it is damaged.

    Example:
        >>> import edgevec
        >>> with edgevec.open(":memory:", dim=2) as notes:
        ...     _ = notes.upsert(["a", "b"], [[1, 0], [0, 1]], [{"year": 1999}, {"year": 2020}])
        ...     notes.search([1, 0], k=1)
        [Hit(id='a', score=1.0, distance=0.0, metadata={'year': 1999}, document=None)]
    """

    id: Id
    score: float
    distance: float | None
    metadata: dict[str, Any] = field(default_factory=dict)
    document: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return {name: getattr(self, name) for name in ("id", "score", "distance", "metadata", "document")}


class Hits(list[Hit]):
    """Hits, best first.

    Attributes:
        stats: How they were found.

    Example:
        >>> import edgevec
        >>> with edgevec.open(":memory:", dim=2) as notes:
        ...     _ = notes.upsert(["a", "b"], [[1, 0], [0, 1]])
        ...     hits = notes.search([1, 0], k=5)
        >>> [hit.id for hit in hits], hits.stats.strategy
        (['a', 'b'], 'exact')
    """

    stats: HitStats
