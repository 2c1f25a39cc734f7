"""What is searched: an index in memory, or a collection, behind one interface."""

from __future__ import annotations
