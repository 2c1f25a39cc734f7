"""Search by text, by both and within conditions, against BM25, rank fusion and brute force in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from oracle import clustered, unit

import edgevec
from edgevec.collection.search import reciprocal_rank

DIM = 16
WORDS = np.array(["red", "green", "blue", "wolf", "tree", "stone", "river", "cloud", "rare"])
CHANCE = np.array([8, 7, 6, 5, 4, 3, 2, 2, 0.3])


class World:
    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(5)
        self.vectors = clustered(rng, n, DIM)
        self.texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12), p=CHANCE / CHANCE.sum())) for _ in range(n)]
        self.metadata = [{"n": at, "kind": "abc"[at % 3]} for at in range(n)]
        self.db = edgevec.open(":memory:", DIM)
        self.db.upsert(range(n), self.vectors, self.metadata, self.texts)

    def nearest(self, query: Any, k: int, ids: Any) -> list[int]:
        similarity = unit(self.vectors[ids]) @ unit(query)
        return [int(ids[at]) for at in np.argsort(-similarity)[:k]]

    def bm25(self, words: list[str]) -> dict[int, float]:
        """Robertson's formula with k1 = 1.2 and b = 0.75, as SQLite documents it."""
        counts = [Counter(text.split()) for text in self.texts]
        average = sum(sum(count.values()) for count in counts) / len(counts)
        scores: dict[int, float] = {}
        for word in words:
            holders = sum(word in count for count in counts)
            idf = max(1e-6, math.log((len(counts) - holders + 0.5) / (holders + 0.5)))
            for at, count in enumerate(counts):
                if f := count[word]:
                    length = sum(count.values())
                    gain = idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * length / average))
                    scores[at] = scores.get(at, 0) + gain
        return scores


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(3000)
    yield made
    made.db.close()


@pytest.mark.parametrize(
    "text", ["rare", "wolf river", "Cloud, STONE!", "red red rare", "unknown rare", 'rare" OR "wolf']
)
def test_texts_are_ranked_by_bm25(world: World, text: str) -> None:
    words = list(dict.fromkeys("".join(c if c.isalpha() else " " for c in text.lower()).split()))
    scores = world.bm25(words)
    hits = world.db.search(text=text, k=3000)
    assert {hit.id for hit in hits} == scores.keys()
    np.testing.assert_allclose([hit.score for hit in hits], [scores[hit.id] for hit in hits], rtol=1e-6)
    np.testing.assert_allclose([hit.score for hit in hits], sorted(scores.values(), reverse=True), rtol=1e-6)
    assert all(hit.distance is None for hit in hits)
    assert hits.stats.strategy == "text"


def test_text_within_a_condition(world: World) -> None:
    wanted = [hit.id for hit in world.db.search(text="wolf rare", k=3000) if hit.id % 3 == 1]
    assert [hit.id for hit in world.db.search(text="wolf rare", k=7, where="kind = 'b'")] == wanted[:7]
    assert world.db.search(text="wolf", where="n < 0") == []
    assert world.db.search(text="", k=3) == []
    assert world.db.search(text="?! -- *", k=3) == []


def test_words_of_other_languages() -> None:
    with edgevec.open(":memory:", 2) as made:
        made.upsert([1, 2, 3], np.eye(3, 2) + 1, documents=["Größe der Bäume", "naïve café", "дерево и река"])
        assert [hit.id for hit in made.search(text="große")] == [1]
        assert [hit.id for hit in made.search(text="CAFE")] == [2]
        assert [hit.id for hit in made.search(text="Река")] == [3]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.2), (0.1, 2.0)])
