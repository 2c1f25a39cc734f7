"""Changes of a collection in shards: what it holds then, durable in one step, seen by those who have it open."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from records_in_shards import CONDITIONS, WORDS, allowed, assert_same, bm25, record, single
from records_in_shards import NOTE_OPTIONS as OPTIONS
from records_in_shards import NOTES as ROWS
from shard_folder import assert_only_what_counts
from support import HANG, examples

import edgevec
import edgevec.sharded_collection.collection
from edgevec import ShardedCollection
from edgevec.sharded import MANIFEST

pytestmark = pytest.mark.threads


@pytest.fixture
def notes(folder: Path) -> Iterator[ShardedCollection]:
    with ShardedCollection.open(folder) as opened:
        yield opened


def sizes(notes: ShardedCollection) -> list[int]:
    return [shard.count for shard in notes.shards]


# ---- what it holds ---------------------------------------------------------------------------------------------------

ids = st.integers(0, 24).map(lambda n: n if n % 3 else f"t{n}")
ids |= st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1, "", "é"])
conditions = st.sampled_from(CONDITIONS)
some_ids = st.lists(ids, max_size=9, unique=True)


def small_at_the_end(counts: list[int], added: int, size: int) -> int:
    """How many of the last shards, none of them half full, are no larger than all that comes after them."""
    merge = [2 * count < size and count <= added + sum(counts[at + 1 :]) for at, count in enumerate(counts)]
    return next((at for at, merges in enumerate(reversed(merge)) if not merges), len(merge)) if added else 0


class Changes(RuleBasedStateMachine):
    """Any sequence of changes, beside a dict in the order of insertion; answers by arithmetic and by SQLite."""

    @initialize(seed=st.integers(0, 2**32), count=st.integers(1, 12), size=st.integers(1, 12))
    def build(self, seed: int, count: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.size = size
        rows = [record(self.rng, number, WORDS) for number in range(count)]
        self.held = {row["id"]: row for row in rows}
        self.notes = ShardedCollection.build(rows, self.folder, rows_per_shard=size, metric="l2", quantization="none")
        self.reader = ShardedCollection.open(self.folder)

    def some(self, ids: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """New records of these ids, and the same as arguments."""
        rows = [{**record(self.rng, 1, WORDS), "id": id} for id in ids]
        return rows, {
            "ids": ids,
            "vectors": np.array([row["vector"] for row in rows], np.float32).reshape(-1, 3),
            "metadata": [row["metadata"] for row in rows],
            "documents": [row["text"] for row in rows],
        }

    @rule(ids=some_ids)
    def upsert(self, ids: list[Any]) -> None:
        rows, given = self.some(ids)
        before, touched = self.notes.manifest, {id for id in ids if id in self.held}
        assert self.notes.upsert(**given) == len(ids)
        self.held.update({row["id"]: row for row in rows})
        kept = {shard for shard in before.shards if shard in self.notes.shards}
        merged = small_at_the_end([shard.count for shard in before.shards], len(ids) - len(touched), self.size)
        assert len(before.shards) - len(kept) <= len(touched) + merged

    @rule(ids=some_ids)
    def add(self, ids: list[Any]) -> None:
        rows, given = self.some(ids)
        before = self.notes.manifest
        if known := [id for id in ids if id in self.held]:
            with pytest.raises(edgevec.DuplicateIdError) as raised:
                self.notes.add(**given)
            assert any(f"id {id!r} exists" in str(raised.value) for id in known)
            assert self.notes.manifest == before
            return
        assert self.notes.add(**given) == len(ids)
        self.held.update({row["id"]: row for row in rows})
        counts = [shard.count for shard in before.shards]
        stay = len(counts) - small_at_the_end(counts, len(ids), self.size)
        assert self.notes.shards[:stay] == before.shards[:stay]
        assert sum(shard.count for shard in self.notes.shards[stay:]) == sum(counts[stay:]) + len(ids)
        assert len(self.notes.shards) == stay + -(-(sum(counts[stay:]) + len(ids)) // self.size)

    @rule(ids=some_ids, parts=st.integers(1, 7), stranger=st.booleans())
    def update(self, ids: list[Any], parts: int, stranger: bool) -> None:
        before = self.notes.manifest
        rows, given = self.some([id for id in ids if id in self.held])
        given = {name: value for at, (name, value) in enumerate(given.items()) if not at or parts & 1 << at - 1}
        if stranger and rows:
            ids, *_ = given.values()
            with pytest.raises(edgevec.UnknownIdError, match="'nobody'"):
                self.notes.update([*ids[1:], "nobody"], **{name: given[name] for name in given if name != "ids"})
            assert self.notes.manifest == before
            return
        assert self.notes.update(**given) == len(rows)
        for row in rows:
            old = self.held[row["id"]]
            if "metadata" in given:
                old["metadata"] = old["metadata"] | row["metadata"]
            if "documents" in given:
                old["text"] = row["text"]
            if "vectors" in given:
                old["vector"] = row["vector"]
        gone = {shard for shard in before.shards if shard not in self.notes.shards}
        assert len(gone) <= len(rows)
        assert len(self.notes.shards) == len(before.shards)

    @rule(condition=conditions.filter(lambda each: each[0] is not None), lang=st.sampled_from(["de", "it", None]))
    def update_where(self, condition: tuple[str, str], lang: str | None) -> None:
        rows = list(self.held.values())
        changed = [rows[at] for at in allowed(rows, condition[1])]
        assert self.notes.update(where=condition[0], metadata={"lang": lang}) == len(changed)
        for row in changed:
            row["metadata"] = {name: value for name, value in row["metadata"].items() if name != "lang"}
            if lang is not None:
                row["metadata"]["lang"] = lang

    @rule(ids=some_ids)
    def delete(self, ids: list[Any]) -> None:
        assert self.notes.delete([*ids, *ids[:1]]) == len(self.held.keys() & set(ids))
        for id in ids:
            self.held.pop(id, None)

    @rule(condition=conditions.filter(lambda each: each[0] is not None))
    def delete_where(self, condition: tuple[str, str]) -> None:
        rows = list(self.held.values())
        gone = [rows[at]["id"] for at in allowed(rows, condition[1])]
        assert self.notes.delete(where=condition[0]) == len(gone)
        for id in gone:
            del self.held[id]

    @rule()
    def clear(self) -> None:
        assert self.notes.clear() == len(self.held)
        self.held.clear()

    @rule()
    def compact(self) -> None:
        self.notes.compact()
        assert not any(shard.is_changed for shard in self.notes.shards)
        small = [2 * shard.count < self.size for shard in self.notes.shards]
        assert not any(one and other for one, other in pairwise(small))
        before = self.notes.manifest
        self.notes.compact()
        assert self.notes.manifest == before
        assert_only_what_counts(self.notes, self.folder)

    @rule(mmap=st.booleans(), verify=st.booleans())
    def open_again(self, mmap: bool, verify: bool) -> None:
        self.notes.close()
        self.notes = ShardedCollection.open(self.folder, mmap=mmap, verify=verify)

    @precondition(lambda self: self.held)
    @rule(condition=conditions, k=st.integers(1, 30), words=st.sets(st.sampled_from(WORDS)))
    def both(self, condition: tuple[str | None, str], k: int, words: set[str]) -> None:
        given: dict[str, Any] = {"text": " ".join(sorted(words)), "k": k, "where": condition[0], "exact": True}
        vector = self.rng.integers(-3, 4, 3)
        with single(list(self.held.values())) as one:
            assert_same(self.reader.search(vector, **given), one.search(vector, **given))

    @rule(condition=conditions, k=st.integers(1, 30), words=st.sets(st.sampled_from(WORDS)))
    def ask(self, condition: tuple[str | None, str], k: int, words: set[str]) -> None:
        (where, sql), rows = condition, list(self.held.values())
        vector = self.rng.integers(-3, 4, 3)
        may = allowed(rows, sql)
        far = [sum((a - b) ** 2 for a, b in zip(row["vector"], vector, strict=True)) for row in rows]
        near = sorted(may, key=lambda at: (far[at], at))[:k]
        scores = bm25(rows, sorted(words))
        best = sorted(may & scores.keys(), key=lambda at: (-round(scores[at], 9), at))
        for each in (self.notes, self.reader):
            found = each.search(vector, k, where=where, exact=True)
            assert [(hit.id, hit.distance) for hit in found] == [(rows[at]["id"], far[at]) for at in near]
            matching = each.search(text=" ".join(sorted(words)), k=99, where=where)
            assert {hit.id for hit in matching} == {rows[at]["id"] for at in best}
            assert [hit.score for hit in matching] == pytest.approx([scores[at] for at in best])
            assert each.count(where) == len(may)
            assert each.ids(where) == [rows[at]["id"] for at in sorted(may)]

    @invariant()
    def same(self) -> None:
        wanted = list(self.held)
        for each in (self.notes, self.reader):
            assert (each.ids(), len(each), each.share) == (wanted, len(wanted), 1.0)
            assert max(sizes(each), default=0) <= self.size
            for found in each.get(wanted):
                row = self.held[found.id]
                assert (found.metadata, found.document) == (row["metadata"], row["text"])
                assert found.vector.tolist() == row["vector"]

    def teardown(self) -> None:
        if hasattr(self, "notes"):
            self.reader.close()
            self.notes.close()
            self.scratch.cleanup()


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=examples(40), stateful_step_count=12, deadline=None)


def test_only_the_shards_that_hold_some_are_written(notes: ShardedCollection, folder: Path) -> None:
    first, second, third = notes.shards
    assert notes.delete([5, 5, 77, "5"]) == 1
    assert (notes.shards[0], notes.shards[2]) == (first, third)
    assert sizes(notes) == [4, 3, 2]
    assert (notes.shards[1].first_id, notes.shards[1].last_id, notes.shards[1].is_changed) == (4, 7, True)
    assert notes.upsert([6, "new"], [[1, 2], [3, 4]]) == 2
    assert (notes.shards[0], notes.shards[2], sizes(notes)) == (first, third, [4, 3, 2, 1])
    assert notes.delete(where="year >= 2008") == 2
    assert sizes(notes) == [4, 3, 1]
    assert notes.manifest.generation == 4
    assert notes.delete(["none", 5]) == notes.delete(where="year = 1") == notes.upsert([], []) == notes.add([], []) == 0
    assert notes.manifest.generation == 4  # nothing to write
    assert notes.delete(4) == 1
    assert second not in notes.shards
    assert_only_what_counts(notes, folder)
    notes.compact()
    assert (notes.shards[0], sizes(notes)) == (first, [4, 3])
    notes.delete([6, 7])
    notes.compact()
    assert (notes.shards[0], sizes(notes)) == (first, [4, 1])
    before = notes.manifest
    notes.compact()  # the one small shard stays
    assert notes.manifest == before
    assert_only_what_counts(notes, folder)


def test_a_changed_shard_is_not_taken_for_what_was_built(notes: ShardedCollection, folder: Path) -> None:
    """Nor is one of compaction written anew by the build of the same records."""
    notes.delete([9])
    ShardedCollection.build(ROWS, folder, **OPTIONS).close()
    assert len(notes.get(range(10))) == 10
    notes.delete([3, 8, 9])
    notes.compact()
    files = [shard.file for shard in notes.shards]
    ShardedCollection.build([row for row in ROWS if row["id"] not in (3, 8, 9)], folder, **OPTIONS).close()
    assert [shard.file for shard in notes.shards] == files


@pytest.mark.parametrize(
    ("options", "exact"),
    [({"dtype": "float16"}, False), ({"metric": "cosine", "quantization": "binary"}, True), ({"metric": "ip"}, True)],
)
def test_compaction_leaves_records_as_they_are(
    tmp_path: Path, rng: np.random.Generator, options: dict[str, Any], exact: bool
) -> None:
    vectors = (rng.standard_normal((40, 16)) * 1e3).astype(np.float32)
    data = {"n": 2**53 + 1, "x": 0.1, "deep": {"list": [None, True, "\u2028é"]}, "when": "2020-01-01"}
    rows = [
        {"id": n, "vector": vector, "text": None if n % 2 else f"{n} \n", **data} for n, vector in enumerate(vectors)
    ]
    with ShardedCollection.build(rows, tmp_path / "s", rows_per_shard=10, **options) as notes:
        notes.delete([1, *range(11, 18), *range(21, 28)])
        notes.upsert(["a", 30], vectors[:2], [data, {}], ["text", None])
        before = notes.get(notes.ids())
        notes.compact()
        assert sizes(notes) == [10, 10, 6]  # two that were small, and neighbors, among them
        for found, wanted in zip(notes.get(notes.ids()), before, strict=True):
            assert (found.id, found.metadata, found.document) == (wanted.id, wanted.metadata, wanted.document)
            assert found.vector.tobytes() == wanted.vector.tobytes()
        if exact:
            assert notes.get([39])[0].vector.tobytes() == vectors[39].tobytes()
        assert all(report.ok for report in notes.check().values())


def test_records_that_are_stored_one_by_one_lie_in_few_shards(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = [record(rng, number, WORDS) | {"id": number} for number in range(100)]
    held = {row["id"]: row for row in rows[:10]}
    with ShardedCollection.build(rows[:10], tmp_path / "s", **{**OPTIONS, "rows_per_shard": 40}) as notes:
        for at in range(10, 95):
            # every third call replaces one of the small shards at the end, too
            some = [rows[at], rows[95] | {"id": at - 1}] if at % 3 == 2 else [rows[at]]
            vectors = np.array([row["vector"] for row in some], np.float32)
            notes.upsert(
                [row["id"] for row in some],
                vectors,
                [row["metadata"] for row in some],
                [row["text"] for row in some],
            )
            held.update({row["id"]: row for row in some})
        assert sizes(notes) == [26, 32, 32, 4, 1]
        assert notes.ids() == list(held)
        for found, wanted in zip(notes.get(notes.ids()), held.values(), strict=True):
            assert (found.metadata, found.document) == (wanted["metadata"] or None, wanted["text"])
            np.testing.assert_array_equal(found.vector, np.float32(wanted["vector"]))
        assert all(report.ok for report in notes.check().values())
        reported: list[tuple[int, int]] = []
        notes.add(["a", "b"], np.ones((2, 3)), progress=lambda *step: reported.append(step))
        assert sizes(notes) == [26, 32, 32, 4, 3]
        assert reported[-1][0] == reported[-1][1] == 3


def test_small_shards_that_are_damaged_stay_as_they_are(tmp_path: Path) -> None:
    with ShardedCollection.build(ROWS, tmp_path / "s", **{**OPTIONS, "rows_per_shard": 40}) as notes:
        notes.add(["a", "b"], np.ones((2, 2)))
        path = tmp_path / "s" / notes.shards[-1].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with ShardedCollection.open(tmp_path / "s", verify=False) as notes:
        notes.add(["c", "d", "e"], np.ones((3, 2)))
        assert sizes(notes) == [10, 2, 3]
        with pytest.raises(edgevec.CorruptCollectionError, match=rf"{path.name}: a shard of another checksum"):
            notes.compact()


def test_compaction_loses_no_damaged_record(notes: ShardedCollection, folder: Path) -> None:
    notes.delete([5])
    part = notes._following.shards[1].part
    pages = part.collection.pages
    part.collection.pages = lambda size: ([record for record in page if record.id != 6] for page in pages(size))  # type: ignore[method-assign,assignment]
    before = notes.manifest
    with pytest.raises(edgevec.CorruptCollectionError, match=rf"{notes.shards[1].file}: 1 damaged"):
        notes.compact()
    assert notes.manifest == before


# ---- nothing is left -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [lambda notes: notes.clear(), lambda notes: notes.delete(range(10))])
def test_an_empty_collection_works(
    notes: ShardedCollection, folder: Path, empty: Callable[[ShardedCollection], int]
) -> None:
    assert empty(notes) == 10
    with ShardedCollection.open(folder, condition_memory=7) as again:
        for each in (notes, again):
            assert (len(each), each.count("year > 1"), each.ids(), each.ids("year > 1"), each.shards) == (
                0,
                0,
                [],
                [],
                (),
            )
            assert (each.share, each.stats(), each.check(), each.problems) == (1.0, {}, {}, {})
            assert each.memory_usage()["total"] == 0
            assert (each.dim, each.metric, 3 in each) == (2, "l2", False)
            assert repr(each) == "ShardedCollection(0 records, dim=2, 'l2', 0 shards)"
            for given in (
                {"vector": [1, 2]},
                {"text": "note"},
                {"vector": [1, 2], "text": "note", "where": "year > 1"},
            ):
                for how in ({}, {"exact": True}, {"ef": 5}, {"recall": 0.9}):
                    assert each.search(**given, **how) == []
            assert each.get([1], missing="skip") == []
            for call, error, message in (
                (lambda each: each.search([1, 2, 3]), edgevec.ParameterError, "2"),
                (lambda each: each.search([1, 2], 0), edgevec.ParameterError, "k"),
                (lambda each: each.search(), edgevec.ParameterError, "a vector or a text"),
                (lambda each: each.search("text"), edgevec.ParameterError, "encoder"),
                (lambda each: each.search(text="a", where="year >"), edgevec.WhereError, "year"),
                (lambda each: each.count("year >"), edgevec.WhereError, "year"),
                (lambda each: each.ids("year >"), edgevec.WhereError, "year"),
                (lambda each: each.get([1]), edgevec.UnknownIdError, "1"),
                (lambda each: each.add([1], [[1, 2, 3]]), edgevec.ParameterError, "2"),
            ):
                with pytest.raises(error, match=message):
                    call(each)
        with pytest.raises(edgevec.ParameterError, match=r'manifest.json: storage="disk"'):
            ShardedCollection.open(folder, storage="disk")
        generation = notes.manifest.generation
        assert notes.clear() == notes.delete([1]) == notes.delete(where="year > 1") == 0
        notes.compact()
        assert notes.manifest.generation == generation
        assert again.add(["a", 3], [[1, 2], [3, 4]]) == 2
        assert [hit.id for hit in notes.search([1, 2])] == ["a", 3]
    assert_only_what_counts(notes, folder)


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda notes: notes.delete(), edgevec.ParameterError, "give ids or where"),
        (lambda notes: notes.delete([1], where="year = 1"), edgevec.ParameterError, "give ids or where"),
        (lambda notes: notes.delete(where=""), edgevec.ParameterError, r"clear\(\)"),
        (lambda notes: notes.delete(where="year ="), edgevec.WhereError, "year ="),
        (lambda notes: notes.delete([1.5]), edgevec.ParameterError, "id 0"),
        (lambda notes: notes.upsert([1, 1], [[1, 1]] * 2), edgevec.DuplicateIdError, "1 comes twice"),
        (lambda notes: notes.add(["a", "a"], [[1, 1]] * 2), edgevec.DuplicateIdError, "'a' comes twice"),
        (lambda notes: notes.add(["a", 7], [[1, 1]] * 2), edgevec.DuplicateIdError, "id 7 exists"),
        (lambda notes: notes.upsert([1, "a"], [[1, 1], [np.nan, 1]]), edgevec.NotFiniteError, "row 1"),
        (lambda notes: notes.upsert([1], [[1, 1, 1]]), edgevec.ParameterError, "2"),
        (lambda notes: notes.upsert([1, 2], [[1, 1]]), edgevec.ParameterError, "2 ids but 1"),
        (lambda notes: notes.upsert([1], [[1, 1]], [{"a": object()}]), edgevec.ParameterError, "metadata 0"),
        (lambda notes: notes.upsert([1], documents=["a"]), edgevec.ParameterError, "give them, or open"),
        (lambda notes: notes.update([1]), edgevec.ParameterError, "nothing to change"),
        (lambda notes: notes.update([1, 1], {"a": 1}), edgevec.DuplicateIdError, "1 comes twice"),
        (lambda notes: notes.update([1, "nobody"], {"a": 1}), edgevec.UnknownIdError, "'nobody'"),
        (lambda notes: notes.update(where="", metadata={"a": 1}), edgevec.ParameterError, "change every record"),
        (lambda notes: notes.update(where="year > 0", metadata=[{}]), edgevec.ParameterError, "metadata alone"),
        (lambda notes: notes.update([1, 2], vectors=[[1, 1], [np.inf, 1]]), edgevec.NotFiniteError, "row 1"),
    ],
)
def test_bad_arguments_change_nothing(
    notes: ShardedCollection, folder: Path, change: Callable[[ShardedCollection], object], error: Any, message: str
) -> None:
    before, names = (folder / MANIFEST).read_bytes(), set(os.listdir(folder))
    with pytest.raises(error, match=message):
        change(notes)
    assert (folder / MANIFEST).read_bytes() == before
    assert set(os.listdir(folder)) - {"manifest.json-lock"} == names - {"manifest.json-lock"}


def lengths(found: list[str]) -> Any:
    return [[len(text), 1] for text in found]


def test_the_encoder_makes_vectors(tmp_path: Path) -> None:
    mine, other = (edgevec.encoders.TextEncoder(name, lengths) for name in ("mine", "other"))
    rows = [{"id": n, "text": "a" * n} for n in range(1, 4)]
    with ShardedCollection.build(rows, tmp_path / "s", rows_per_shard=2, metric="l2", encoder=mine) as notes:
        assert notes.upsert([2, 9], documents=["b" * 20, "b" * 9]) == 2
        assert [(hit.id, hit.distance) for hit in notes.search("c" * 19, 2)] == [(2, 1), (9, 100)]
        assert notes.update([9, 2], documents=["b" * 30, None]) == 2
        assert [(hit.id, hit.document) for hit in notes.search("c" * 30, 2)] == [(9, "b" * 30), (2, None)]
        notes.update([9, 2], documents=["b" * 9, "b" * 20])
        with pytest.raises(edgevec.ParameterError, match="record 1 has neither"):
            notes.upsert([5, 6], documents=["a", None])
        for change in (notes.compact, notes.clear):
            change()
            assert notes.manifest.settings.encoder == "mine"
            with pytest.raises(edgevec.ParameterError, match=r"manifest.json has the encoder 'mine', not 'other'|mine"):
                ShardedCollection.open(tmp_path / "s", encoder=other)
            with ShardedCollection.open(tmp_path / "s") as plain:
                with pytest.raises(edgevec.ParameterError, match="encoder='mine'"):
                    plain.search("text")
                with pytest.raises(edgevec.ParameterError, match="encoder='mine'"):
                    plain.add(["x"], documents="text")
                with pytest.raises(edgevec.ParameterError, match="encoder='mine'"):
                    plain.update(["x"], documents="text")
                assert plain.add([f"of {change.__name__}"], [[5, 1]]) == 1
            assert [hit.id for hit in notes.search("12345", 1)] == [f"of {change.__name__}"]


def test_what_was_left_by_a_build_without_the_encoder_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(edgevec.NotFiniteError):
        ShardedCollection.build([*ROWS, {"id": 10, "vector": [np.nan, 1]}], tmp_path / "s", **OPTIONS)
    mine = edgevec.encoders.TextEncoder("mine", lengths)
    with ShardedCollection.build(ROWS, tmp_path / "s", **OPTIONS, encoder=mine) as notes:
        assert notes.manifest.settings.encoder == "mine"
        assert_only_what_counts(notes, tmp_path / "s")


def test_an_encoder_with_a_name_needs_a_collection_that_keeps_it(folder: Path) -> None:
    with (
        ShardedCollection.open(folder, encoder=edgevec.encoders.TextEncoder("mine", lengths)) as named,
        ShardedCollection.open(folder, encoder=lengths) as nameless,
    ):
        with pytest.raises(edgevec.ParameterError, match=r"built without an encoder.*'mine'"):
            named.upsert(["a"], documents=["text"])
        assert named.upsert(["a"], [[1, 1]]) == 1
        assert nameless.upsert(["b", 3], documents=["text", "t"]) == 2
        assert named.get(["b"])[0].vector.tolist() == [4, 1]


# ---- those who have it open ------------------------------------------------------------------------------------------


def test_two_writers_in_turn_lose_nothing(folder: Path) -> None:
    with ShardedCollection.open(folder) as one, ShardedCollection.open(folder, mmap=False) as other:
        one.add(["a"], [[1, 1]])
        other.upsert([3, "b"], [[9, 9], [1, 1]])
        one.delete(["b", 0])
        other.compact()
        with pytest.raises(edgevec.DuplicateIdError, match="'a'"):
            other.add(["c", "a"], [[1, 1]] * 2)
        assert one.ids() == other.ids() == [*range(1, 10), "a"]


def test_who_writes_meanwhile_is_told(notes: ShardedCollection, folder: Path) -> None:
    changes: tuple[Callable[[], object], ...] = (
        lambda: notes.delete([1]),
        lambda: notes.add(["a"], [[1, 1]]),
        notes.clear,
        notes.compact,
    )
    with ShardedCollection.open(folder) as other, other._following.writing():
        for change in changes:
            with pytest.raises(edgevec.LockedError, match="is written to already"):
                change()
        assert len(notes) == 10


def test_a_change_in_a_progress_function_is_refused(notes: ShardedCollection) -> None:
    seen: list[Any] = []

    def progress(done: int, total: int) -> None:
        for change in (lambda: notes.delete([1]), lambda: notes.upsert([1], [[1, 1]]), notes.compact, notes.close):
            with pytest.raises(edgevec.BusyError, match="progress function"):
                change()
        seen.append(([hit.id for hit in notes.search([1, 1], 1)], len(notes), notes.refresh()))

    notes.upsert([5, "a"], [[1, 1]] * 2, progress=progress)
    notes.compact(progress=progress)
    assert {(tuple(ids), count, new) for ids, count, new in seen} == {((1,), 10, False), ((1,), 11, False)}
    assert notes.delete([1]) == 1


def test_searches_go_on_while_records_change(folder: Path) -> None:
    """Each answer is of one manifest: all records are of one year."""
    failed: list[object] = []
    done = threading.Event()

    def watched(reader: ShardedCollection) -> None:
        try:
            while not done.is_set():
                years = {hit.metadata["year"] for hit in reader.search([5, 1], 10, text="note", exact=True)}
                if len(years) != 1:
                    failed.append(years)
        except BaseException as error:
            failed.append(error)

    with ShardedCollection.open(folder) as writer, ShardedCollection.open(folder) as reader:
        change(writer, 0)
        threads = [threading.Thread(target=watched, args=(each,)) for each in (writer, reader)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 5):
                change(writer, number)
        finally:
            done.set()
            for thread in threads:
                thread.join(HANG)
    assert not failed


def change(notes: ShardedCollection, year: int) -> None:
    notes.upsert(range(12), np.ones((12, 2)), [{"year": year}] * 12, ["note"] * 12)
