"""Documents are ranked by BM25 exactly, whatever was written since: as FTS5 does, and as a plain scorer does."""

from __future__ import annotations

import gc
import math
import sqlite3
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

import edgevec
from edgevec.collection import Collection, ranking

WORDS = ["the", "of", "a", "dog", "Dog", "café", "cat", "日本", "x_y", "rare"]
documents = st.none() | st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
queries = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
changes = st.lists(
    st.tuples(st.sampled_from(["upsert", "delete", "text", "metadata"]), st.integers(0, 11), documents), max_size=6
)


def fts5(made: Collection, query: str, year: int | None = None) -> list[tuple[Any, float]]:
    """(id, score) of all that SQLite alone finds for words in quotes."""
    phrases = " OR ".join(f'"{word}"' for word in dict.fromkeys(word.lower() for word in query.split()))
    return made._store.database.main.execute(
        "SELECT id, -rank FROM texts JOIN records ON records.row = texts.rowid WHERE texts MATCH ? "
        "AND (? IS NULL OR metadata ->> 'year' = ?) ORDER BY rank, texts.rowid",
        (phrases, year, year),
    ).fetchall()


def bm25(texts: dict[Any, str], query: str) -> dict[Any, float]:
    """Scores by the formula, of words that are letters alone."""
    counts = {id: Counter(text.lower().split()) for id, text in texts.items()}
    mean = sum(sum(count.values()) for count in counts.values()) / len(counts)
    scores: dict[Any, float] = {}
    for word in dict.fromkeys(query.lower().split()):
        holders = [id for id, count in counts.items() if count[word]]
        idf = math.log((len(counts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for id in holders:
            often, length = counts[id][word], sum(counts[id].values())
            part = max(idf, 1e-6) * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / mean))
            scores[id] = scores.get(id, 0.0) + part
    return scores


def found(made: Collection, query: str, k: int = 100, **settings: Any) -> list[tuple[Any, float]]:
    return [(hit.id, hit.score) for hit in made.search(text=query, k=k, **settings)]


def kept(made: Collection) -> Any:
    """What the ranking keeps; the collection is asked twice, as it keeps nothing for a single query."""
    for _ in range(2):
        made.search(text="dog")
    return made._searcher._ranking._kept


def fill(made: Collection, texts: Sequence[str | None]) -> None:
    metadata = [{"year": at % 3} for at in range(len(texts))]
    made.upsert(range(len(texts)), np.ones((len(texts), 2)), metadata, documents=list(texts))


def change(made: Collection, how: str, id: int, document: str | None) -> None:
    if how == "delete":
        made.delete([id])
    elif how == "metadata" and id in made:
        made.upsert([id], [[1.0, 1.0]], [{"year": id % 2}], documents=[record.document for record in made.get(id)])
    else:
        vector = [[float(id), 1.0]] if how == "upsert" else [[1.0, 1.0]]
        made.upsert([id], vector, [{"year": id % 3}], documents=[document])


@settings(max_examples=examples(150), deadline=None)
@given(texts=st.lists(documents, min_size=1, max_size=10), changes=changes, asked=st.lists(queries, min_size=1))
def test_the_order_is_that_of_fts5(
    tmp_path_factory: Any, texts: list[str | None], changes: Any, asked: list[str]
) -> None:
    path = tmp_path_factory.mktemp("ranking") / "c.edgevec"
    with edgevec.open(path, 2, "l2", durability="fast") as made:
        fill(made, texts)
        for step in [None, *changes]:
            if step is not None:
                change(made, *step)
            for query in asked:
                for _ in range(2):
                    assert found(made, query) == fts5(made, query)
                assert found(made, query, 2) == fts5(made, query)[:2]
                assert found(made, query, 2, where="year = 1") == fts5(made, query, 1)[:2]
    path.unlink()


@settings(max_examples=examples(100), deadline=None)
@given(texts=st.lists(st.text("abc ", max_size=12), min_size=1, max_size=12), query=st.text("abcd ", max_size=6))
def test_scores_are_those_of_the_bm25_formula(texts: list[str], query: str) -> None:
    with edgevec.open(":memory:", 2, "l2") as made:
        fill(made, texts)
        for _ in range(3):
            hits = found(made, query)
            scores = bm25(dict(enumerate(texts)), query)
            assert {id for id, _ in hits} == set(scores)
            for id, score in hits:
                assert score == pytest.approx(scores[id], rel=1e-12)
            fill(made, texts[: len(texts) // 2])


def test_it_is_used_and_follows_what_is_written(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", 2, "l2") as made:
        fill(made, ["a dog", "the cat", None, "a dog and a dog"])
        first = kept(made)
        assert first is not None
        made.upsert([7], [[1, 1]], documents=["dog dog dog"])
        assert found(made, "dog") == fts5(made, "dog")
        assert made._searcher._ranking._kept.postings is first.postings


def test_what_a_batch_has_written_is_found_in_it(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", 2, "l2") as made:
        fill(made, ["a dog", "the cat"])
        kept(made)

        def write() -> None:
            with made.batch():
                made.upsert([7], [[1, 1]], documents=["dog dog"])
                assert {id for id, _ in found(made, "dog")} == {0, 7}
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write()
        assert found(made, "dog") == fts5(made, "dog")
        assert len(found(made, "dog")) == 1


@pytest.mark.filterwarnings("error")
def test_nothing_is_left_open(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", 2, "l2") as made:
        fill(made, ["a dog"])
        fresh = weakref.ref(kept(made) and made._searcher._ranking._fresh)
    del made
    gc.collect()
    assert fresh() is None


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_what_another_writes_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as writer:
        fill(writer, ["a dog", "the cat"])
        with edgevec.open(path, mode="r") as reader:
            assert kept(reader) is not None
            for number in range(5):
                writer.upsert([10 + number], [[1, number]], documents=["dog " * number])
                for _ in range(3):
                    assert found(reader, "dog") == fts5(writer, "dog") == found(writer, "dog")


def test_beyond_a_limit_results_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too much was written, or is kept, or rows are far apart, results stay the same."""
    monkeypatch.setattr(ranking, "_MAX_CHANGED", 3)
    monkeypatch.setattr(ranking, "MAX_POSTINGS", 5)
    monkeypatch.setattr(ranking, "_MAX_TERMS", 2)
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as made:
        fill(made, ["a dog", "the cat", "a cat", "the dog", "the end"])
        for number in range(8):
            for word in ("a", "the", "dog", "cat", "end"):
                assert found(made, word) == found(made, word) == fts5(made, word)
            assert sum(len(one.rows) for one in kept(made).postings.values()) <= 5
            made.upsert([20 + number], [[1, number]], documents=[f"a dog {number}"])
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE records SET row = 1 << 40 WHERE id = 20")
        database.execute("UPDATE vectors SET row = 1 << 40 WHERE row = (SELECT max(row) FROM vectors)")
        database.execute("INSERT INTO texts(texts) VALUES ('rebuild')")
        database.commit()
    with edgevec.open(path) as made:
        assert kept(made) is None
        assert made.search(text="dog", k=20)


@pytest.mark.threads
def test_threads_that_write_and_search(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    failures: list[BaseException] = []
    with edgevec.open(path, 2, "l2", durability="fast") as made:
        fill(made, ["a dog"] * 50)
        stop = threading.Event()

        def search() -> None:
            try:
                while not stop.is_set():
                    hits = found(made, "dog pair", 500)
                    pairs = sorted(id for id, _ in hits if id >= 100)
                    assert len(hits) == 50 + len(pairs)
                    assert [id for id in pairs if id % 2 == 0] == [id - 1 for id in pairs if id % 2]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(100, 160, 2):
            made.upsert([number, number + 1], [[1, 1], [1, number]], documents=["a pair", "pair pair"])
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        for _ in range(2):
            assert found(made, "dog pair", 500) == fts5(made, "dog pair")
