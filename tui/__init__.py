"""The terminal app of edgevec: load vectors, search them, watch latency and recall. Installed as edgevec.tui."""

from __future__ import annotations
