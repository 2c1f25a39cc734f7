"""The stages of a case, each of which VectorDBBench runs in processes of its own that get the client by pickling."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def insert(db: Any, vectors: Any, labels: Any, batch: int) -> int:
    with db.init(), ThreadPoolExecutor(2) as threads:
        starts = range(0, len(vectors), batch)
        return sum(threads.map(lambda start: _insert(db, vectors, labels, start, start + batch), starts))


def _insert(db: Any, vectors: Any, labels: Any, start: int, end: int) -> int:
    ids = list(range(start, min(end, len(vectors))))
    count, error = db.insert_embeddings(
        embeddings=vectors[start:end].tolist(), metadata=ids, labels_data=labels[start:end]
    )
    if error is not None:
        raise error
    return count


def optimize(db: Any) -> None:
    with db.init():
        db.optimize(data_size=None)


def search(db: Any, filters: Any, queries: Any, k: int, ahead: bool) -> list[list[int]]:
    """ahead: the filter is told before init() too, as readers beside each other get it; the one for recall does not."""
    if ahead:
        with contextlib.suppress(Exception):
            db.prepare_filter(filters)
    with db.init():
        db.prepare_filter(filters)
        return [db.search_embedding(query, k) for query in queries.tolist()]
