"""A small vector database: records with metadata and documents around an index, in one SQLite file.

    with edgevec.open("notes.edgevec", dim=384) as notes:
        notes.upsert(["a", "b"], vectors, [{"year": 1999}, {"year": 2020}], ["a text", "another"])
        hits = notes.search(query, k=5, where="year >= 2000")

Floors, from the ground: `dates`, `words` and `sqlite_errors`; `schema`, `files`, `identify` and `locking`; `database`
and `values`; `records`, `journal`, `damage` and `fulltext`, which are SQL; `where`, which compiles to it; `snapshot`,
`ids` and `graph`, which follow the records; `unread` and `commits`, what results in someone's hand and kept conditions
need of the past; `store`, which keeps all in step; `filters`, `hits`, `searching` and `upkeep` on top of it; and
`collection`, the public class.
"""

from __future__ import annotations

from .collection import Collection, Encoder, Plan
from .factory import open
from .hits import Hit, Hits, HitStats
from .identify import looks_like_collection
from .maintenance import CollectionReport
from .records import Record

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
