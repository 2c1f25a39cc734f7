"""Shards on a Ray cluster: pip install 'edgevec[ray]'. Tasks build them; actors and Ray Data search an index."""

from __future__ import annotations

from .asking import ServiceStats
from .building import build
from .collections import build_collection
from .data import Search
from .serving import Service, serve

__all__ = ["Search", "Service", "ServiceStats", "build", "build_collection", "serve"]
