"""What is stored comes back; a bad record or search is an error that names it and changes nothing."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import METRICS
from records import contents, rows

import edgevec
from edgevec.collection import Collection


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


def test_what_is_deleted_is_gone(notes: Collection, rng: np.random.Generator) -> None:
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


def test_records_come_in_pages(notes: Collection, rng: np.random.Generator) -> None:
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
        (([2**63], np.eye(1, 4)), "does not fit in 64 bits"),
        (([10**5000], np.eye(1, 4)), "an integer of 16,610 bits, which does not fit in 64 bits"),
        ((["a\0b"], np.eye(1, 4)), "id 0 contains a NUL"),
        ((["\ud800"], np.eye(1, 4)), "id 0 contains an unpaired surrogate"),
        (({"a": 1}, np.eye(1, 4)), "ids must be"),
        ((None, np.eye(1, 4)), "ids must be"),
        (([1], np.eye(1, 4), [{}, {}]), "1 ids but metadata of 2"),
        (([1], np.eye(1, 4), ["x"]), "metadata 0 must be a dict"),
        (
            ([1], np.eye(1, 4), [{"a": 1, "b": float("nan")}]),
            r"metadata 0 is not JSON: NaN and infinity are not; None is \(field 'b'\)",
        ),
        (
            ([1], np.eye(1, 4), [{"a": [np.float32("inf")]}]),
            r"metadata 0 is not JSON: NaN and infinity are not; None is \(field 'a'\)",
        ),
        (([1], np.eye(1, 4), [{"a": {1, 2}}]), "metadata 0 is not JSON: set"),
        (([1], np.eye(1, 4), [{"a": 1, "b": [b"x"]}]), r"metadata 0 is not JSON: bytes .* \(field 'b'\)"),
        (([1], np.eye(1, 4), [{(1, 2): 3}]), "metadata 0 is not JSON"),
        (([1], np.eye(1, 4), [{"a": "\ud800"}]), "metadata 0 contains an unpaired surrogate"),
        (([1], np.eye(1, 4), [DEEP]), "metadata 0 is nested"),
        (([1], np.eye(1, 4), [ENDLESS]), "metadata 0 is n"),
        (([1], np.eye(1, 4), None, ["a", "b"]), "1 ids but 2 documents"),
        (([1], np.eye(1, 4), None, [5]), "document 0 must be a string"),
        (([1], None, None, ["text"]), "vectors are missing: give them, or open the collection with an encoder"),
        (([1], None), "record 0 has neither a vector nor a document"),
    ],
)
def test_bad_records_are_refused_and_change_nothing(notes: Collection, arguments: Any, message: str) -> None:
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
def test_bad_searches_are_refused(notes: Collection, arguments: Any, message: str) -> None:
    notes.upsert([1], np.eye(1, 4))
    with pytest.raises(ValueError, match=message):
        notes.search(**arguments)


def test_float16_refuses_what_it_cannot_hold(path: Path) -> None:
    with edgevec.open(path, dtype="float16") as made:
        with pytest.raises(ValueError, match="row 1: NaN, infinity or too long a vector for float16"):
            made.upsert([1, 2], [[1, 0], [1e5, 0]])
        with pytest.raises(ValueError, match="row 0: a zero vector"):
            made.upsert([1], [[1e-9, 0]])
        assert len(made) == 0
