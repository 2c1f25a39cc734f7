"""Shards on a Ray cluster: pip install 'edgevec[ray]'. Tasks build them; actors and Ray Data search them."""

from __future__ import annotations

from .asking import ServiceStats
from .building import build
from .collection_serving import CollectionService, serve_collection
from .collections import build_collection
from .data import Search, SearchCollection
from .serving import Service, serve

__all__ = [
    "CollectionService",
    "Search",
    "SearchCollection",
    "Service",
    "ServiceStats",
    "build",
    "build_collection",
    "serve",
    "serve_collection",
]
