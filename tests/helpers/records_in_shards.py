"""Records for collections in shards, and what is right of them: by one plain collection, SQLite and arithmetic."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from typing import Any

import numpy as np
import pytest

import edgevec
from edgevec import Collection

WORDS = ("red", "green", "blue", "fox", "dog", "the")
OTHERS = ("café", "日本語", "本", "fox_dog", "dog_fox")
"""Words that are several in the index, and one that is the beginning of others."""
CONDITIONS = (
    (None, "1"),
    ("year >= 2000", "m ->> 'year' >= 2000"),
    ("lang IN ('de', 'fr')", "m ->> 'lang' IN ('de', 'fr')"),
    ("lang IS NULL", "m ->> 'lang' IS NULL"),
    ("year < 1995 OR lang = 'de'", "m ->> 'year' < 1995 OR m ->> 'lang' = 'de'"),
    ("year > 3000", "0"),
)


NOTES = [{"id": n, "vector": [n, 1], "text": f"note {n}", "year": 2000 + n} for n in range(10)]
NOTE_OPTIONS: dict[str, Any] = {"rows_per_shard": 4, "metric": "l2", "quantization": "none"}
"""Of the fixtures `made` and `folder`, which are these notes."""


def record(rng: np.random.Generator, number: int, words: tuple[str, ...]) -> dict[str, Any]:
    """Vectors of whole numbers are in many records, and their distances, without rounding, too."""
    metadata: dict[str, Any] = {"year": int(rng.integers(1990, 2010))}
    if rng.random() < 0.7:
        metadata["lang"] = str(rng.choice(["de", "fr", "en"]))
    text = None if rng.random() < 0.2 else " ".join(rng.choice(words, rng.integers(0, 7)))
    return {
        "id": number if number % 3 else f"t{number}",
        "vector": rng.integers(-3, 4, 3).tolist(),
        "text": text,
        "metadata": metadata,
    }


def records(seed: int, count: int, words: tuple[str, ...] = WORDS + OTHERS) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [record(rng, number, words) for number in range(count)]


def single(rows: list[dict[str, Any]]) -> Collection:
    made = edgevec.open(":memory:", 3, "l2", quantization="none")
    made.import_from(rows)
    made.search(text="red")  # from the second search on it ranks by arrays
    return made


def assert_same(found: edgevec.Hits, wanted: edgevec.Hits) -> None:
    assert [hit.id for hit in found] == [hit.id for hit in wanted]
    for hit, other in zip(found, wanted, strict=True):
        assert hit.score == pytest.approx(other.score, rel=1e-9, abs=1e-12)
        assert (hit.distance, hit.metadata, hit.document) == (other.distance, other.metadata, other.document)


def allowed(rows: list[dict[str, Any]], sql: str) -> set[int]:
    connection = sqlite3.connect(":memory:")
    try:
        metadata = ((at, json.dumps(row["metadata"])) for at, row in enumerate(rows))
        connection.execute("CREATE TABLE t (at, m)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", metadata)
        return {at for (at,) in connection.execute(f"SELECT at FROM t WHERE {sql}")}
    finally:
        connection.close()


def bm25(rows: list[dict[str, Any]], asked: list[str]) -> dict[int, float]:
    """The score of each row that holds one of the words (k1 = 1.2, b = 0.75), by the formula alone."""
    held = {at: Counter(row["text"].split()) for at, row in enumerate(rows) if row["text"] is not None}
    if not held:
        return {}
    mean = sum(count.total() for count in held.values()) / len(held)
    scores: dict[int, float] = {}
    for word in asked:
        documents = sum(word in count for count in held.values())
        idf = max(math.log((len(held) - documents + 0.5) / (documents + 0.5)), 1e-6)
        for at, count in held.items():
            if word in count:
                norm = 1.2 * (1 - 0.75 + 0.75 * count.total() / mean)
                scores[at] = scores.get(at, 0.0) + idf * count[word] * 2.2 / (count[word] + norm)
    return scores