@pytest.mark.parametrize("where", [None, "kind = 'b'"])
def test_both_are_fused_by_rank(world: World, weights: tuple[float, float], where: str | None) -> None:
    query = world.vectors[17]
    near = [hit.id for hit in world.db.search(query, 100, where=where, exact=True)]
    said = [hit.id for hit in world.db.search(text="rare wolf", k=100, where=where)]
    scores: dict[Any, float] = {}
    for ranking, weight in zip((near, said), weights, strict=True):
        for rank, id in enumerate(ranking, 1):
            scores[id] = scores.get(id, 0) + weight / (60 + rank)
    hits = world.db.search(query, 20, text="rare wolf", where=where, weights=weights, exact=True)
    assert len(hits) == 20
    np.testing.assert_allclose([hit.score for hit in hits], sorted(scores.values(), reverse=True)[:20])
    np.testing.assert_allclose([hit.score for hit in hits], [scores[hit.id] for hit in hits])
    similarity = unit(world.vectors[[hit.id for hit in hits]]) @ unit(query)
    np.testing.assert_allclose([hit.distance for hit in hits], 1 - similarity, atol=1e-5)
    assert hits.stats.strategy == "exact + text"


def test_a_weight_of_zero_leaves_a_ranking_out(world: World) -> None:
    query = world.vectors[3]
    alone = world.db.search(query, 10)
    assert world.db.search(query, 10, text="rare", weights=(1, 0)) == alone
    assert world.db.search(query, 10, text="rare", weights=(0, 1)) == world.db.search(text="rare", k=10)


def test_fused_ranks_are_those_computed_by_hand() -> None:
    assert reciprocal_rank([[1, 2], [2, 3]], [1, 1]) == [(2, 1 / 62 + 1 / 61), (1, 1 / 61), (3, 1 / 62)]
    assert reciprocal_rank([[], []], [1, 1]) == []


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        ("n < 0", range(0)),
        ("n < 5", range(5)),
        ("n < 60", range(60)),
        ("kind = 'a'", range(0, 3000, 3)),
        ("n >= 100", range(100, 3000)),
    ],
)
def test_exactly_as_many_as_there_are(world: World, where: str, allowed: range) -> None:
    found = right = 0
    for query in world.vectors[::100] + 0.01:
        hits = world.db.search(query, 10, where=where, ef=100)
        assert len(hits) == min(10, len(allowed))
        assert hits.stats.allowed == len(allowed)
        true = world.nearest(query, 10, np.array(allowed)) if allowed else []
        found += len(set(true) & {hit.id for hit in hits})
        right += len(true)
    assert found >= 0.97 * right


def test_stats_name_the_strategy(world: World) -> None:
    query = world.vectors[0]
    assert world.db.search(query).stats.strategy == "graph"
    assert world.db.search(query, exact=True).stats.strategy == "exact"
    few, many = world.db.search(query, where="n < 20").stats, world.db.search(query, where="n > 20").stats
    assert (few.strategy, few.allowed, few.distances) == ("exact", 20, 20)
    assert (many.strategy, many.allowed) == ("filtered_graph", 2979)
    assert 0 < many.distances < 2979


def test_a_cached_filter_follows_the_records() -> None:
    with edgevec.open(":memory:", 2) as made:
        made.upsert(range(100), np.ones((100, 2)), [{"n": n} for n in range(100)])
        for n in range(0, 100, 10):
            assert made.search([1, 1], 200, where="n >= 0").stats.allowed == 100 - n
            made.upsert(range(n, n + 10), np.ones((10, 2)), [{"n": -1}] * 10)
        with made.batch():
            made.upsert([0], np.ones((1, 2)), [{"n": 1}])
            assert [hit.id for hit in made.search([1, 1], where="n >= 0")] == [0]
        assert [hit.id for hit in made.search([1, 1], where="n >= 0")] == [0]


