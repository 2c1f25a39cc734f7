"""An index in several files, its shards, which are searched together: more than one machine builds, or memory holds.

A folder has the shards, ordinary index files that never change, and a manifest that says which of them count.
"""

from __future__ import annotations

from .context import ShardContext, ShardStats
from .index import Missing, ShardedIndex
from .manifest import MANIFEST, Centroids, Manifest, Removed, Settings, Shard
from .writing import kind_of_shards

__all__ = [
    "MANIFEST",
    "Centroids",
    "Manifest",
    "Missing",
    "Removed",
    "Settings",
    "Shard",
    "ShardContext",
    "ShardStats",
    "ShardedIndex",
    "kind_of_shards",
]
