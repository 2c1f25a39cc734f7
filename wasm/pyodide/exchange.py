"""Indexes of every kind from one input, natively and inside Pyodide, so that the two can be compared."""

from __future__ import annotations

import base64
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevec import Index

METRICS = ("cosine", "ip", "l2")
QUANTIZATIONS = ("none", "sq8", "binary")
KINDS = [
    f"{metric}-{quantization}-{kept}"
    for metric, quantization, kept in itertools.product(METRICS, QUANTIZATIONS, ("vectors", "codes"))
    if (quantization, kept) != ("none", "codes")
]
QUERIES = 20


def build(kind: str, vectors: NDArray[np.float32]) -> Index:
    """An index that has seen additions, replacements, removals and compaction, by one thread."""
    metric, quantization, kept = kind.split("-")
    index = Index(vectors.shape[1], metric, quantization=quantization, seed=7, keep_vectors=kept == "vectors")  # type: ignore[arg-type]
    half = len(vectors) // 2
    index.add(vectors[:half], threads=1)
    index.remove(np.arange(0, half, 7))
    index.add(vectors[half:], threads=1)
    index.add(vectors[:50], np.arange(100, 150), threads=1)
    index.compact()
    index.add(vectors[:20], threads=1)
    return index


def answers(index: Index, vectors: NDArray[np.float32]) -> dict[str, Any]:
    found = index.search(vectors[-QUERIES:], 10, ef=100, threads=1)
    return {"ids": found.ids.tolist(), "distances": found.distances.tolist()}


def exchange(folder: Path) -> str:
    """Build and save every kind, load the other side's files, and tell what came of both."""
    vectors = np.load(folder / "vectors.npy")
    result = {}
    for kind in KINDS:
        built = build(kind, vectors)
        built.save(folder / "own")
        loaded = Index.load(folder / kind)
        result[kind] = {
            "file": base64.b64encode((folder / "own").read_bytes()).decode(),
            "built": answers(built, vectors),
            "loaded": answers(loaded, vectors),
        }
    return json.dumps(result)


exchange(Path("/tmp")) if sys.platform == "emscripten" else None
