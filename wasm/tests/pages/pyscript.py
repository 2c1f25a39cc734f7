"""Runs in PyScript, in the page and in a worker: an index against NumPy, a collection with conditions as texts."""

from __future__ import annotations

import json
import sys

import numpy as np
from pyscript import RUNNING_IN_WORKER, document

import edgevec

rows = np.random.default_rng(7).standard_normal((2000, 32), dtype=np.float32)
queries = rows[:20] + np.float32(0.05)
index = edgevec.Index(32, metric="l2")
index.add(rows)
found = index.search(queries, k=5, ef=200)
by_numpy = np.argsort(((queries[:, None] - rows) ** 2).sum(axis=2), axis=1)[:, :5]

with edgevec.open("/notes.edgevec", dim=32, metric="l2") as notes:
    notes.upsert(range(2000), rows, [{"year": 1900 + row % 120} for row in range(2000)])
    young = [hit.id for hit in notes.search(rows[0], 5, where="year > 2000 AND NOT year = 2005")]
with edgevec.open("/notes.edgevec") as notes:
    count = notes.count("year BETWEEN 1950 AND 1959")

allowed = [row for row in range(2000) if row % 120 > 100 and row % 120 != 105]
nearest = sorted(allowed, key=lambda row: float(((rows[row] - rows[0]) ** 2).sum()))[:5]
result = {
    "numpy": np.__version__,
    "simd": edgevec.simd_info().active,
    "ids": found.ids.tolist() == by_numpy.tolist(),
    "where": young == nearest,
    "count": count == sum(50 <= row % 120 < 60 for row in range(2000)),
    "lark": "lark" in sys.modules,
}
document.querySelector("#worker" if RUNNING_IN_WORKER else "#page").textContent = json.dumps(result)
