"""The two kinds of search backend, an index and a collection, behind one protocol."""

from __future__ import annotations
