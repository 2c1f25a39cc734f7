"""Adding, removing and compaction: durable in one step, seen by those who have the index open."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from oracle import assert_right
from support import HANG, examples

import edgevec
import edgevec.sharded.index
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST

DIM = 4


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((200, DIM)).astype(np.float32)


@pytest.fixture
def folder(rows: np.ndarray, tmp_path: Path) -> Path:
    ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=60, metric="l2", quantization="none").close()
    return tmp_path / "s"


def test_ids_go_on_from_the_highest_ever_held(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as index:
        assert index.add(rows[:2]).tolist() == [200, 201]
        assert index.remove([201, 200]) == 2
        index.compact()
        assert index.add(rows[0]).tolist() == [202]
        assert index.add(rows[:1], ids=[1000]).tolist() == [1000]
    with ShardedIndex.open(folder) as index:
        assert index.add(rows[:3]).tolist() == [1001, 1002, 1003]
        index.add(rows[:1], ids=[2**63 - 1])
        with pytest.raises(edgevec.OutOfMemoryError, match="no ids are left"):
            index.add(rows[:1])


def test_an_id_that_exists_is_replaced(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as index:
        index.add(rows[:3] + 50, ids=[5, 150, 500])
        assert len(index) == 201
        np.testing.assert_array_equal(index.get([5, 150, 500]), rows[:3] + 50)
        assert index.search(rows[5], 300).ids.tolist().count(5) == 1
        index.add(rows[5:6], ids=[5])
        assert index.search(rows[5], 1) == ([5], [0])


def test_the_same_rows_removed_and_added_again(folder: Path, rows: np.ndarray) -> None:
    """Their shard is the same file, of which some ids were removed."""
    with ShardedIndex.open(folder) as index, ShardedIndex.open(folder) as reader:
        index.remove(range(0, 60, 2))
        assert len(reader.search(rows[0], 300).ids) == 170
        index.add(rows[:60], ids=range(60))
        assert len(index) == 200
        assert len(reader.search(rows[0], 300).ids) == 200
        assert reader.search(rows[0], 1).ids.tolist() == [0]


def test_removing_counts_what_was_held(folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        assert index.remove([3, 3, 4, 199, 999, -5]) == 3
        assert index.remove([3, 4]) == 0
        assert index.manifest.generation == 2  # nothing to write the second time
        assert index.remove(range(60)) == 58
        assert len(index.shards) == 3  # one of which nothing is left


def test_a_reader_follows_by_itself_and_by_refresh(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as writer, ShardedIndex.open(folder) as reader:
        assert not reader.refresh()
        writer.remove([7])
        assert reader.search(rows[7], 1).ids.tolist() != [7]
        writer.add(rows[7:8], ids=[7])
        assert reader.refresh()
        assert reader.search(rows[7], 1).ids.tolist() == [7]
        writer.remove(range(150))
        writer.compact()
        assert reader.search(rows[7], 300).ids.size == 50
        ShardedIndex.build(rows[:20, :3], folder).close()
        assert reader.search([1, 2, 3], 300).ids.size == 20
        assert reader.dim == 3


def test_two_writers_in_turn_lose_nothing(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as one, ShardedIndex.open(folder) as other:
        one.add(rows[:2], ids=[300, 301])
        other.add(rows[:2], ids=[301, 302])
        one.remove([302])
        other.remove([0])
        one.refresh()
        assert sorted(one) == sorted(other) == [*range(1, 200), 300, 301]


def test_compaction_leaves_few_shards_and_no_other_files(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder, mmap=False) as index:
        for row in range(10):
            index.add(rows[row] + 9, ids=[row])
        index.remove(range(100, 160))
        truth = {id: index.get([id])[0] for id in index}
        told: list[tuple[int, int]] = []
        index.compact(progress=lambda done, total: told.append((done, total)))
        assert told
        assert [shard.removed for shard in index.shards] == [None] * len(index.shards)
        assert len(index.shards) == 3
        assert {id: index.get([id])[0].tolist() for id in index} == {id: row.tolist() for id, row in truth.items()}
        names = {path.name for path in folder.iterdir()}
        assert names == {shard.file for shard in index.shards} | {MANIFEST, "manifest.json-lock"}
        before = index.manifest
        index.compact()
        assert index.manifest == before


@pytest.mark.parametrize("change", ["add", "remove", "compact"])
def test_a_change_that_fails_at_its_last_step_has_not_been(
    folder: Path, rows: np.ndarray, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise edgevec.StorageError("full")

    with ShardedIndex.open(folder) as index:
        index.remove([2])
        before, answer = index.manifest, index.search(rows[:5], 300)
        monkeypatch.setattr(edgevec.sharded.index, "commit", fail)
        with pytest.raises(edgevec.StorageError, match="full"):
            {
                "add": lambda: index.add(rows[:90] + 1, ids=range(90)),
                "remove": lambda: index.remove(range(30)),
                "compact": lambda: index.compact(),
            }[change]()
        monkeypatch.undo()
        with ShardedIndex.open(folder) as again:
            for each in (index, again):
                assert each.manifest == before
                np.testing.assert_array_equal(each.search(rows[:5], 300).ids, answer.ids)


KILLED = """
import os, signal, sys
import numpy as np
import edgevec.sharded.index
from edgevec import ShardedIndex
edgevec.sharded.index.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
index = ShardedIndex.open(sys.argv[1])
rows = np.ones((90, index.dim), np.float32)
{"add": lambda: index.add(rows, ids=range(90)), "remove": lambda: index.remove(range(30)), "compact": index.compact}[
    sys.argv[2]
]()
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("change", ["add", "remove", "compact"])
def test_a_change_whose_process_is_killed_has_not_been(folder: Path, rows: np.ndarray, change: str) -> None:
    """What it has written for nothing is gone after the next compaction."""
    with ShardedIndex.open(folder) as index:
        index.remove([2])
        before, names = index.manifest, set(os.listdir(folder))
        done = subprocess.run([sys.executable, "-c", KILLED, folder, change], timeout=HANG)
        assert done.returncode == -signal.SIGKILL
        assert set(os.listdir(folder)) > names
        for each in (index, ShardedIndex.open(folder)):
            with each:
                assert each.manifest == before
                assert sorted(each.search(rows[0], 300).ids.tolist()) == [0, 1, *range(3, 200)]
    with ShardedIndex.open(folder) as index:
        index.remove([3])
        index.compact()
        assert set(os.listdir(folder)) == {*index.manifest.files(), MANIFEST, "manifest.json-lock"}


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(
    folder: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ShardedIndex.open(folder) as index:
        names, content = os.listdir(folder), (folder / MANIFEST).read_bytes()
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(edgevec.StorageError, match=r"manifest.json: No space left"):
            index.remove(range(60))  # a whole shard, so nothing but the manifest is written
        monkeypatch.undo()
        assert (folder / MANIFEST).read_bytes() == content
        assert sorted(os.listdir(folder)) == sorted({*names, "manifest.json-lock"})
        assert len(index.search(rows[0], 300).ids) == 200


def test_a_reader_that_cannot_follow_has_what_it_had(folder: Path, rows: np.ndarray) -> None:
    """It was opened without a look at the bytes, and finds one shard of two damaged when both are to change."""
    with ShardedIndex.open(folder, mmap=False) as writer:
        path = folder / writer.shards[2].file
        content = path.read_bytes()
        at = len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with ShardedIndex.open(folder, verify=False) as reader:
            before = reader.manifest
            writer.remove([7, 130])
            with pytest.raises(edgevec.CorruptIndexError, match="checksum differs"):
                reader.refresh()
            assert (reader.manifest, len(reader), 7 in reader, 130 in reader) == (before, 200, True, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([[1, 2]], None), "dimensions"),
        (([[1] * DIM], [1, 2]), "1 vectors but 2 ids"),
        (([[1] * DIM], [-1]), "-1"),
        (([[1] * DIM, [np.nan] * DIM], None), "row 1"),
        (([[1] * DIM] * 2, [4, 4]), "twice"),
        (([[1] * DIM] * 100 + [[np.inf] * DIM], None), "row 100"),
    ],
)
def test_bad_additions_change_nothing(folder: Path, arguments: tuple[list[float], list[int]], error: str) -> None:
    with ShardedIndex.open(folder) as index:
        before = index.manifest
        with pytest.raises(ValueError, match=error):
            index.add(*arguments)
        assert index.manifest == before
        assert index.add(np.empty((0, DIM))).size == 0
        with pytest.raises(edgevec.CancelledError):
            index.add(np.ones((300, DIM)), progress=lambda done, total: False)
        index.remove([1])
        with pytest.raises(edgevec.CancelledError):
            index.compact(progress=lambda done, total: False)
        assert (len(index), index.manifest.generation) == (199, 2)


