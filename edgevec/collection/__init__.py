"""A small vector database: records with metadata and documents around an index, in one SQLite file.

    with edgevec.open("notes.edgevec", dim=384) as notes:
        notes.upsert(["a", "b"], vectors, [{"year": 1999}, {"year": 2020}], ["a text", "another"])
        hits = notes.search(query, k=5, where="year >= 2000")

Layers, from the ground: `dates`, `words` and `interrupts`; `sqlite_errors`; `sql`, `validation`, `locking` and
`threads`; `schema`, `identify` and `database`; `records`, `changes`, `damage` and `fulltext`, which are SQL; `where`,
which compiles to it; `snapshot` and `graph`, which are derived from the records; `store`, which keeps all in step;
`filters`, `hits`, `search`, `maintenance`, `encoding` and `operations` on top of it; `collection`, the public
class; and `factory`, which opens one.
"""

from __future__ import annotations

from ..encoders import Encoder
from .collection import Collection
from .factory import open
from .hits import Hit, Hits, HitStats
from .identify import looks_like_collection
from .maintenance import CollectionReport
from .records import Plan, Record

__all__ = [
    "Collection",
    "CollectionReport",
    "Encoder",
    "Hit",
    "HitStats",
    "Hits",
    "Plan",
    "Record",
    "looks_like_collection",
    "open",
]
