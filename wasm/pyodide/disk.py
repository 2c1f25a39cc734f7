"""Runs inside Pyodide, with a folder of the disk at /disk: keeps an index and a collection; what is read, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import edgevec

DISK = Path("/disk")
rows = np.random.default_rng(7).standard_normal((2000, 32), dtype=np.float32)


def keep() -> None:
    index = edgevec.Index(32, metric="l2")
    for half in (rows[:1000], rows[1000:]):
        index.add(half)
        index.save(DISK / "rows.ev")  # the second time over the first
    with edgevec.open(DISK / "notes.edgevec", dim=32, metric="l2") as notes:
        notes.upsert(range(2000), rows, [{"year": 1900 + row % 120} for row in range(2000)])
        notes.delete(where="year < 1910")


def read() -> dict[str, Any]:
    with edgevec.open(DISK / "notes.edgevec", dim=32) as notes:
        hits = [hit.id for hit in notes.search(rows[0], 5, where="year > 2000")]
        whole = notes.check().ok
    ids = edgevec.Index.load(DISK / "rows.ev").search(rows[:50], k=1, ef=200).ids[:, 0]
    return {"rows": ids.tolist(), "hits": hits, "whole": whole}


first = not (DISK / "rows.ev").exists()
if first:
    keep()
json.dumps({"kept now": first, **read()})