def test_a_cached_filter_is_updated_incrementally(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written since: a few records, more than are remembered, parts that failed."""
    monkeypatch.setattr("edgevec.collection.changes._MAX_RECENT_ROWS", 40)
    rng, held = np.random.default_rng(2), dict.fromkeys(range(200), 0)
    wheres = {"n = 1": lambda n: n == 1, "n > 1": lambda n: n > 1, "NOT n IN (0, 2)": lambda n: n not in (0, 2)}
    with edgevec.open(":memory:", 2) as made:

        def write(ids: list[int], n: int) -> None:
            made.upsert(ids, np.ones((len(ids), 2)), [{"n": n}] * len(ids))

        write(list(held), 0)
        for step in range(120):
            ids, n = rng.choice(200, rng.choice([1, 3, 30, 60]), replace=False).tolist(), int(rng.integers(4))
            if step % 5 == 4:
                made.delete(ids)
                held = {id: n for id, n in held.items() if id not in ids}
            else:
                with made.batch():
                    write(ids, n)
                    with suppress(ZeroDivisionError), made.batch():
                        write([(id + 1) % 200 for id in ids], 3 - n)
                        raise ZeroDivisionError
                held.update(dict.fromkeys(ids, n))
            with suppress(ZeroDivisionError), made.batch():
                write(list(range(100)), 1)
                raise ZeroDivisionError
            for where in list(wheres)[: 1 + step % 3]:
                allowed = {id for id, n in held.items() if wheres[where](n)}
                hits = made.search([1, 1], 200, where=where)
                assert {hit.id for hit in hits} == allowed
                assert hits.stats.allowed == len(allowed)


def encode(texts: list[str]) -> Any:
    """Which of the words a text holds."""
    return [[word in text.split() for word in WORDS] for text in texts]


def test_an_encoder_stands_in_for_vectors() -> None:
    with edgevec.open(":memory:", metric="l2", encoder=encode) as made:
        made.upsert(["a", "b", "c"], documents=["red wolf", "blue river stone", "red tree"])
        assert made.dim == len(WORDS)
        np.testing.assert_array_equal(made.get("a")[0].vector, encode(["red wolf"])[0])
        hits = made.search(text="wolf red", k=3)
        assert hits.stats.strategy == "exact + text"
        assert hits[0].id == "a"
        assert hits[0].distance == 0
        assert {hit.id for hit in hits} == {"a", "b", "c"}
        assert made.search(text="wolf red", weights=(0, 1)).stats.strategy == "text"
        made.upsert("d", encode(["cloud"])[0], documents="nothing of the kind")
        assert made.search(text="cloud", k=1)[0].id == "d"
        with pytest.raises(ValueError, match="record 1 has neither a vector nor a document"):
            made.upsert(["e", "f"], documents=["x", None])


def test_an_empty_collection_finds_nothing() -> None:
    for dim in (None, 3):
        with edgevec.open(":memory:", dim) as made:
            assert made.search([1, 2, 3]) == []
            assert made.search(text="x") == []
            assert made.search([1, 2, 3], text="x", where="a = 1") == []
            assert made.count() == made.upsert([], []) == made.clear() == 0
            assert list(made) == []
            assert made.check().ok


def test_scores_follow_from_distances(world: World) -> None:
    query = world.vectors[9]
    for metric in ("cosine", "ip", "l2"):
        with edgevec.open(":memory:", DIM, metric) as made:  # type: ignore[arg-type]
            made.upsert(range(50), world.vectors[:50])
            for hit in made.search(query, 5):
                vector = world.vectors[hit.id].astype(float)
                expected = {
                    "cosine": unit(vector) @ unit(query),
                    "ip": vector @ query,
                    "l2": -np.square(vector - query).sum(),
                }[metric]
                assert hit.score == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_recall_in_place_of_ef(world: World) -> None:
    query = world.vectors[3]
    best = world.nearest(query, 5, np.arange(3000))
    assert [hit.id for hit in world.db.search(query, 5, recall=1.0)] == best
    assert len(world.db.search(query, 5, recall=0.9)) == 5
    with pytest.raises(edgevec.ParameterError, match="recall"):
        world.db.search(query, 5, recall=1.5)
    with pytest.raises(edgevec.ParameterError, match="ef or recall"):
        world.db.search(query, 5, recall=0.9, ef=10)
