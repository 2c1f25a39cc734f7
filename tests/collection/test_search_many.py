"""Many queries in one call, against as many calls of search() and against brute force in NumPy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgevec
from edgevec.collection import Collection, Hits

DIM = 8
WORDS = ["red", "Grün", "wolf", "東京", "tree", "café"]


def vectors(n: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((n, DIM), np.float32)


@pytest.fixture(scope="module")
def filled() -> Iterator[Collection]:
    with edgevec.open(":memory:", DIM) as made:
        words = np.random.default_rng(3).choice(WORDS, (600, 3))
        made.upsert(range(600), vectors(600, 1), [{"n": n, "of": [n]} for n in range(600)], [*map(" ".join, words)])
        made.delete(range(0, 600, 7))
        yield made


def same(many: list[Hits], single: list[Hits]) -> None:
    assert [[(hit.id, hit.metadata, hit.document) for hit in hits] for hits in many] == [
        [(hit.id, hit.metadata, hit.document) for hit in hits] for hits in single
    ]
    for ours, theirs in zip(many, single, strict=True):
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], rel=1e-5, abs=1e-5)
        assert [hit.distance is None for hit in ours] == [hit.distance is None for hit in theirs]
        known = [[hit.distance for hit in hits if hit.distance is not None] for hits in (ours, theirs)]
        assert known[0] == pytest.approx(known[1], rel=1e-5, abs=1e-5)
        assert (ours.stats.allowed, ours.stats.vanished) == (theirs.stats.allowed, theirs.stats.vanished)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    n=st.integers(0, 6),
    k=st.sampled_from([1, 10, 700]),
    by=st.sampled_from(["vector", "text", "both"]),
    where=st.sampled_from([None, "n < 40", "n < 0", "n % 2 = 0"]),
    weights=st.sampled_from([(1.0, 1.0), (0.0, 1.0), (2.0, 0.0)]),
    include=st.sampled_from([(), ("metadata",), ("metadata", "document")]),
    exact=st.booleans(),
)
def test_as_single_searches(
    filled: Collection, seed: int, n: int, k: int, by: str, where: Any, weights: Any, include: Any, exact: bool
) -> None:
    queries = None if by == "text" else vectors(n, seed)
    texts = None if by == "vector" else [*map(" ".join, np.random.default_rng(seed).choice(WORDS, (n, 2)))]
    if where == "n % 2 = 0":
        where = {"n": {"$in": [*range(0, 600, 2)]}}
    how: Any = {"where": where, "weights": weights, "include": include, "exact": exact}
    single = [
        filled.search(None if queries is None else queries[at], k, text=None if texts is None else texts[at], **how)
        for at in range(n)
    ]
    same(filled.search_many(queries, k, texts=texts, **how), single)


def test_as_brute_force(filled: Collection) -> None:
    stored, queries = vectors(600, 1), vectors(20, 5)
    left = np.array([n for n in range(600) if n % 7 and n >= 100])
    unit = stored[left] / np.linalg.norm(stored[left], axis=1, keepdims=True)
    similarity = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
    found = filled.search_many(queries, 9, where="n >= 100", exact=True)
    assert [[hit.id for hit in hits] for hits in found] == left[np.argsort(-similarity)[:, :9]].tolist()


def test_every_hit_has_metadata_of_its_own(filled: Collection) -> None:
    first, second = filled.search_many(vectors(1, 5).repeat(2, axis=0), 1)
    first[0].metadata["of"].append("changed")
    assert "changed" not in second[0].metadata["of"]


def test_in_an_open_batch(filled: Collection) -> None:
    queries = vectors(3, 8)
    with edgevec.open(":memory:", DIM) as made, made.batch():
        made.upsert(["a", "b"], queries[:2])
        same(made.search_many(queries, 5), [made.search(query, 5) for query in queries])
        assert [hits[0].id for hits in made.search_many(queries[:2], 1, include=())] == ["a", "b"]


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_a_reader_whose_graph_follows_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = vectors(30, 4)
    with edgevec.open(path, DIM) as writer:
        writer.upsert(range(500), vectors(500, 1), [{"n": n} for n in range(500)])
        with edgevec.open(path, mode="r") as reader:
            monkeypatch.setattr(reader._store.follower, "wake", lambda: None)  # or it may take in all of it before
            writer.upsert(range(400, 530), vectors(130, 2), [{"n": n} for n in range(400, 530)])
            for k, where in ((10, None), (5, "n >= 450"), (5, "n < 0")):
                many = reader.search_many(queries, k, where=where, exact=True)
                assert reader._store.graph.behind is not None
                same(many, [reader.search(query, k, where=where, exact=True) for query in queries])
                same(many, [writer.search(query, k, where=where, exact=True) for query in queries])
            every = reader.search_many(queries, 600)
            assert [sorted(hit.id for hit in hits) for hits in every] == [[*range(530)]] * 30


def test_records_that_are_gone_are_replaced(path: Path) -> None:
    queries = vectors(4, 1)
    with edgevec.open(path, DIM) as made:
        made.upsert(range(50), vectors(50, 1))
        made._store.database.main.execute("DELETE FROM records WHERE id IN (0, 1)")
        for include in ((), ("metadata",)):
            found = made.search_many(queries, 3, include=include)
            assert [len(hits) for hits in found] == [3] * 4
            assert not {0, 1} & {hit.id for hits in found for hit in hits}


def test_texts_are_encoded_in_one_call() -> None:
    calls: list[int] = []

    def encoder(texts: list[str]) -> Any:
        calls.append(len(texts))
        return [[len(text), 1] for text in texts]

    with edgevec.open(":memory:", encoder=encoder) as made:
        made.upsert(["a", "b"], documents=["ab", "abcdefgh"])
        calls.clear()
        assert [hits[0].id for hits in made.search_many(["xy", "xyxyxyxy", "Ä東"], 1)] == ["a", "b", "a"]
        assert calls == [3]
        same(made.search_many(texts=["ab", "none"]), [made.search(text=text) for text in ("ab", "none")])
        assert made.search_many([]) == made.search_many(texts=[]) == []


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, edgevec.ParameterError, "give vectors or texts"),
        ({"vectors": np.ones(DIM)}, edgevec.ParameterError, "one query a row"),
        ({"vectors": np.ones((2, DIM + 1))}, edgevec.ParameterError, "dimensions"),
        ({"vectors": np.diag([1, 1, 1, np.nan] + [1] * 4)}, edgevec.NotFiniteError, "query 3:"),
        ({"vectors": np.diag([1, 1, 0, 1] + [1] * 4)}, edgevec.ZeroVectorError, "query 2:"),
        ({"texts": "word"}, edgevec.ParameterError, "sequence of strings"),
        ({"texts": ["word", 5]}, edgevec.ParameterError, "query 1:"),
        ({"vectors": np.ones((2, DIM)), "texts": ["word"]}, edgevec.ParameterError, "2 vectors but 1 texts"),
        ({"vectors": ["a text"]}, edgevec.ParameterError, "encoder"),
        ({"texts": ["word"], "where": "n >"}, edgevec.WhereError, "n >"),
        ({"texts": ["word"], "k": 0}, edgevec.ParameterError, "k"),
    ],
)
def test_what_is_wrong_is_named(filled: Collection, arguments: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        filled.search_many(**arguments)


def test_closed_and_empty() -> None:
    with edgevec.open(":memory:") as made:
        assert made.search_many(np.ones((2, 3)), 5) == [[], []]
        assert made.search_many(np.empty((0, 3))) == []
    for queries in (np.ones((2, 3)), np.empty((0, 3))):
        with pytest.raises(edgevec.ClosedError):
            made.search_many(queries)


@pytest.mark.threads
def test_all_answers_are_of_one_state(path: Path) -> None:
    """A writer replaces all records at once: answers of two states would hold two numbers."""
    one = vectors(40, 1)
    with edgevec.open(path, DIM) as made:
        made.upsert(range(40), one, [{"round": 0}] * 40, ["wolf"] * 40)
        done = threading.Event()

        def write() -> None:
            for number in range(1, 40):
                made.upsert(range(40), one, [{"round": number}] * 40, ["wolf"] * 40)
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while not done.is_set():
                found = made.search_many(one, 3, texts=["wolf"] * 40)
                assert len({hit.metadata["round"] for hits in found for hit in hits}) == 1
        finally:
            writer.join()
