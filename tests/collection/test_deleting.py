"""Deleting and nothing else: the graph leads links around what is deleted, of a writer and of a reader."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from oracle import Rows

import edgevec
from edgevec.collection import Collection
from edgevec.collection.following import Follower

DIM, ROWS, GONE, K = 12, 4000, 3000, 10


def dead(made: Collection) -> int:
    index = made._store.graph.index
    assert index is not None
    return index.stats()["dead"]


def fill(made: Collection, rng: np.random.Generator) -> Rows:
    vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    made.upsert(range(ROWS), vectors, [{"part": id * 4 // ROWS} for id in range(ROWS)])
    return vectors


def assert_found(made: Collection, vectors: Rows, rng: np.random.Generator) -> None:
    """Those from GONE on are left: nearly all of the nearest are found, and none of the others."""
    hits = 0
    for query in rng.standard_normal((50, DIM)).astype(np.float32):
        truth = GONE + np.argsort(((vectors[GONE:].astype(np.float64) - query) ** 2).sum(1))[:K]
        found = {hit.id for hit in made.search(query, K, ef=100)}
        assert min(found) >= GONE
        hits += len(found & set(truth.tolist()))
    assert hits >= 0.95 * 50 * K


@pytest.mark.parametrize("how", ["ids", "where", "batches"])
def test_what_a_writer_deletes(how: str, rng: np.random.Generator) -> None:
    with edgevec.open(":memory:", DIM, "l2") as made:
        vectors = fill(made, rng)
        if how == "ids":
            assert made.delete(range(GONE)) == GONE
        elif how == "where":
            assert made.delete(where={"part": {"$lt": 3}}) == GONE
        else:
            for start in range(0, GONE, 50):
                with made.batch():
                    made.delete(range(start, start + 50))
                assert dead(made) < 0.75 * len(made)
        assert dead(made) == 0 if how != "batches" else dead(made) < len(made) / 2
        assert_found(made, vectors, rng)
        assert made.check().ok


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_what_another_deletes(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of a reader does not wait for it: the thread does it that lets the graph follow."""
    woken: list[Follower] = []
    monkeypatch.setattr(Follower, "wake", lambda self: woken.append(self))
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, DIM, "l2", durability="fast") as made, edgevec.open(path, mode="r") as reader:
        vectors = fill(made, rng)
        reader.refresh()
        assert not woken
        made.delete(range(GONE))
        assert_found(reader, vectors, rng)
        assert dead(reader) == GONE
        assert woken
        assert reader._store._follow(10) == 0
        assert dead(reader) == 0
        woken.clear()
        assert_found(reader, vectors, rng)
        assert not woken
        assert reader.check().ok
