"""Encoders: what they return is checked, their names are kept, and what fails leaves everything as it was."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgevec
from edgevec import encoders
from edgevec.encoders import TextEncoder

DIM = 16


def hashed(texts: list[str]) -> Any:
    """A vector for each text: the sum of those of its words, each drawn by the word's own bytes."""
    made = np.zeros((len(texts), DIM), np.float32)
    for at, text in enumerate(texts):
        for word in text.split():
            made[at] += np.random.default_rng(list(word.encode())).standard_normal(DIM)
    return made


TEXTS = ["a yellow fruit", "a sharp knife", "ein großer Baum", "水 is water", "the moon"]


@pytest.fixture
def loaders() -> Iterator[None]:
    """Kinds that are registered for one test."""
    before = dict(encoders._LOADERS)
    yield
    encoders._LOADERS.clear()
    encoders._LOADERS.update(before)


def test_a_text_in_place_of_a_vector(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "n.edgevec", encoder=hashed) as made:
        assert made.upsert(range(5), documents=TEXTS) == 5
        hits = made.search("sharp knife a", k=2)
        assert hits[0].id == 1
        assert hits[0].distance == pytest.approx(0, abs=1e-6)
        assert hits.stats.strategy == "exact"  # by the vector alone
        assert made.search("水", text="moon", k=1, weights=(0, 1))[0].id == 4
        assert [hit.id for hit in made.search("水 is water", k=5)] == [
            hit.id for hit in made.search(hashed(["水 is water"])[0], k=5)
        ]
        assert made.encoder is None  # a function has no name


def test_without_an_encoder_the_error_says_what_to_do() -> None:
    with edgevec.open(":memory:", 2) as made:
        with pytest.raises(edgevec.ParameterError, match="open the collection with an encoder; text= searches"):
            made.search("words")
        with pytest.raises(edgevec.ParameterError, match="vectors are missing: give them, or open"):
            made.upsert([1], documents=["a text"])


