"""A collection in several files, its shards, which are searched together: more than one machine builds or holds.

A folder has the shards, ordinary collections that never change, and a manifest that says which of them count.
"""

from __future__ import annotations

from .collection import ShardedCollection
from .manifest import CollectionManifest, CollectionSettings, CollectionShard

__all__ = ["CollectionManifest", "CollectionSettings", "CollectionShard", "ShardedCollection"]
