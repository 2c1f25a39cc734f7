"""Searching a collection in shards: one plain collection with all records, and arithmetic, say what is right."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_in_shards import CONDITIONS, OTHERS, WORDS, allowed, assert_same, bm25, records, single
from support import HANG

import edgevec
from edgevec import Collection, ShardedCollection

conditions = st.sampled_from(CONDITIONS)
vectors = st.lists(st.integers(-3, 3), min_size=3, max_size=3)
texts = st.lists(st.sampled_from(WORDS + OTHERS), max_size=5).map(" ".join)


ROWS = records(0, 161)
"""More than are fused: so some are found by words alone."""
SIZES = (161, 60, 35)
"""Records of a shard."""


@pytest.fixture(scope="module")
def one() -> Iterator[Collection]:
    with single(ROWS) as made:
        yield made


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, ShardedCollection]]:
    """By their size."""
    folder = tmp_path_factory.mktemp("shards")
    options: Any = {"metric": "l2", "quantization": "none"}
    made = {size: ShardedCollection.build(ROWS, folder / str(size), rows_per_shard=size, **options) for size in SIZES}
    yield made
    for each in made.values():
        each.close()


@pytest.mark.threads
@settings(max_examples=150)
@given(vectors, texts, conditions, st.integers(1, 70), st.sampled_from(SIZES), st.data())
def test_hits_are_those_of_one_collection(
    one: Collection,
    sharded: dict[int, ShardedCollection],
    vector: list[int],
    text: str,
    condition: tuple[str | None, str],
    k: int,
    size: int,
    data: st.DataObject,
) -> None:
    where = condition[0]
    many = sharded[size]
    given: dict[str, Any] = data.draw(
        st.sampled_from(({"vector": vector}, {"text": text}, {"vector": vector, "text": text}))
    )
    if len(given) == 2:
        given["weights"] = data.draw(st.sampled_from(((1, 1), (1, 0), (0, 2), (3, 0.5))))
    given["threads"] = threads = data.draw(st.sampled_from((0, 1, 3)))
    found = many.search(**given, k=k, where=where, exact=True)
    assert threads == given.pop("threads")
    wanted = one.search(**given, k=k, where=where, exact=True)
    assert_same(found, wanted)
    assert found.stats.allowed == wanted.stats.allowed
    assert many.count(where) == one.count(where)
    assert many.ids(where) == one.ids(where)


@pytest.mark.threads
def test_many_queries_find_what_single_ones_do(sharded: dict[int, ShardedCollection], one: Collection) -> None:
    queries, texts = [[0, 1, 2], [3, 3, 3], [-1, 0, 1]], ["red", "blue fox", "nowhere"]
    for asked in ({"vectors": queries}, {"texts": texts}, {"vectors": queries, "texts": texts, "weights": (3, 0.5)}):
        for where in (None, "year >= 2000"):
            found = sharded[35].search_many(**asked, k=7, where=where, exact=True)
            wanted = one.search_many(**asked, k=7, where=where, exact=True)
            assert len(found) == 3
            for ours, theirs in zip(found, wanted, strict=True):
                assert_same(ours, theirs)
    assert sharded[35].search_many(np.empty((0, 3))) == []
    with pytest.raises(edgevec.NotFiniteError, match="query 1"):
        sharded[35].search_many([[0, 1, 2], [0, np.nan, 0]])


@pytest.mark.threads
@pytest.mark.core
@settings(max_examples=12)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 12), vectors, st.sets(st.sampled_from(WORDS)))
def test_hits_are_those_of_arithmetic(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, size: int, vector: list[int], asked: set[str]
) -> None:
    rows = records(seed, count, WORDS)
    folder = tmp_path_factory.mktemp("arithmetic")
    distances = [sum((a - b) ** 2 for a, b in zip(row["vector"], vector, strict=True)) for row in rows]
    options: Any = {"metric": "l2", "quantization": "none"}
    with ShardedCollection.build(rows, folder / "s", rows_per_shard=size, **options) as many:
        assert len(many.shards) == -(-count // size)
        for where, sql in CONDITIONS:
            may = allowed(rows, sql)
            near = sorted(may, key=lambda at: (distances[at], at))
            found = many.search(vector, 7, where=where, exact=True)
            assert [(hit.id, hit.distance) for hit in found] == [(rows[at]["id"], distances[at]) for at in near[:7]]
            scores = bm25(rows, sorted(asked))
            best = sorted(may & scores.keys(), key=lambda at: (-round(scores[at], 9), at))
            words = many.search(text=" ".join(sorted(asked)), k=count, where=where)
            assert {hit.id for hit in words} == {rows[at]["id"] for at in best}
            assert [hit.score for hit in words] == pytest.approx([scores[at] for at in best])
            assert many.count(where) == len(may)


@pytest.mark.threads
@pytest.mark.parametrize("size", SIZES)
def test_what_words_alone_have_found_has_a_distance(
    sharded: dict[int, ShardedCollection], one: Collection, size: int
) -> None:
    found = sharded[size].search([3, 3, 3], 20, text="red", exact=True)
    assert_same(found, one.search([3, 3, 3], 20, text="red", exact=True))
    near = one.search([3, 3, 3], 100, exact=True)
    assert {hit.id for hit in found} - {hit.id for hit in near}


@pytest.mark.threads
def test_without_exact_the_nearest_are_found(sharded: dict[int, ShardedCollection], one: Collection) -> None:
    """So few are all met."""
    for query in ([0, 1, 2], [3, 3, 3]):
        for options in ({}, {"ef": 100}, {"recall": 0.9}):
            found, wanted = (made.search(query, 5, **options) for made in (sharded[35], one))
            assert [hit.distance for hit in found] == [hit.distance for hit in wanted]


@pytest.mark.threads
def test_records_by_id(sharded: dict[int, ShardedCollection], one: Collection) -> None:
    many = sharded[35]
    wanted = ["t159", 1, "t0", 59, 1]
    for record, other in zip(many.get(wanted), one.get(wanted), strict=True):
        assert (record.id, record.metadata, record.document) == (other.id, other.metadata, other.document)
        np.testing.assert_array_equal(record.vector, other.vector)
    assert [record.id for record in many.get([7, "no", 8], missing="skip")] == [7, 8]
    with pytest.raises(edgevec.UnknownIdError, match="'no'"):
        many.get([7, "no"])
    assert 7 in many
    assert 3 not in many  # which is "t3"
    assert len(many) == len(one)
    assert (many.dim, many.metric, many.share, many.problems) == (3, "l2", 1.0, {})


@pytest.mark.threads
def test_what_hits_hold(sharded: dict[int, ShardedCollection]) -> None:
    hits = sharded[60].search([0, 0, 0], 3, include=())
    assert [(hit.metadata, hit.document) for hit in hits] == [({}, None)] * 3
    assert sharded[60].search(text=" . ") == []


@pytest.mark.threads
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, edgevec.ParameterError, "a vector or a text"),
        ({"vector": [1, 2]}, edgevec.ParameterError, "3"),
        ({"vector": [[1, 2, 3]]}, edgevec.ParameterError, "one vector"),
        ({"vector": [1, 2, math.nan]}, edgevec.NotFiniteError, "NaN"),
        ({"vector": [1, 2, 3], "k": 0}, edgevec.ParameterError, "k"),
        ({"vector": [1, 2, 3], "ef": 0}, edgevec.ParameterError, "ef"),
        ({"vector": [1, 2, 3], "threads": -1}, edgevec.ParameterError, "threads"),
        ({"vector": "a text"}, edgevec.ParameterError, "encoder"),
        ({"text": 7}, edgevec.ParameterError, "text"),
        ({"text": "a", "where": "year >"}, edgevec.WhereError, "year"),
        ({"text": "a", "include": ["all"]}, edgevec.ParameterError, "include"),
    ],
)
def test_bad_arguments(
    sharded: dict[int, ShardedCollection], given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sharded[60].search(**given)


@pytest.mark.threads
def test_several_threads_search_at_once(sharded: dict[int, ShardedCollection], one: Collection) -> None:
    many, failed = sharded[35], []
    asked = [([n % 3, 1, 2], WORDS[n % 6]) for n in range(12)]
    wanted = [one.search(vector, 5, text=text, exact=True) for vector, text in asked]

    def work() -> None:
        for (vector, text), right in zip(asked, wanted, strict=True):
            if [hit.id for hit in many.search(vector, 5, text=text, exact=True, threads=2)] != [h.id for h in right]:
                failed.append(vector)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert not failed


@pytest.mark.threads
def test_an_encoder_makes_vectors_of_records_and_of_queries(tmp_path: Path) -> None:
    calls = []

    def encode(found: list[str]) -> Any:
        calls.extend(found)
        return [[len(text), text.count("a") + 1] for text in found]

    encoder = edgevec.encoders.TextEncoder("mine", encode)
    rows = [{"id": n, "text": "a" * n + "b"} for n in range(6)] + [{"id": 6, "text": "given", "vector": [1, 1]}]
    options: Any = {"rows_per_shard": 3, "metric": "l2", "encoder": encoder}
    with ShardedCollection.build(rows, tmp_path / "s", **options) as many:
        assert many.manifest.settings.encoder == "mine"
        hits = many.search("aab", 2)
        assert [(hit.id, hit.distance) for hit in hits] == [(2, 0.0), (1, 2.0)]
        assert many.search(text="aab", k=1)[0].id == 2
    calls.clear()
    ShardedCollection.build(rows, tmp_path / "s", **options).close()
    assert calls == []  # shards that are finished are taken as they are
    with pytest.raises(edgevec.ParameterError, match="mine"):
        ShardedCollection.open(tmp_path / "s", encoder=edgevec.encoders.TextEncoder("other", encode))