def test_vectors_that_are_added_one_by_one_lie_in_few_shards(tmp_path: Path, rows: np.ndarray) -> None:
    with ShardedIndex.build(rows[:30], tmp_path / "s", rows_per_shard=64, metric="l2", quantization="none") as index:
        first = index.shards[0]
        for at in range(30, 150):
            index.add(rows[at : at + 1], ids=[at])
        assert len(os.listdir(tmp_path / "s")) < 40  # those merged long ago are gone
        assert [shard.live for shard in index.shards] == [62, 32, 32, 16, 8]
        assert first not in index.shards
        new = [150, 149, 5, 148, 151, 152, 153, 154]  # two of them are in the last one
        index.add(rows[150:158] + 1, ids=new)
        assert [shard.live for shard in index.shards] == [61, 32, 32, 30]
        held = {at: rows[at] for at in range(150)} | dict(zip(new, rows[150:158] + 1, strict=True))
        for query in rows[:5]:
            assert_right(index.search(query, 9, exact=True), "l2", held, query, 9, 1e-6)
        assert sorted(index) == sorted(held)


def test_small_shards_that_are_damaged_stay_as_they_are(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as index:
        index.add(rows[:3], ids=[300, 301, 302])
        path = folder / index.shards[-1].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with ShardedIndex.open(folder, verify=False, mmap=True) as index:
        index.add(rows[:4], ids=[400, 401, 402, 403])
        assert [shard.count for shard in index.shards[-2:]] == [3, 4]
        with pytest.raises(edgevec.CorruptIndexError, match=path.name):
            index.compact()


@pytest.mark.parametrize("options", [{"cluster": True}, {"keep_vectors": False}])
def test_small_shards_stay_where_to_write_them_anew_would_cost_recall(
    tmp_path: Path, rows: np.ndarray, options: dict[str, object]
) -> None:
    with ShardedIndex.build(rows[:70], tmp_path / "s", rows_per_shard=60, **options) as index:  # type: ignore[arg-type]
        before = index.shards
        for at in range(70, 80):
            index.add(rows[at : at + 1])
        assert index.shards[: len(before)] == before
        assert [shard.count for shard in index.shards[len(before) :]] == [1] * 10
        index.compact()
        assert len(index.shards) < len(before) + 2


class Changes(RuleBasedStateMachine):
    """Any sequence of changes, beside a dict; answers by brute force."""

    @initialize(count=st.integers(1, 20), metric=st.sampled_from(["cosine", "ip", "l2"]))
    def build(self, count: int, metric: str) -> None:
        import tempfile

        self.rng = np.random.default_rng(count)
        self.metric = metric
        self.scratch = tempfile.TemporaryDirectory()
        rows = self.some(count)
        self.index = ShardedIndex.build(
            rows, self.scratch.name, rows_per_shard=6, metric=metric, keep_vectors="float32"
        )
        self.reader = ShardedIndex.open(self.scratch.name)
        self.held = dict(enumerate(rows))
        self.next_id = count

    def some(self, count: int) -> np.ndarray:
        return self.rng.standard_normal((count, DIM)).astype(np.float32)

    @rule(ids=st.lists(st.integers(-3, 30).filter(lambda id: id != -1), max_size=14, unique=True))
    def add(self, ids: list[int]) -> None:
        rows = self.some(len(ids))
        assert self.index.add(rows, ids=ids).tolist() == ids
        self.held.update(zip(ids, rows, strict=True))
        self.next_id = max([self.next_id, *(id + 1 for id in ids)])

    @rule(count=st.integers(1, 8))
    def number(self, count: int) -> None:
        rows = self.some(count)
        ids = self.index.add(rows).tolist()
        assert ids == list(range(self.next_id, self.next_id + count))
        self.held.update(zip(ids, rows, strict=True))
        self.next_id += count

    @rule(ids=st.lists(st.integers(-3, 30), max_size=20))
    def remove(self, ids: list[int]) -> None:
        assert self.index.remove(ids) == len(self.held.keys() & set(ids))
        for id in ids:
            self.held.pop(id, None)

    @rule()
    def compact(self) -> None:
        self.index.compact()

    @rule(mmap=st.booleans(), verify=st.booleans())
    def open_again(self, mmap: bool, verify: bool) -> None:
        self.index.close()
        self.index = ShardedIndex.open(self.scratch.name, mmap=mmap, verify=verify)

    @rule(k=st.integers(1, 40), every=st.integers(1, 3))
    def filtered(self, k: int, every: int) -> None:
        query = self.some(1)[0]
        allowed = list(self.held)[::every]
        held = {id: self.held[id] for id in allowed}
        found = self.reader.search(query, k, filter=[*allowed, 999], exact=True)
        assert_right(found, self.metric, held, query, k, 1e-6)

    @invariant()
    def same(self) -> None:
        query = self.some(1)[0]
        for each in (self.index, self.reader):
            assert_right(each.search(query, 9, exact=True), self.metric, self.held, query, 9, 1e-6)
            assert (len(each), sorted(each)) == (len(self.held), sorted(self.held))
        assert self.index.search(query, 100).ids.size == len(self.held)

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            self.reader.close()
            self.scratch.cleanup()


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=examples(60), stateful_step_count=15, deadline=None)
