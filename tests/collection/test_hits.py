"""A hit holds what was found at the time of the search, whatever happens to the record later."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import HANG

import edgevec
from edgevec.collection import Collection

Shown = list[tuple[Any, Any, Any]]


@pytest.fixture(params=["file", "memory"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collection]:
    with edgevec.open(":memory:" if request.param == "memory" else tmp_path / "c.edgevec", 2) as made:
        write(made, 0)
        yield made


def write(made: Collection, version: int) -> None:
    made.upsert([1, "two", 3], np.eye(3, 2) + 1, [{"version": version}] * 3, [f"text {version}"] * 3)


def shown(hits: list[edgevec.Hit]) -> Shown:
    return [(hit.id, hit.metadata, hit.document) for hit in hits]


def written(version: int) -> Shown:
    return [(id, {"version": version}, f"text {version}") for id in (3, 1, "two")]


def search(made: Collection) -> list[edgevec.Hit]:
    """All of them, in the order of written()."""
    hits = made.search([1, 1])
    assert {hit.id for hit in hits[1:]} == {1, "two"}
    return [hits[0], *sorted(hits[1:], key=lambda hit: str(hit.id))]


def replace(made: Collection) -> None:
    write(made, 9)


def delete(made: Collection) -> None:
    made.delete([1, "two", 3])


def delete_and_compact(made: Collection) -> None:
    made.clear()
    made.compact()


def take_the_rows(made: Collection) -> None:
    made.delete(["two", 3])
    made.upsert([7, 8], np.eye(2), [{}, {}])


def replace_in_a_batch(made: Collection) -> None:
    with made.batch():
        made.upsert([1], np.eye(1, 2), [{"version": 5}])
        assert search(made)[1].metadata == {"version": 5}
        made.delete(["two"])


CHANGES: list[Callable[[Collection], None]] = [
    replace,
    delete,
    delete_and_compact,
    take_the_rows,
    replace_in_a_batch,
    Collection.close,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_comes_too_late(made: Collection, change: Callable[[Collection], None]) -> None:
    vectors, texts, both = search(made), made.search(text="text"), made.search([1, 1], text="text")
    change(made)
    assert shown(vectors) == written(0)
    assert sorted(shown(texts), key=str) == sorted(written(0), key=str)
    assert sorted(shown(both), key=str) == sorted(written(0), key=str)


def test_hits_of_a_search_inside_a_batch(made: Collection) -> None:
    before = search(made)
    with made.batch():
        write(made, 1)
        inside = search(made)
        write(made, 2)
        assert shown(before) == written(0)
        assert shown(inside) == written(1)
    assert shown(search(made)) == written(2)


def test_a_batch_that_fails(made: Collection) -> None:
    before = search(made)
    with suppress(ZeroDivisionError), made.batch():
        write(made, 1)
        made.upsert([4], np.ones((1, 2)), [{"version": 4}])
        inside = made.search([1, 1], 1, where="version = 4")
        raise ZeroDivisionError
    assert shown(before) == written(0)
    assert shown(inside) == [(4, {"version": 4}, None)]
    made.upsert(["four"], np.ones((1, 2)))
    assert {hit.id for hit in made.search([1, 1])} == {1, "two", 3, "four"}


def test_hits_of_each_version_stay_as_they_were(made: Collection) -> None:
    kept = []
    for version in range(1, 6):
        write(made, version)
        kept.append(search(made))
    assert [shown(hits) for hits in kept] == [written(version) for version in range(1, 6)]


@pytest.mark.filterwarnings("ignore:unclosed collection")
def test_hits_outlive_the_collection(tmp_path: Path) -> None:
    made = edgevec.open(tmp_path / "c.edgevec", 2)
    write(made, 0)
    hits = search(made)
    del made
    gc.collect()
    with edgevec.open(tmp_path / "c.edgevec") as again:  # the hits do not keep it locked
        delete(again)
        assert shown(hits) == written(0)


def test_a_reader_beside_a_writer(made: Collection) -> None:
    if made.path is None or made._store.database.single_connection:
        return
    with edgevec.open(made.path, mode="r") as reader:
        hits = search(reader)
        delete(made)
        assert shown(hits) == written(0)
        assert reader.search([1, 1]) == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda hits: pickle.loads(pickle.dumps(hits))])
def test_hits_can_be_copied(made: Collection, copied: Callable[[Any], Any]) -> None:
    hits = made.search([1, 1])
    again = copied(hits)
    delete(made)
    assert again == hits
    assert again.stats == hits.stats
    assert pickle.loads(pickle.dumps(hits[0])) == hits[0]


@pytest.mark.parametrize("include", [(), ("metadata",), "metadata", ("document",), ["document", "metadata"]])
def test_include_names_what_is_read(made: Collection, include: Any) -> None:
    whole, hits = made.search([1, 1], text="text"), made.search([1, 1], text="text", include=include)
    for hit, found in zip(whole, hits, strict=True):
        assert (found.id, found.score, found.distance) == (hit.id, hit.score, hit.distance)
        assert found.metadata == (hit.metadata if "metadata" in include else {})
        assert found.document == (hit.document if "document" in include else None)


@pytest.mark.parametrize("include", [("vector",), "documents", [1]])
def test_include_refuses_other_names(made: Collection, include: Any) -> None:
    with pytest.raises(edgevec.ParameterError, match="include takes 'metadata' and 'document', not"):
        made.search([1, 1], include=include)


def test_metadata_stays_the_same_object(made: Collection) -> None:
    hit = made.search([1, 1])[0]
    hit.metadata["mine"] = 1
    assert hit.metadata["mine"] == 1
    assert "mine" not in made.search([1, 1])[0].metadata


@pytest.mark.threads
def test_hits_stay_as_they_were_while_others_write(made: Collection) -> None:
    done, errors = threading.Event(), []

    def read() -> None:
        try:
            kept = []
            while not done.is_set():
                kept.append(search(made))
                if len(kept) == 7:
                    for hits in kept:
                        assert shown(hits) == written(hits[0].metadata["version"])
                    kept = []
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(1, 150):
        write(made, version)
    done.set()
    for thread in threads:
        thread.join(HANG)
    assert errors == []


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads; the child only looks
def test_a_forked_process_has_its_hits(made: Collection) -> None:
    hits = search(made)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert shown(hits) == written(0)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shown(hits) == written(0)


def test_a_record_that_has_vanished(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", 2) as made:
        write(made, 0)
        made.checkpoint()
        ids_before = [hit.id for hit in made.search([1, 1])]
    with sqlite3.connect(tmp_path / "c.edgevec") as raw:
        raw.execute("DELETE FROM records WHERE id = 'two'")
    raw.close()
    with edgevec.open(tmp_path / "c.edgevec") as made:
        hits = made.search([1, 1])
        assert [hit.id for hit in hits] == [id for id in ids_before if id != "two"]
        assert hits.stats.vanished == 1
        assert not made.check().ok


# ---- ids -----------------------------------------------------------------------------------------------------------

ids = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0, 1, "1", "", "é", "x" * 50])
steps = st.lists(st.tuples(st.sampled_from(["upsert", "delete", "fail"]), st.lists(ids, unique=True, max_size=6)))


@given(start=st.lists(ids, unique=True, max_size=6), steps=steps)
def test_ids_follow_the_records(start: list[Any], steps: list[tuple[str, list[Any]]]) -> None:
    held = set(start)
    with edgevec.open(":memory:", 2) as made:
        made.upsert(start, np.ones((len(start), 2)))
        for what, some in steps:
            assert {hit.id for hit in made.search([1, 1], 100, include=())} == held
            if what == "delete":
                made.delete(some)
                held -= set(some)
                continue
            with suppress(ZeroDivisionError), made.batch():
                gone = list(held)[:1]
                made.upsert(some, np.ones((len(some), 2)))
                made.delete(gone)
                after = (held | set(some)) - set(gone)
                assert {hit.id for hit in made.search([1, 1], 100, include=())} == after
                if what == "fail":
                    raise ZeroDivisionError
                held = after
        assert {hit.id for hit in made.search([1, 1], 100, include=())} == held


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_a_reader_sees_the_ids_of_what_was_committed(tmp_path: Path) -> None:
    """Rows are used again, by edgevec under other ids, and by any SQLite program that renames a record."""
    path = tmp_path / "c.edgevec"

    def found(reader: edgevec.Collection) -> list[Any]:
        return sorted((hit.id for hit in reader.search([1, 1], include=())), key=str)

    with edgevec.open(path, 2) as made:
        made.upsert([1, 2, 3], np.ones((3, 2)))
        with edgevec.open(path, mode="r") as reader:
            assert found(reader) == [1, 2, 3]
            made.delete([3])
            made.upsert(["three"], np.ones((1, 2)))  # in the row of 3
            assert found(reader) == [1, 2, "three"]
            made.upsert(range(10, 15), np.ones((5, 2)))
            assert found(reader) == sorted([1, 2, "three", *range(10, 15)], key=str)
    with edgevec.open(path, mode="r") as reader, sqlite3.connect(path) as raw:
        before = found(reader)
        raw.execute("UPDATE records SET id = 'renamed' WHERE id = 1")
        raw.commit()
        assert found(reader) == sorted(["renamed", *(id for id in before if id != 1)], key=str)
        raw.execute("DELETE FROM records WHERE id = 2")
        raw.commit()
        assert 2 not in found(reader)
        assert reader.search([1, 1], include=()).stats.vanished == 1
    raw.close()


@pytest.mark.parametrize("kind", [int, str])
def test_ids_are_read_in_slices_that_meet(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    monkeypatch.setattr("edgevec.collection.ids._READ_ALONG", 2)
    monkeypatch.setattr("edgevec.collection.ids._MOST_READ_ALONG", 8)
    rng = np.random.default_rng(0)
    with edgevec.open(":memory:", 2) as made:
        for start in range(0, 300, 100):
            made.upsert([kind(id) for id in range(start, start + 100)], rng.standard_normal((100, 2)))
            for _ in range(20):
                query = rng.standard_normal(2)
                small, whole = made.search(query, 3, include=()), made.search(query, 3)
                assert [hit.id for hit in small] == [hit.id for hit in whole]
            held = {hit.id for hit in made.search([1, 1], 300, include=())}
            assert held == {kind(id) for id in range(start + 100)}


def test_ids_whose_rows_are_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most rows are deleted, no memory is kept for them."""
    monkeypatch.setattr("edgevec.collection.ids._MAX_FREE_ROWS", 20)
    with edgevec.open(":memory:", 2) as made:
        for at in range(400):
            made.upsert([at], np.ones((1, 2)))
            made.delete([at - 5])
            if at % 10 == 0:
                assert {hit.id for hit in made.search([1, 1], include=())} == set(range(max(0, at - 4), at + 1))
        made.upsert(["x"], np.ones((1, 2)))
        assert {hit.id for hit in made.search([1, 1], include=())} == {*range(395, 400), "x"}
        assert isinstance(made._store.graph._ids._by_row, dict)  # type: ignore[union-attr]
