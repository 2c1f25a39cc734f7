"""Collection.update(): parts of records change, the rest stays, and nothing changes where it fails."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import edgevec

FIRST = [1.0, 0.0, 0.0, 0.0]
Collection = edgevec.Collection


@pytest.fixture
def notes() -> Any:
    with edgevec.open(":memory:") as opened:
        metadata = [{"year": 1999, "author": {"name": "Ann", "age": 3}}, {"year": 2000, "tags": ["x"]}, None]
        opened.upsert(["a", "b", 3], np.eye(3, 4), metadata, ["red wolf", "blue tree", None])
        yield opened


def everything(collection: Collection) -> list[Any]:
    return [(record.id, record.vector.tolist(), record.metadata, record.document) for record in collection]


def test_fields_are_set_beside_the_others_and_none_takes_one_away(notes: Collection) -> None:
    assert notes.update("a", {"year": None, "seen": np.bool_(True), "author": {"name": "Bo"}}) == 1
    assert notes.update(["b", 3], [{"tags": ["y", "z"]}, {"year": 7}]) == 2
    assert [record.metadata for record in notes] == [
        {"author": {"name": "Bo"}, "seen": True},
        {"year": 2000, "tags": ["y", "z"]},
        {"year": 7},
    ]
    assert [record.document for record in notes] == ["red wolf", "blue tree", None]
    assert notes.ids("year >= 7") == ["b", 3]
    np.testing.assert_array_equal([record.vector for record in notes], np.eye(3, 4))


def test_one_dict_is_for_all(notes: Collection) -> None:
    assert notes.update(notes.ids(), {"all": 1}) == 3
    assert notes.count("all = 1") == 3


def test_null_that_was_stored_stays(notes: Collection) -> None:
    notes.upsert("n", [1, 1, 1, 1], {"nothing": None, "year": 1})
    notes.update("n", {"year": 2})
    assert notes.get("n")[0].metadata == {"nothing": None, "year": 2}


def test_documents_and_vectors(notes: Collection) -> None:
    assert notes.update(["a", "b"], documents=["green wolf", None], vectors=[[0, 0, 0, 5], [0, 9, 0, 0]]) == 2
    assert [hit.id for hit in notes.search(text="wolf")] == ["a"]
    assert notes.search(text="red tree") == []
    assert [hit.id for hit in notes.search([0, 0, 0, 1], k=1, exact=True)] == ["a"]
    assert notes.get("b")[0].vector.tolist() == [0, 9, 0, 0]
    assert notes.get("b")[0].metadata["year"] == 2000


def test_a_condition_is_asked_before_anything_changes() -> None:
    """More records than are read at a time, and what is changed first would satisfy the condition again."""
    rng = np.random.default_rng(0)
    with edgevec.open(":memory:", quantization="none", M=2, ef_construction=2) as rows:
        count = 2500
        vectors = rng.standard_normal((count, 2)).astype(np.float32)
        rows.upsert(range(count), vectors, [{"n": n % 2, "turn": 0} for n in range(count)])
        assert rows.update(where={"n": 0}, metadata={"n": 1, "turn": 1}) == 1250
        assert rows.count("n = 0") == 0
        assert rows.ids("turn = 1") == list(range(0, count, 2))
        np.testing.assert_array_equal([record.vector for record in rows], vectors)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ids": ["a", "q", "b"], "metadata": {"x": 1}}, edgevec.UnknownIdError, "'q'"),
        ({"ids": ["a", "a"], "metadata": {"x": 1}}, edgevec.DuplicateIdError, "'a' comes twice"),
        ({"ids": ["a"]}, edgevec.ParameterError, "nothing to change"),
        ({"metadata": {"x": 1}}, edgevec.ParameterError, "give ids or where"),
        ({"ids": ["a"], "where": "x = 1", "metadata": {}}, edgevec.ParameterError, "give ids or where"),
        ({"where": "", "metadata": {"x": 1}}, edgevec.ParameterError, "empty condition"),
        ({"where": "year = ", "metadata": {"x": 1}}, edgevec.WhereError, "expected a value"),
        ({"where": "year > 0", "metadata": [{"x": 1}]}, edgevec.ParameterError, "metadata alone"),
        ({"where": "year > 0", "documents": "x"}, edgevec.ParameterError, "metadata alone"),
        ({"ids": ["a", "b"], "metadata": [{"x": 1}]}, edgevec.ParameterError, "2 ids but metadata of 1"),
        ({"ids": ["a", "b"], "metadata": [{}, {"x": float("nan")}]}, edgevec.ParameterError, "metadata 1 .*'x'"),
        ({"ids": ["a", "b"], "documents": ["x", float("nan")]}, edgevec.ParameterError, "document 1 .* None, not nan"),
        ({"ids": ["a", "b"], "vectors": [FIRST, [0, np.nan, 0, 0]]}, edgevec.NotFiniteError, "row 1"),
        ({"ids": ["a", "b"], "vectors": [FIRST, [0, 0, 0, 0]]}, edgevec.ZeroVectorError, "row 1"),
        ({"ids": ["a"], "vectors": [[1, 2, 3]]}, edgevec.ParameterError, "4"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(
    notes: Collection, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = everything(notes)
    with pytest.raises(error, match=message):
        notes.update(**arguments)
    assert everything(notes) == before


def test_an_encoder_makes_vectors_of_new_texts_alone() -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> npt.NDArray[np.float32]:
        asked.append(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32)

    with edgevec.open(":memory:", encoder=encode, metric="l2") as notes:
        notes.upsert(["a", "b", "c"], documents=["one", "three", "fourteen"])
        asked.clear()
        notes.update(["a", "b"], documents=["seven seven", None])
        notes.update(["a", "c"], {"x": 1})
        notes.update("c", documents="given", vectors=[2, 2])
        assert asked == [["seven seven"]]
        assert [record.vector.tolist() for record in notes] == [[11, 1], [5, 1], [2, 2]]
        assert [record.document for record in notes] == ["seven seven", None, "given"]


def test_texts_and_vectors_of_an_encoder_stay_together(tmp_path: Path) -> None:
    mine = edgevec.encoders.TextEncoder("mine", lambda texts: np.array([[len(text), 1] for text in texts], np.float32))
    with edgevec.open(tmp_path / "c.edgevec", encoder=mine, metric="l2") as notes:
        notes.upsert(["a"], documents=["one"])
    with edgevec.open(tmp_path / "c.edgevec") as notes:
        with pytest.raises(edgevec.ParameterError, match=r"take new vectors: give them, or .*encoder='mine'"):
            notes.update("a", documents="longer")
        assert notes.get("a")[0].document == "one"
        notes.update("a", {"x": 1}, documents=[None])
        notes.update("a", documents="longer", vectors=[6, 1])
        assert [hit.document for hit in notes.search([6, 1])] == ["longer"]


def test_a_record_that_is_damaged_is_named(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec") as notes:
        notes.upsert(["a", "b"], np.eye(2), [{"x": 1}, {"x": 2}])
    with sqlite3.connect(tmp_path / "c.edgevec") as damaging:
        damaging.execute("UPDATE records SET metadata = '[1' WHERE id = 'b'")
    damaging.close()
    with edgevec.open(tmp_path / "c.edgevec") as notes:
        with pytest.raises(edgevec.CorruptCollectionError, match="'b'"):
            notes.update(["a", "b"], {"y": 1})
        assert notes.get("a")[0].metadata == {"x": 1}


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_a_reader_refuses_and_sees_what_the_writer_changed(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", dtype="float16") as notes:
        notes.upsert(["a", "b"], [[0.1, 0.2], [0.3, 0.4]], [{"x": 1}, {"x": 2}])
        vectors = [record.vector for record in notes]
        with edgevec.open(tmp_path / "c.edgevec", mode="r") as reader:
            assert reader.ids("x = 2") == ["b"]
            notes.update("a", {"x": 2})
            assert reader.ids("x = 2") == ["a", "b"]
            assert [hit.metadata for hit in reader.search([0.1, 0.2], k=1)] == [{"x": 2}]
            with pytest.raises(edgevec.ReadOnlyError):
                reader.update("a", {"x": 3})
        np.testing.assert_array_equal([record.vector for record in notes], vectors)


def test_a_progress_function_cannot_update(notes: Collection) -> None:
    def progress(done: int, total: int) -> None:
        notes.update("a", {"x": 1})

    with pytest.raises(edgevec.BusyError):
        notes.upsert("d", FIRST, progress=progress)
    assert "d" not in notes
    notes.update("a", {"x": 2})
