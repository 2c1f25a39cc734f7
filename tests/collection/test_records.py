"""Collections: what is stored comes back, batches are all or nothing, and what is wrong is said and changes nothing."""

from __future__ import annotations

import datetime
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import METRICS, QUANTIZATIONS

import edgevec
from edgevec.collection import Collection

SHARES_FILES = sys.platform != "emscripten"
"""Whether one file can be open twice: in a browser it cannot."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.edgevec"


@pytest.fixture
def notes(path: Path) -> Iterator[Collection]:
    with edgevec.open(path, dim=4) as made:
        yield made


def rows(rng: np.random.Generator, n: int, dim: int = 4) -> Any:
    return rng.standard_normal((n, dim)).astype(np.float32)


# ---- records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["file", "memory"])
def test_what_is_stored_comes_back(where: str, path: Path, rng: np.random.Generator) -> None:
    vectors = rows(rng, 5)
    metadata = [{"a": 1, "b": {"c": [1, "x", None, True]}}, {}, None, {"é\n\"'": "ü"}, {"big": 2**70, "x": 1e-300}]
    documents = ["one", None, "", "drei ß\n", "five \N{GRINNING FACE}"]
    ids = [7, "7", -(2**63), "é", ""]
    made = edgevec.open(":memory:" if where == "memory" else path)
    assert made.dim is None
    assert made.upsert(ids, vectors, metadata, documents) == 5
    for again in range(2):
        assert len(made) == made.count() == 5
        assert made.dim == 4
        found = made.get(ids)
        assert [record.id for record in found] == ids
        assert [type(record.id) for record in found] == [type(id) for id in ids]
        np.testing.assert_array_equal([record.vector for record in found], vectors)
        assert [record.metadata for record in found] == [fields or {} for fields in metadata]
        assert [record.document for record in found] == documents
        assert [record.id for record in made] == ids
        assert all(id in made for id in ids)
        assert 8 not in made
        assert "8" not in made
        hit = made.search(vectors[3], 1)[0]
        assert (hit.id, hit.metadata, hit.document) == ("é", metadata[3], documents[3])
        if where == "file" and not again:
            made.close()
            made = edgevec.open(path)
    made.close()


def test_an_id_that_exists_is_replaced_whole(notes: Collection, rng: np.random.Generator) -> None:
    vectors = rows(rng, 4)
    notes.upsert([1, 2], vectors[:2], [{"a": 1}, {"a": 2}], ["first", "second"])
    notes.upsert([2, 3], vectors[2:], [{"b": 3}, {}])
    assert len(notes) == 3
    record = notes.get(2)[0]
    assert (record.metadata, record.document) == ({"b": 3}, None)
    np.testing.assert_array_equal(record.vector, vectors[2])
    assert notes.search(vectors[2], 1)[0].id == 2
    assert notes.search(text="second") == []
    assert notes.count("a = 2") == 0
    assert notes.check().ok


def test_the_same_vector_with_other_metadata(notes: Collection, rng: np.random.Generator) -> None:
    vectors = rows(rng, 3)
    notes.upsert([1, 2, 3], vectors, [{"a": 1}] * 3)
    assert notes.search(vectors[1], 1, where="a = 1")[0].metadata == {"a": 1}
    notes.upsert([1, 2], vectors[:2], [{"a": 2}, {"a": 1}])
    assert [hit.id for hit in notes.search(vectors[0], 3, where="a = 1")] == [
        hit.id for hit in notes.search(vectors[0], 3) if hit.id != 1
    ]
    assert notes.search(vectors[0], 1)[0].metadata == {"a": 2}
    assert notes.check().ok


def test_deleting(notes: Collection, rng: np.random.Generator) -> None:
    vectors = rows(rng, 10)
    notes.upsert(range(10), vectors, [{"n": n} for n in range(10)], [f"text {n}" for n in range(10)])
    assert notes.delete([3, 3, 99, "3"]) == 1
    assert notes.delete(where="n >= ?", params=[8]) == 2
    assert notes.delete(5) == 1
    assert notes.delete([]) == 0
    assert [record.id for record in notes] == [0, 1, 2, 4, 6, 7]
    assert {hit.id for hit in notes.search(vectors[3], 10)} == {0, 1, 2, 4, 6, 7}
    assert notes.search(text="3") == []
    with pytest.raises(KeyError, match="no record has the id 3"):
        notes.get([1, 3])
    assert [record.id for record in notes.get([1, 3, 2], missing="skip")] == [1, 2]
    notes.upsert([3], vectors[3:4])
    assert [record.id for record in notes] == [0, 1, 2, 4, 6, 7, 3]
    with pytest.raises(ValueError, match="ids or where"):
        notes.delete()
    assert notes.check().ok


@pytest.mark.parametrize("empty", [{}, ""])
def test_an_empty_condition_deletes_nothing_and_clear_everything(
    notes: Collection, rng: np.random.Generator, empty: Any
) -> None:
    notes.upsert(range(5), rows(rng, 5), documents=[f"word{n}" for n in range(5)])
    with pytest.raises(edgevec.ParameterError, match="an empty condition would delete every record"):
        notes.delete(where=empty)
    assert len(notes) == 5
    assert notes.clear() == 5
    assert (notes.ids(), notes.search(text="word1"), notes.clear()) == ([], [], 0)
    assert notes.search(rows(rng, 1)[0], 3) == []
    assert notes.upsert([2], rows(rng, 1)) == 1
    assert notes.check().ok


def test_pages(notes: Collection, rng: np.random.Generator) -> None:
    notes.upsert(range(25), rows(rng, 25), [{"n": n} for n in range(25)])
    assert [len(page) for page in notes.pages(size=10)] == [10, 10, 5]
    assert [[record.id for record in page] for page in notes.pages(2, "n > ?", [21])] == [[22, 23], [24]]
    for page in notes.pages(size=10):
        notes.delete([record.id for record in page])
    assert len(notes) == 0


def test_ids_come_in_order_of_insertion(notes: Collection, rng: np.random.Generator) -> None:
    ids = [5, "b", -3, "5", 2**62, "a"]
    notes.upsert(ids, rows(rng, 6), [{"even": at % 2 == 0} for at in range(6)])
    notes.upsert(["b"], rows(rng, 1), [{"even": False}])  # stays where it was
    assert notes.ids() == ids
    assert notes.ids("even") == [5, -3, 2**62]
    assert notes.ids("even = ?", [0]) == ["b", "5", "a"]
    notes.delete([-3])
    assert notes.ids() == [5, "b", "5", 2**62, "a"]


def test_documents_are_counted(notes: Collection, rng: np.random.Generator) -> None:
    notes.upsert(range(5), rows(rng, 5), documents=["a", None, "", "c", None])
    assert notes.stats()["documents"] == 3
    notes.upsert([0, 1], rows(rng, 2), documents=[None, "b"])
    notes.delete([3])
    assert notes.stats()["documents"] == 2


def test_what_metadata_may_hold(notes: Collection, rng: np.random.Generator) -> None:
    fields = {
        "int": np.int64(3),
        "float": np.float32(0.5),
        "bool": np.bool_(True),
        "array": np.arange(3),
        "date": datetime.date(2020, 1, 2),
        "time": datetime.datetime(2020, 1, 2, 3, 4),
    }
    notes.upsert(1, rows(rng, 1)[0], fields)
    plain = {
        "int": 3,
        "float": 0.5,
        "bool": True,
        "array": [0, 1, 2],
        "date": "2020-01-02",
        "time": "2020-01-02T03:04:00",
    }
    assert notes.get(1)[0].metadata == plain
    assert notes.count("date > ?", [datetime.date(2019, 1, 1)]) == 1


def test_what_ids_and_vectors_may_be(notes: Collection) -> None:
    notes.upsert(np.array([1, 2], np.uint8), np.ones((2, 4), np.int8))
    notes.upsert(("a", "b"), [[1, 2, 3, 4.5], [0, 0, 0, 1]])
    notes.upsert(np.array(["c"]), np.ones((1, 4), np.float64))
    assert [record.id for record in notes] == [1, 2, "a", "b", "c"]
    assert [record.id for record in notes.get(np.array([2, 1]))] == [2, 1]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("metric", METRICS)
def test_vectors_are_stored_as_they_were_given(path: Path, dtype: Any, metric: Any, rng: np.random.Generator) -> None:
    vectors = 10 * rows(rng, 20)
    with edgevec.open(path, metric=metric, dtype=dtype) as made:
        made.upsert(range(20), vectors)
    with edgevec.open(path) as made:
        assert made.metric == metric
        stored = np.array([record.vector for record in made])
        np.testing.assert_array_equal(stored, vectors.astype(dtype).astype(np.float32))
        assert made.check().ok


# ---- batches -------------------------------------------------------------------------------------------------------


def test_a_batch_is_all(notes: Collection, path: Path, rng: np.random.Generator) -> None:
    vectors = rows(rng, 6)
    with notes.batch():
        notes.upsert([1, 2, 3], vectors[:3], documents=["x", "y", "z"])
        assert len(notes.search(vectors[0], 10)) == 3
        notes.upsert([4], vectors[3:4])
        notes.delete([2])
        assert [record.id for record in notes] == [1, 3, 4]
        assert [hit.id for hit in notes.search(vectors[3], 1)] == [4]
        assert {hit.id for hit in notes.search(vectors[1], 10)} == {1, 3, 4}
    notes.close()
    with edgevec.open(path) as again:
        assert [record.id for record in again] == [1, 3, 4]
        assert again.check().ok


@pytest.mark.parametrize("searched", [False, True], ids=["unseen by the graph", "seen by the graph"])
def test_a_batch_is_nothing(notes: Collection, searched: bool, rng: np.random.Generator) -> None:
    vectors = rows(rng, 10)
    notes.upsert([1, 2, 3], vectors[:3], [{"a": n} for n in range(3)], ["x", "y", "z"])
    before = contents(notes), [hit.as_dict() for hit in notes.search(vectors[0], 10)]
    with failing(notes):
        notes.upsert([2, "new"], vectors[3:5], documents=["w", "v"])
        notes.delete([1])
        if searched:
            assert {hit.id for hit in notes.search(vectors[3], 10)} == {2, 3, "new"}
    assert (contents(notes), [hit.as_dict() for hit in notes.search(vectors[0], 10)]) == before
    assert [hit.id for hit in notes.search(text="x y z w v")] == [1, 2, 3]
    assert notes.check().ok
    notes.upsert(["later"], vectors[5:6])
    assert notes.check().ok


def test_a_failed_call_leaves_the_rest_of_its_batch(notes: Collection, rng: np.random.Generator) -> None:
    vectors = rows(rng, 10)
    with notes.batch():
        notes.upsert([1], vectors[:1])
        with pytest.raises(ValueError, match="row 1: NaN"):
            notes.upsert([2, 3], [vectors[1], [np.nan] * 4])
        with failing(notes):
            notes.upsert([4], vectors[4:5])
            assert {hit.id for hit in notes.search(vectors[4], 10)} == {1, 4}
        assert {hit.id for hit in notes.search(vectors[4], 10)} == {1}
        with notes.batch():
            notes.upsert([5], vectors[5:6])
    assert [record.id for record in notes] == [1, 5]
    assert notes.check().ok


def test_the_first_batch_may_fail(path: Path, rng: np.random.Generator) -> None:
    with edgevec.open(path) as made:
        with failing(made):
            made.upsert([1], rows(rng, 1, 8))
            assert len(made.search(rows(rng, 1, 8)[0])) == 1
        assert made.dim is None
        assert len(made) == 0
        made.upsert([1], rows(rng, 1, 3))
        assert made.dim == 3
        assert made.check().ok


def test_progress_and_stopping(notes: Collection, rng: np.random.Generator) -> None:
    vectors = rows(rng, 3000)
    seen: list[tuple[int, int]] = []
    assert notes.upsert(range(3000), vectors, progress=lambda done, total: seen.append((done, total))) == 3000
    assert seen[-1] == (3000, 3000)
    before = contents(notes)
    assert notes.upsert(range(2000, 6000), rows(rng, 4000), progress=lambda done, total: False) == 0
    assert contents(notes) == before
    with pytest.raises(edgevec.EdgevecError, match="stopped"), notes.batch(progress=lambda done, total: False):
        notes.upsert(range(2000, 6000), rows(rng, 4000))
    assert contents(notes) == before
    assert notes.check().ok


def test_what_is_interrupted_is_not_stored(notes: Collection, rng: np.random.Generator) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    notes.upsert(range(10), rows(rng, 10))
    before = contents(notes)
    with pytest.raises(KeyboardInterrupt):
        notes.upsert(range(5, 3000), rows(rng, 2995), progress=interrupt)
    assert contents(notes) == before
    assert notes.check().ok


@contextmanager
def failing(made: Collection) -> Iterator[None]:
    """A batch that an exception leaves at its end."""

    class Failure(Exception):
        pass

    try:
        with made.batch():
            yield
            raise Failure
    except Failure:
        pass


def contents(made: Collection) -> list[Any]:
    return [(record.id, record.vector.tolist(), record.metadata, record.document) for record in made]


# ---- what is refused -----------------------------------------------------------------------------------------------

DEEP: Any = {}
for _ in range(600):
    DEEP = {"x": DEEP}
ENDLESS: Any = {}
ENDLESS["x"] = ENDLESS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [[1, 0, 0, 0]]), "2 ids but 1 vectors"),
        (([1, 1], np.eye(2, 4)), "id 1 comes twice, the second time at 1"),
        (([1], [[1, 0, 0]]), "3 dimensions"),
        (([1], [[0, 0, 0, 0]]), "row 0: a zero vector"),
        (([1, 2], [[1, 0, 0, 0], [1, np.inf, 0, 0]]), "row 1: NaN, infinity"),
        (([1], [[1e19, 0, 0, 0]]), "row 0: NaN, infinity or too long"),
        (([1], [["x", 0, 0, 0]]), "vectors"),
        (([1.5], np.eye(1, 4)), "id 0 must be an integer or a string"),
        (([True], np.eye(1, 4)), "id 0 must be"),
        (([None], np.eye(1, 4)), "id 0 must be"),
        (([2**63], np.eye(1, 4)), "more than 64 bits"),
        ((["a\0b"], np.eye(1, 4)), "id 0 holds a NUL"),
        ((["\ud800"], np.eye(1, 4)), "id 0 holds half of a surrogate pair"),
        (({"a": 1}, np.eye(1, 4)), "ids must be"),
        ((None, np.eye(1, 4)), "ids must be"),
        (([1], np.eye(1, 4), [{}, {}]), "1 ids but metadata of 2"),
        (([1], np.eye(1, 4), ["x"]), "metadata 0 must be a dict"),
        (([1], np.eye(1, 4), [{"a": float("nan")}]), "metadata 0 is not JSON"),
        (([1], np.eye(1, 4), [{"a": {1, 2}}]), "metadata 0 is not JSON: set"),
        (([1], np.eye(1, 4), [{"a": 1, "b": [b"x"]}]), r"metadata 0 is not JSON: bytes .* \(field 'b'\)"),
        (([1], np.eye(1, 4), [{(1, 2): 3}]), "metadata 0 is not JSON"),
        (([1], np.eye(1, 4), [{"a": "\ud800"}]), "metadata 0 holds half of a surrogate"),
        (([1], np.eye(1, 4), [DEEP]), "metadata 0 is nested"),
        (([1], np.eye(1, 4), [ENDLESS]), "metadata 0 is n"),
        (([1], np.eye(1, 4), None, ["a", "b"]), "1 ids but 2 documents"),
        (([1], np.eye(1, 4), None, [5]), "document 0 must be a string"),
        (([1], None, None, ["text"]), "vectors are missing: give them, or open the collection with an encoder"),
        (([1], None), "record 0 has neither a vector nor a document"),
    ],
)
def test_bad_records(notes: Collection, arguments: Any, message: str) -> None:
    notes.upsert([1], np.eye(1, 4), [{"a": 1}], ["x"])
    before = contents(notes)
    with pytest.raises(ValueError, match=message):
        notes.upsert(*arguments)
    assert contents(notes) == before
    assert notes.check().ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a vector or a text"),
        ({"vector": [1, 0, 0]}, "3 dimensions"),
        ({"vector": np.eye(2, 4)}, r"one vector \[4\]"),
        ({"vector": [np.nan, 0, 0, 0]}, "row 0"),
        ({"vector": [1, 0, 0, 0], "k": 0}, "k must be"),
        ({"vector": [1, 0, 0, 0], "ef": 0}, "ef must be"),
        ({"text": 5}, "text must be a string"),
        ({"text": "x", "weights": (1,)}, "two numbers"),
        ({"text": "x", "weights": (-1, 1)}, "positive"),
        ({"text": "x", "weights": (0, 0)}, "positive"),
    ],
)
def test_bad_searches(notes: Collection, arguments: Any, message: str) -> None:
    notes.upsert([1], np.eye(1, 4))
    with pytest.raises(ValueError, match=message):
        notes.search(**arguments)


def test_float16_says_what_it_cannot_hold(path: Path) -> None:
    with edgevec.open(path, dtype="float16") as made:
        with pytest.raises(ValueError, match="row 1: NaN, infinity or too long a vector for float16"):
            made.upsert([1, 2], [[1, 0], [1e5, 0]])
        with pytest.raises(ValueError, match="row 0: a zero vector"):
            made.upsert([1], [[1e-9, 0]])
        assert len(made) == 0


# ---- opening -------------------------------------------------------------------------------------------------------


def test_parameters_are_in_the_file(path: Path) -> None:
    edgevec.open(path, 4, "ip", quantization="none", M=5, ef_construction=33, dtype="float16").close()
    with edgevec.open(path) as made:
        made.upsert([1], np.eye(1, 4))
        index = made._store.graph.index
        assert index is not None
        assert (made.dim, made.metric, made.quantization) == (4, "ip", "none")
        assert (index.dim, index.metric, index.quantization, index.M, index.ef_construction) == (4, "ip", "none", 5, 33)
    edgevec.open(path, 4, "ip", quantization="none", M=5, ef_construction=33, dtype="float16").close()
    for name, value in {"dim": 5, "metric": "l2", "quantization": "sq8", "M": 6, "dtype": "float32"}.items():
        with pytest.raises(ValueError, match=f"has {name} .*, not"):
            edgevec.open(path, **{name: value})  # type: ignore[arg-type]
    edgevec.open(path).close()  # none of them kept the file


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_each_quantization(path: Path, quantization: Any, rng: np.random.Generator) -> None:
    vectors = rows(rng, 500, 40)
    with edgevec.open(path, quantization=quantization) as made:
        made.upsert(range(500), vectors)
    with edgevec.open(path) as made:
        assert [made.search(vector, 1)[0].id for vector in vectors[::50]] == list(range(0, 500, 50))
        assert made.check().ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be"),
        ({"metric": "hamming"}, "metric must be"),
        ({"quantization": "pq"}, "quantization must be"),
        ({"M": 1}, "M must be"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"mode": "w"}, "mode must be"),
        ({"durability": "none"}, "durability must be"),
    ],
)
def test_bad_parameters_make_no_file(path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edgevec.open(path, **arguments)
    assert not path.exists()


def test_what_is_not_there(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such collection"):
        edgevec.open(path, mode="r")
    assert not path.exists()
    with pytest.raises(OSError, match="there is no folder"):
        edgevec.open(tmp_path / "no" / "notes.edgevec")
    with pytest.raises(OSError, match="unable to open"):
        edgevec.open(tmp_path)
    with pytest.raises(ValueError, match="in memory"):
        edgevec.open(":memory:", mode="r")


def test_other_files(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to look like one" * 100)
    with pytest.raises(edgevec.CorruptCollectionError, match="not a database"):
        edgevec.open(path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(edgevec.CorruptCollectionError, match="not a collection"):
        edgevec.open(path)
    for mode in ("a", "r"):
        with pytest.raises(edgevec.CorruptCollectionError, match="not a collection"):
            edgevec.open(path, mode=mode)  # type: ignore[arg-type]


def test_a_newer_version_is_refused(path: Path) -> None:
    edgevec.open(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 3")
    database.close()
    before = path.read_bytes()
    with pytest.raises(edgevec.FormatVersionError, match="version 3"):
        edgevec.open(path)
    assert path.read_bytes() == before


def test_damaged_databases_are_refused_or_read(path: Path, rng: np.random.Generator) -> None:
    """Whatever bytes are flipped: an error of ours, never a crash, and `check` sees what it can."""
    with edgevec.open(path, 4) as made:
        made.upsert(range(200), rows(rng, 200), [{"n": n} for n in range(200)], [f"text {n}" for n in range(200)])
    whole = path.read_bytes()
    for start in rng.integers(0, len(whole) - 8, size=60):
        damaged = bytearray(whole)
        damaged[start : start + 8] = rng.bytes(8)
        path.write_bytes(damaged)
        try:
            with edgevec.open(path) as made:
                made.check(repair=True)
                made.count("n > 5")
                list(made)
                made.search([1, 0, 0, 0])
        except edgevec.EdgevecError:
            pass


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_one_writer(notes: Collection, path: Path, rng: np.random.Generator) -> None:
    notes.upsert([1], rows(rng, 1))
    with pytest.raises(edgevec.LockedError, match="open for writing already") as raised:
        edgevec.open(path)
    assert isinstance(raised.value, OSError)
    notes.upsert([2], rows(rng, 1))
    notes.close()
    with edgevec.open(path) as again:
        assert len(again) == 2


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_a_reader_sees_what_is_committed(notes: Collection, path: Path, rng: np.random.Generator) -> None:
    vectors = rows(rng, 100)
    notes.upsert(range(50), vectors[:50], [{"n": n} for n in range(50)])
    with edgevec.open(path, mode="r") as reader:
        assert reader.mode == "r"
        assert len(reader) == 50
        with notes.batch():
            notes.upsert(range(50, 100), vectors[50:], [{"n": n} for n in range(50, 100)])
            assert len(reader) == 50
            assert reader.count("n >= 50") == 0
        assert len(reader) == 100
        assert reader.search(vectors[70], 1)[0].id == 70
        notes.checkpoint()  # which cuts off the changes that a reader would follow
        notes.delete(where="n < 60")
        assert {hit.id for hit in reader.search(vectors[0], 100)} == set(range(60, 100))
        notes.compact()
        notes.upsert([0], vectors[:1])
        notes.checkpoint()
        assert reader.search(vectors[0], 1)[0].id == 0
        assert reader.check().ok
        for change in (
            lambda: reader.upsert([1], vectors[:1]),
            lambda: reader.delete([1]),
            lambda: reader.checkpoint(),
            lambda: reader.compact(),
            lambda: reader.create_index("n"),
            lambda: reader.check(repair=True),
            lambda: reader.batch().__enter__(),
        ):
            with pytest.raises(PermissionError, match="open for reading"):
                change()


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_a_reader_refreshes_with_progress(path: Path, rng: np.random.Generator) -> None:
    with edgevec.open(path) as writer:
        writer.upsert(range(10), rows(rng, 10))
        with edgevec.open(path, mode="r") as reader:
            version, told = reader.refresh(), []
            assert reader.refresh() == version
            writer.upsert(range(10, 3010), vectors := rows(rng, 3000))

            def stop(done: int, total: int) -> bool:
                return False

            with pytest.raises(edgevec.EdgevecError, match="next search"):
                reader.refresh(progress=stop)
            assert reader.search(vectors[7], 1)[0].id == 17
            writer.upsert(range(3010, 6010), rows(rng, 3000))
            newest = reader.refresh(progress=lambda done, total: bool(told.append((done, total))) or True)
            assert newest > version
            assert told[-1] == (3000, 3000)
            assert reader.check().ok


def test_a_closed_collection_says_so(path: Path, rng: np.random.Generator) -> None:
    made = edgevec.open(path)
    made.upsert([1], rows(rng, 1))
    made.close()
    made.close()
    for call in (
        lambda: made.upsert([1], rows(rng, 1)),
        lambda: made.search([1, 0, 0, 0]),
        lambda: made.get([1]),
        lambda: len(made),
        lambda: made.checkpoint(),
        lambda: made.batch().__enter__(),
        lambda: next(iter(made)),
    ):
        with pytest.raises(edgevec.ClosedError, match="is closed"):
            call()


def test_what_is_not_allowed_inside_a_batch(notes: Collection, rng: np.random.Generator) -> None:
    with notes.batch():
        notes.upsert([1], rows(rng, 1))
        for call in (notes.close, notes.checkpoint, notes.compact, notes.check, lambda: notes.create_index("a")):
            with pytest.raises(ValueError, match="inside a batch"):
                call()
    assert len(notes) == 1


def test_compacting(path: Path, rng: np.random.Generator) -> None:
    vectors = rows(rng, 3000)
    with edgevec.open(path) as made:
        made.upsert(range(3000), vectors, documents=["some text " * 20] * 3000)
        made.create_index("a")
        made.delete(range(2900))
        made.checkpoint()
        before = made.stats()
        made.compact()
        after = made.stats()
        assert after["file_bytes"] < before["file_bytes"] / 4
        assert after["snapshot_bytes"] < before["snapshot_bytes"] / 4
        assert after["memory_bytes"] < before["memory_bytes"] / 4
        assert after["records"] == 100
        assert made.search(vectors[2950], 1)[0].id == 2950
        assert made.check().ok
    with edgevec.open(path) as made:
        assert [record.id for record in made] == list(range(2900, 3000))
        assert made.check().ok
        assert made.indexes() == ["a"]


def test_one_file_is_enough(path: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """A closed collection may be moved, and what lies beside it left behind."""
    vectors = rows(rng, 500)
    with edgevec.open(path) as made:
        made.upsert(range(500), vectors)
    shutil.copy(path, tmp_path / "moved.edgevec")
    with edgevec.open(tmp_path / "moved.edgevec") as moved:
        assert moved.search(vectors[123], 1)[0].id == 123
        assert moved.check().ok


def test_collections_are_collected_without_a_word(path: Path, rng: np.random.Generator) -> None:
    made = edgevec.open(path)
    made.upsert([1], rows(rng, 1))
    del made
    with edgevec.open(path) as made:
        assert len(made) == 1
