"""The WordNet sample: what it holds, and that its encoder finds what a person would expect."""

from __future__ import annotations

import gzip
import re
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import edgevec
from edgevec import samples

DATA = Path(str(resources.files("edgevec_sample")))


@pytest.fixture(scope="module")
def sample() -> samples.WordNet:
    return samples.wordnet()


def test_the_arrays_belong_together(sample: samples.WordNet) -> None:
    assert sample.vectors.shape == (25_000, 128)
    assert sample.vectors.dtype == np.float32
    assert sample.vectors.flags.c_contiguous
    assert np.allclose(np.linalg.norm(sample.vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    assert {len(sample.texts), len(sample.topics), len(sample.pos), len(sample.ids), len(sample)} == {25_000}
    assert sample.ids.dtype == np.int64
    assert np.array_equal(sample.ids, np.arange(25_000))
    assert set(sample.pos) == {"noun", "verb", "adjective", "adverb"}
    assert len(set(sample.topics)) == 45
    assert all(topic.startswith(pos[:3]) for topic, pos in zip(sample.topics, sample.pos, strict=True))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("device for measuring temperature", "thermometer"),
        ("yellow fruit that monkeys like", "lemon"),
        ("Frozen WATER falling from the sky", "rainfall"),
        ("a place where books are lent", "librar"),
    ],
)
def test_a_query_finds_what_it_describes(sample: samples.WordNet, query: str, expected: str) -> None:
    nearest = np.argsort(-(sample.vectors @ sample.encode(query)))[:10]
    assert any(expected in sample.texts[row] for row in nearest)


def test_encoding_is_the_normalized_sum_of_the_known_words(sample: samples.WordNet) -> None:
    with np.load(DATA / "wordnet25k.npz") as arrays:
        words = bytes(arrays["words"]).decode().split("\n")
        table = arrays["word_vectors"] * arrays["word_scales"].astype(np.float64)[:, None]
    expected = table[words.index("red")] + 2 * table[words.index("wine")]
    vector = sample.encode("Red, wine! (qqxyzzy) WINE?")
    assert vector.dtype == np.float32
    assert vector.shape == (128,)
    assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_every_word_of_the_table_can_be_asked(sample: samples.WordNet) -> None:
    with np.load(DATA / "wordnet25k.npz") as arrays:
        words = bytes(arrays["words"]).decode().split("\n")
    assert len(words) == len(set(words)) == 24_000
    assert all(re.fullmatch(r"[a-z0-9]+(?:'[a-z]+)?", word) for word in words)
    for word in words[::997]:
        assert np.isclose(np.linalg.norm(sample.encode(word)), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("query", "named"), [("qqxyzzy Blorp blorp", "qqxyzzy, blorp$"), ("?!", "no words"), ("", "no words")]
)
def test_a_query_without_a_known_word_says_so(sample: samples.WordNet, query: str, named: str) -> None:
    with pytest.raises(edgevec.EdgevecError, match=named) as caught:
        sample.encode(query)
    assert isinstance(caught.value, ValueError)


def test_the_folder_may_be_elsewhere(sample: samples.WordNet, tmp_path: Path) -> None:
    for name in ("wordnet25k.npz", "entries.jsonl.gz"):
        shutil.copy(DATA / name, tmp_path)
    assert samples.wordnet(str(tmp_path)).texts == sample.texts
    (tmp_path / "entries.jsonl.gz").unlink()
    with pytest.raises(edgevec.DataNotFoundError, match=r"entries\.jsonl\.gz is missing"):
        samples.wordnet(tmp_path)
    with pytest.raises(edgevec.DataNotFoundError, match=r"wordnet25k\.npz is missing"):
        samples.wordnet(tmp_path / "nowhere")


def test_the_license_of_the_texts_comes_along() -> None:
    license = (DATA / "LICENSE-WordNet-3.0.txt").read_text(encoding="utf-8")
    assert "Princeton University" in license
    assert "appear on ALL copies" in license


def test_the_data_stay_small() -> None:
    assert sum(file.stat().st_size for file in DATA.iterdir()) < 7_000_000
    with gzip.open(DATA / "entries.jsonl.gz") as lines:
        assert sum(1 for _ in lines) == 25_000
