"""Sharded indexes on a Ray cluster: pip install 'edgevec[ray]'. Built by tasks, served by actors, asked by Ray Data."""

from __future__ import annotations

from .asking import ServiceStats
from .building import build
from .data import Search
from .serving import Service, serve

__all__ = ["Search", "Service", "ServiceStats", "build", "serve"]