def test_documents_and_queries_may_be_treated_differently() -> None:
    asked: list[str] = []

    def queries(texts: list[str]) -> Any:
        asked.extend(texts)
        return hashed(["a " + text for text in texts])

    with edgevec.open(":memory:", encoder=TextEncoder("two-sided", hashed, queries)) as made:
        made.upsert(range(5), documents=TEXTS)
        assert asked == []
        assert made.search("sharp knife", k=1)[0].distance == pytest.approx(0, abs=1e-6)
        assert made.search(text="sharp knife", k=1)[0].id == 1
    assert asked == ["sharp knife"] * 2


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda n: np.ones((n - 1, DIM)), edgevec.ParameterError, "returned 1 vectors for 2 texts"),
        (lambda n: np.ones((n + 1, DIM)), edgevec.ParameterError, "returned 3 vectors for 2 texts"),
        (lambda n: np.ones((n, DIM + 1)), edgevec.ParameterError, "makes vectors of 17 dimensions; the collection has"),
        (lambda n: np.ones((n, 0)), edgevec.ParameterError, "makes vectors of 0 dimensions"),
        (lambda n: np.ones(DIM), edgevec.ParameterError, "returned 16 vectors for 2 texts"),
        (lambda n: np.ones((n, 1, DIM)), edgevec.ParameterError, "returned what is no array of vectors"),
        (lambda n: None, edgevec.ParameterError, "returned what is no array of vectors"),
        (lambda n: [["x"] * DIM] * n, edgevec.ParameterError, "returned what is no array of vectors"),
        (lambda n: [[1.0], [1.0, 2.0]], edgevec.ParameterError, "returned what is no array of vectors"),
        (lambda n: (row for row in np.ones((n, DIM))), edgevec.ParameterError, "returned what is no array"),
        (lambda n: np.full((n, DIM), np.nan), edgevec.NotFiniteError, "NaN, infinity .* for the text 'new 0'"),
        (lambda n: np.full((n, DIM), 1e30), edgevec.NotFiniteError, "too long a vector for the text 'new 0'"),
        (lambda n: np.eye(n, DIM)[::-1] * [[1], [0]], edgevec.ZeroVectorError, "zero vector.* for the text 'new 1'"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_what_an_encoder_returns_is_checked(
    returned: Callable[[int], Any], error: type[Exception], message: str, batch: bool, tmp_path: Path
) -> None:
    path = tmp_path / "n.edgevec"
    with edgevec.open(path) as made:  # before encoders had names
        made.upsert(range(5), hashed(TEXTS), documents=TEXTS)

    def store(made: edgevec.Collection) -> None:
        made.upsert(["x", "y"], documents=["new 0", "new 1"])

    def store_a_table(made: edgevec.Collection) -> None:
        made.import_from([{"id": 9, "vector": hashed(["x"])[0]}, {"text": "new 0"}, {"text": "new 1"}])

    broken = TextEncoder("broken-1", lambda texts: returned(len(texts)))
    with edgevec.open(path, encoder=broken) as made:
        before = [(record.id, record.document, record.vector.tolist()) for record in made]
        with pytest.raises(error, match=f"the encoder 'broken-1'.*{message}"):
            (store_a_table if batch else store)(made)
        assert [(record.id, record.document, record.vector.tolist()) for record in made] == before
        assert made.encoder is None
        assert made.check().ok
    with edgevec.open(path, encoder=hashed) as made:
        assert made.search("the moon", k=1)[0].id == 4


def test_a_query_is_checked_too() -> None:
    with edgevec.open(":memory:", DIM, encoder=TextEncoder("odd", hashed, lambda texts: np.ones((2, DIM)))) as made:
        made.upsert(range(5), documents=TEXTS)
        for ask in (lambda: made.search("x"), lambda: made.search(text="x")):
            with pytest.raises(edgevec.ParameterError, match="the encoder 'odd' returned 2 vectors for 1 texts"):
                ask()
    nothing = pytest.raises(edgevec.ZeroVectorError, match=r"the encoder hashed: a zero vector.*for the text ''")
    with edgevec.open(":memory:", DIM, encoder=hashed) as made, nothing:
        made.search("")


def test_what_an_encoder_raises_is_what_the_caller_gets(tmp_path: Path) -> None:
    def failing(texts: list[str]) -> Any:
        raise ConnectionError("no route to the model")

    with edgevec.open(tmp_path / "n.edgevec", encoder=TextEncoder("failing", failing)) as made:
        with pytest.raises(ConnectionError, match="no route"):
            made.upsert([1], documents=["x"])
        made.upsert([1], hashed(["y"]))
        with pytest.raises(ConnectionError), made.batch():  # noqa: PT012
            made.upsert([2], hashed(["y"]))
            made.upsert([3], documents=["x"])
        assert made.ids() == [1]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_new_collection_keeps_the_name(tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    edgevec.open(path, encoder=TextEncoder("one", hashed)).close()
    with edgevec.open(path) as made:
        assert made.encoder == "one"
        with pytest.raises(edgevec.ParameterError, match="encoder='one', which is its own"):
            made.search("x")
        with pytest.raises(edgevec.ParameterError, match="encoder='one', which is its own"):
            made.upsert([1], documents=["x"])
        made.upsert([1], hashed(["x"]))  # vectors of one's own are as good
    for mode in ("a", "r"):
        with pytest.raises(edgevec.ParameterError, match="has the encoder 'one', not 'two'"):
            edgevec.open(path, mode=mode, encoder=TextEncoder("two", hashed))
        with pytest.raises(edgevec.ParameterError, match=r"'one', not hashed; edgevec.encoders.TextEncoder\('one',"):
            edgevec.open(path, mode=mode, encoder=hashed)
        with edgevec.open(path, mode=mode, encoder=TextEncoder("one", hashed)) as made:
            assert made.search("x", k=1)[0].id == 1


@pytest.mark.parametrize("write", ["upsert", "batch", "import_from"])
def test_an_older_collection_keeps_the_name_with_the_first_vectors(write: str, tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    with edgevec.open(path) as made:
        made.upsert(["old"], hashed(["old text"]))

    def store(made: edgevec.Collection) -> None:
        if write == "import_from":
            made.import_from([{"id": "v", "vector": hashed(["v"])[0]}, {"id": "new", "text": "new text"}])
        else:
            made.upsert(["new"], documents=["new text"])

    with edgevec.open(path, encoder=TextEncoder("one", hashed)) as made:
        made.upsert(["mine"], hashed(["mine"]))
        made.search("old text")
        assert made.encoder is None  # it has made nothing that is stored
        with pytest.raises(ZeroDivisionError), made.batch():  # noqa: PT012
            store(made)
            assert made.encoder == "one"
            raise ZeroDivisionError
        assert made.encoder is None
        assert "new" not in made
        if write == "batch":
            with made.batch():
                made.upsert(["more"], hashed(["more"]))
                store(made)
                store(made)
        else:
            store(made)
        assert made.encoder == "one"
        assert made.search("new text", k=1)[0].id == "new"
        assert made.check().ok
    with edgevec.open(path, mode="r") as made:
        assert made.encoder == "one"
        assert {"old", "mine", "new"} <= set(made.ids())


def test_a_progress_function_stops_the_first_vectors_too(tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    edgevec.open(path).close()
    with edgevec.open(path, encoder=TextEncoder("one", hashed)) as made:
        with pytest.raises(edgevec.CancelledError):
            made.upsert(range(500), documents=["some text"] * 500, progress=lambda done, total: False)
        assert (len(made), made.encoder) == (0, None)


def test_a_damaged_name_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    edgevec.open(path, encoder=TextEncoder("one", hashed)).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE settings SET value = x'00ff' WHERE name = 'encoder'")
    database.close()
    with pytest.raises(edgevec.CorruptCollectionError, match="settings are damaged: the name of the encoder"):
        edgevec.open(path)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (5, "encoder must be a function or a name, not int"),
        ("", "no encoder has the name ''; there are broken:NAME, example:NAME, fastembed:NAME, model2vec:NAME, s"),
        ("model2vec", "no encoder has the name 'model2vec'"),
        ("model2vec:", "no encoder has the name 'model2vec:'"),
        ("word2vec:x", "no encoder has the name 'word2vec:x'"),
        ("example:moby-dick", "there is no example 'moby-dick', only example:wordnet"),
        ("broken:x", "the encoder 'broken:x' cannot be loaded: two lines of an error"),
    ],
)
def test_a_wrong_name_creates_no_file(encoder: Any, message: str, tmp_path: Path, loaders: None) -> None:
    def load(name: str) -> Any:
        raise OSError("two lines\nof an error")

    encoders.register("broken", load)
    with pytest.raises(edgevec.ParameterError, match=message):
        edgevec.open(tmp_path / "n.edgevec", encoder=encoder)
    assert not list(tmp_path.iterdir())


def test_kinds_of_ones_own(loaders: None) -> None:
    encoders.register("plain", lambda name: lambda texts: hashed(texts) * float(name))
    encoders.register("sided", lambda name: TextEncoder(None, hashed, lambda texts: hashed([name] * len(texts))))
    with edgevec.open(":memory:", metric="l2", encoder="plain:2") as made:
        made.upsert([1], documents=["x"])
        np.testing.assert_array_equal(made.get(1)[0].vector, 2 * hashed(["x"])[0])
        assert made.encoder == "plain:2"
    with edgevec.open(":memory:", encoder="sided:the moon: full") as made:
        made.upsert(range(6), documents=[*TEXTS, "the moon: full"])
        assert made.encoder == "sided:the moon: full"
        assert made.search("whatever", k=1)[0].id == 5
    for kind in ("", "a:b", 5):
        with pytest.raises(edgevec.ParameterError, match="kind of an encoder"):
            encoders.register(kind, lambda name: hashed)  # type: ignore[arg-type]
    for wrong in (("", hashed), ("x", 5), ("x", hashed, 5)):
        with pytest.raises(edgevec.ParameterError):
            TextEncoder(*wrong)  # type: ignore[arg-type]


def test_the_example_is_the_samples_word_table() -> None:
    sample = edgevec.samples.wordnet()
    with edgevec.open(":memory:", encoder="example:wordnet") as made:
        made.upsert(["a", "b"], documents=["a large yellow fruit", "a device that measures temperature"])
        assert made.encoder == "example:wordnet"
        assert made.search("thermometer", k=1)[0].id == "b"
        np.testing.assert_allclose(made.get("a")[0].vector, sample.encode("a large yellow fruit"))
        with pytest.raises(edgevec.ParameterError, match="no known word in the query 'qzxqzx'"):
            made.search("qzxqzx")


@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["model2vec", "fastembed", "sentence-transformers"])
def test_a_missing_library_names_its_extra(name: str, tmp_path: Path) -> None:
    program = (
        f"import sys\nsys.modules[{name.replace('-', '_')!r}] = None\nimport edgevec\n"
        f"edgevec.open('n.edgevec', encoder='{name}:x')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "MissingExtraError" in done.stderr
    assert f"pip install 'edgevec[{name}]'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_file_of_texts_alone(ending: str, tmp_path: Path) -> None:
    source = tmp_path / f"texts{ending}"
    lines = [json.dumps({"id": f"t{n}", "text": f"word{n} of {n % 7}", "pages": [n, 1]}) for n in range(2500)]
    lines[1700] = json.dumps({"id": "own", "vector": [1.0] * DIM, "text": "words of its own"})
    content = "\n".join(["", *lines]).encode()
    source.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    seen: list[int] = []
    with edgevec.open(tmp_path / "n.edgevec", encoder=hashed) as made:
        assert made.import_from(source, progress=lambda done, total: seen.append(done)) == 2500
        assert seen[:2] == [1024, 2048]
        assert made.search("word77 of 0", k=1)[0].id == "t77"
        assert made.get("t5")[0].metadata == {"pages": [5, 1]}
        np.testing.assert_array_equal(made.get("own")[0].vector, np.ones(DIM))
        with pytest.raises(edgevec.CancelledError):
            made.import_from(source, progress=lambda done, total: False)
        source.write_bytes(b'{"text": "x"}\n{"text": "y"')
        with pytest.raises(edgevec.DataFormatError, match=r"line 2|damaged"):
            made.import_from(source)
        assert len(made) == 2500
    with edgevec.open(":memory:") as made, pytest.raises(edgevec.DataFormatError):
        made.import_from(source)
