"""A batch is stored whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from records import contents, rows

import edgevec
from edgevec.collection import Collection


def test_a_batch_is_committed_whole(notes: Collection, path: Path, rng: np.random.Generator) -> None:
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
def test_a_batch_that_raises_stores_nothing(notes: Collection, searched: bool, rng: np.random.Generator) -> None:
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
    with pytest.raises(edgevec.CancelledError, match="everything is as it was"):
        notes.upsert(range(2000, 6000), rows(rng, 4000), progress=lambda done, total: False)
    assert contents(notes) == before
    with pytest.raises(edgevec.CancelledError, match="stopped"), notes.batch(progress=lambda done, total: False):
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


def test_what_is_not_allowed_inside_a_batch(notes: Collection, rng: np.random.Generator) -> None:
    with notes.batch():
        notes.upsert([1], rows(rng, 1))
        for call in (notes.close, notes.checkpoint, notes.compact, notes.check, lambda: notes.create_index("a")):
            with pytest.raises(ValueError, match="inside a batch"):
                call()
    assert len(notes) == 1


def test_the_graph_is_handed_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only opening, refreshing and recovery read vectors back from the database."""
    rng = np.random.default_rng(0)
    with edgevec.open(tmp_path / "c.edgevec", 4) as made:

        def refuse(*_: object) -> None:
            raise AssertionError("read back")

        monkeypatch.setattr("edgevec.collection.graph.vectors_of", refuse)
        made.upsert(range(20), rng.standard_normal((20, 4)))
        with made.batch():
            made.upsert([3, 30], rng.standard_normal((2, 4)))
            made.delete([4])
            assert {hit.id for hit in made.search(np.ones(4), 50)} == {*range(20), 30} - {4}
            made.upsert([3, 4], rng.standard_normal((2, 4)))
        made.delete([7])
        assert {hit.id for hit in made.search(np.ones(4), 50)} == {*range(20), 30} - {7}
        monkeypatch.undo()
        assert made.check().ok


def test_a_batch_too_large_for_memory_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevec.collection.store.MAX_PENDING_BYTES", 100)
    rng = np.random.default_rng(0)
    with edgevec.open(":memory:", 4) as made:
        with made.batch():
            for at in range(0, 40, 2):
                made.upsert([at, at + 1], rng.standard_normal((2, 4)))
            made.delete([5])
        assert {hit.id for hit in made.search(np.ones(4), 50)} == set(range(40)) - {5}
        assert made.check().ok
