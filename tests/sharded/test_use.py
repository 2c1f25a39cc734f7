"""As people use it: by other paths, from several threads and processes, after forks, and closed meanwhile."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from forked import in_child
from oracle import assert_right
from shard_folder import told_by_one_who_may_only_read
from support import HANG, need_module

import edgevec
import edgevec.sharded.index
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST
from edgevec.sharded import folders as folders_module

ROWS, DIM = 300, 5
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture
def folder(rows: np.ndarray, tmp_path: Path) -> Path:
    ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=80, metric="l2", quantization="none").close()
    return tmp_path / "s"


# ---- paths and files -----------------------------------------------------------------------------------------------


def test_a_folder_of_files_is_one_source(rows: np.ndarray, tmp_path: Path) -> None:
    source = tmp_path / "rows"
    source.mkdir()
    np.save(source / "b.npy", rows[120:])
    np.save(source / "a.npy", rows[:120])
    for other in ("_SUCCESS", ".hidden.npy", "notes.txt"):
        (source / other).write_text("not vectors")
    told: list[tuple[int, int]] = []
    with ShardedIndex.build(
        source, tmp_path / "s", rows_per_shard=100, metric="l2", progress=lambda *done: told.append(done)
    ) as index:
        assert sorted(index) == list(range(ROWS))
        assert index.search(rows[::37], 1).ids[:, 0].tolist() == list(range(0, ROWS, 37))
        assert [shard.count for shard in index.shards] == [100, 100, 100]
    assert told[-1] == (ROWS, ROWS)
    with ShardedIndex.build(source, tmp_path / "t", limit=130) as index:
        assert sorted(index) == list(range(130))
    np.save(source / "c.npy", rows[:3, :4])
    with pytest.raises(edgevec.ParameterError, match="vectors of 5 and of 4 dimensions"):
        ShardedIndex.build(source, tmp_path / "u")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(edgevec.DataFormatError, match="nothing: a folder without files of vectors"):
        ShardedIndex.build(tmp_path / "nothing", tmp_path / "u")


def test_a_folder_of_parquet_files_has_their_ids(rows: np.ndarray, tmp_path: Path) -> None:
    need_module("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = tmp_path / "rows"
    source.mkdir()
    for part in range(3):
        ids = np.arange(100 * part, 100 * part + 100)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows[ids].reshape(-1)), DIM)
        pq.write_table(pa.table({"id": ids * 5, "v": vectors}), source / f"part-{2 - part}.parquet")
    with ShardedIndex.build(source, tmp_path / "s", column="v", rows_per_shard=70, metric="l2") as index:
        assert sorted(index) == list(range(0, 5 * ROWS, 5))
        assert index.search(rows[::29], 1).ids[:, 0].tolist() == list(range(0, 5 * ROWS, 145))
    np.save(source / "a.npy", rows[:4])
    with pytest.raises(edgevec.ParameterError, match="some rows have ids and some have none"):
        ShardedIndex.build(source, tmp_path / "t")


def test_a_relative_path_stays_what_it_was(
    folder: Path, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with ShardedIndex.open("s") as index, ShardedIndex.open(folder) as other:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert index.search(rows[7], 1).ids.tolist() == [7]
        index.add(rows[7:8], ids=[1007])
        other.remove([7])
        assert index.search(rows[7], 1).ids.tolist() == [1007]
        with pickle.loads(pickle.dumps(index)) as again:
            assert again.search(rows[7], 1).ids.tolist() == [1007]
        index.compact()
        assert len(other) == len(index) == ROWS
    assert not list((tmp_path / "elsewhere").iterdir())


def test_through_a_symbolic_link_that_is_turned(folder: Path, rows: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("s", target_is_directory=True)
    ShardedIndex.build(rows[:50] + 3, tmp_path / "next", metric="l2", quantization="none").close()
    with ShardedIndex.open(tmp_path / "link") as index, ShardedIndex.open(tmp_path / "link" / MANIFEST) as second:
        assert index.search(rows[7], 1).ids.tolist() == [7]
        assert index.remove([7]) == 1
        assert second.search(rows[7], 1).ids.tolist() != [7]
        (tmp_path / "new-link").symlink_to("next", target_is_directory=True)
        os.replace(tmp_path / "new-link", tmp_path / "link")
        assert index.search(rows[7] + 3, 300).ids.size == 50
        assert index.search(rows[7] + 3, 1).ids.tolist() == [7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "next", "s"]


READING = """
import edgevec

def make(folder):
    edgevec.ShardedIndex.build([[1, 2], [2, 1], [1, 1]], folder).close()

def look(folder):
    with edgevec.ShardedIndex.open(folder) as index:
        print(index.search(index.get([2])[0], 1).ids.tolist(), len(index))
        for change in (lambda: index.add([[1] * index.dim]), lambda: index.remove([1]), lambda: index.compact()):
            try:
                change()
            except edgevec.StorageError as error:
                print(type(error).__name__)
        print(len(index), index.search(index.get([2])[0], 1).ids.tolist())
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has no such users")
def test_a_folder_that_may_only_be_read(folder: Path) -> None:
    told, _, errors = told_by_one_who_may_only_read(folder, READING)
    assert told == ["[2] 300", *["StorageError"] * 3, "300 [2]"], errors


# ---- ids and answers -----------------------------------------------------------------------------------------------


def test_ids_beyond_those_that_a_float_can_hold(rows: np.ndarray, tmp_path: Path, rng: np.random.Generator) -> None:
    ids = np.arange(2**53 - 100, 2**53 + 200, dtype=np.int64)
    ids[:2] = -(2**63), 2**63 - 1
    with ShardedIndex.build(
        rows, tmp_path / "s", ids=rng.permuted(ids), rows_per_shard=70, metric="l2", quantization="none"
    ) as index, ShardedIndex.open(tmp_path / "s") as reader:  # fmt: skip
        held = {int(id): index.get([id])[0] for id in ids}
        for gone in ([2**53 + 1, 2**53 + 3], [2**63 - 1], [-(2**63)], [2**53 + 2], list(range(2**53 - 50, 2**53))):
            assert index.remove(gone) == len(gone)
            for id in gone:
                del held[id]
            assert sorted(reader.search(rows[0], 400).ids.tolist()) == sorted(held)
            assert gone[0] not in reader
        index.add(rows[:1], ids=[2**53 + 1])
        held[2**53 + 1] = rows[0]
        index.compact()
        query = rng.standard_normal(DIM)
        assert_right(reader.search(query, 50, exact=True), "l2", held, query, 50)
        for id in held:
            np.testing.assert_array_equal(reader.get([id])[0], held[id])


def test_k_larger_than_all_and_filters_across_shards(folder: Path, rows: np.ndarray, rng: np.random.Generator) -> None:
    with ShardedIndex.open(folder) as index:
        held = dict(enumerate(rows))
        for allowed in (None, [5], [5, 299, 10**12], range(70, 90), [-7], []):
            few = held if allowed is None else {id: held[id] for id in allowed if id in held}
            for k in (1, 3, ROWS, 10**9):
                for exact in (False, True):
                    found = index.search(rows[5] + 0.01, k, filter=allowed, exact=exact)
                    assert len(found.ids) == min(k, len(few))
                    if exact or allowed is not None or k >= ROWS:
                        assert_right(found, "l2", few, rows[5] + 0.01, k)


# ---- threads and processes -----------------------------------------------------------------------------------------


@pytest.mark.threads
def test_threads_that_change_one_index_take_turns(folder: Path, rows: np.ndarray) -> None:
    """None is refused: the lock of the writer is against others."""
    errors: list[BaseException] = []

    def change(number: int) -> None:
        try:
            for turn in range(5):
                id = 1000 + 10 * number + turn
                index.add(rows[:1] + number, ids=[id])
                assert id in index
                assert index.remove([number * 5 + turn]) == 1
        except BaseException as error:
            errors.append(error)

    with ShardedIndex.open(folder) as index:
        threads = [threading.Thread(target=change, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        expected = {*range(20, ROWS), *(1000 + 10 * number + turn for number in range(4) for turn in range(5))}
        assert set(index) == expected
    with ShardedIndex.open(folder) as index:
        assert set(index) == expected


@pytest.mark.threads
def test_closing_waits_for_what_other_threads_do(
    folder: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that has begun is made and returned."""
    index = ShardedIndex.open(folder)
    begun, go_on = threading.Event(), threading.Event()
    commit = edgevec.sharded.index.commit

    def slowly(*arguments: object) -> None:
        begun.set()
        assert go_on.wait(HANG)
        commit(*arguments)

    monkeypatch.setattr(edgevec.sharded.index, "commit", slowly)
    made: list[object] = []
    adding = threading.Thread(target=lambda: made.append(index.add(rows[:2]).tolist()))
    adding.start()
    assert begun.wait(HANG)
    closing = threading.Thread(target=index.close)
    closing.start()
    go_on.set()
    adding.join(HANG)
    closing.join(HANG)
    assert (made, index.closed) == ([[300, 301]], True)
    with ShardedIndex.open(folder) as again:
        assert len(again) == 302


CHANGING = """
import sys
import numpy as np
import edgevec
number = int(sys.argv[2])
rows = np.random.default_rng(number).standard_normal((3, 5)).astype(np.float32)
index = edgevec.ShardedIndex.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
refused = 0
def until_done(change):
    global refused
    while True:
        try:
            return change()
        except edgevec.LockedError:
            refused += 1
for turn in range(8):
    first = 10_000 * (number + 1) + 10 * turn
    until_done(lambda: index.add(rows, ids=range(first, first + 3)))
    assert until_done(lambda: index.remove([first + 1])) == 1
    assert until_done(lambda: index.remove([20 * number + turn])) == 1
    if turn % 3 == 2:
        until_done(index.compact)
    assert {first, first + 2} <= set(index)
print(refused)
"""


@pytest.mark.subprocess
def test_processes_that_change_one_index_lose_nothing(folder: Path, rows: np.ndarray) -> None:
    """Who comes while another one writes is told, and nothing else."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHANGING, folder, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    with ShardedIndex.open(folder) as reader:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        steady = set(range(100, ROWS))
        while any(process.poll() is None for process in processes):
            found = reader.search(rows[0], 1000).ids.tolist()
            assert len(found) == len(set(found))
            assert steady <= set(found)
        for process in processes:
            process.communicate(timeout=HANG)
            assert process.returncode == 0
        expected = set(range(ROWS))
        for number in range(2):
            expected -= set(range(20 * number, 20 * number + 8))
            for turn in range(8):
                first = 10_000 * (number + 1) + 10 * turn
                expected |= {first, first + 2}
        reader.refresh()
        assert set(reader) == expected
    with ShardedIndex.open(folder) as again:
        assert set(again) == expected


def test_removals_leave_no_files_behind(folder: Path) -> None:
    with ShardedIndex.open(folder) as index, ShardedIndex.open(folder) as reader:
        for id in range(0, 60, 3):
            index.remove([id, id + 100])
        assert len(list(folder.glob("*.removed"))) == 2
        assert len(reader.search([0] * DIM, 400).ids) == ROWS - 40


def test_a_manifest_that_is_replaced_while_it_is_opened(
    folder: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that the first one names are gone by then; what is missing for that reason is no problem to report."""
    fetch = folders_module.LocalFolder.fetch
    with ShardedIndex.open(folder) as writer:
        writer.remove([250])
        for missing in ("error", "report"):
            turns = 3

            def meanwhile(self: object, name: str, scratch: Path) -> Path:
                nonlocal turns
                if turns:
                    turns -= 1
                    monkeypatch.setattr(folders_module.LocalFolder, "fetch", fetch)
                    writer.add(rows[:1], ids=[0])
                    writer.remove([turns + 50])
                    writer.compact()
                    monkeypatch.setattr(folders_module.LocalFolder, "fetch", meanwhile)
                return fetch(self, name, scratch)  # type: ignore[arg-type]

            monkeypatch.setattr(folders_module.LocalFolder, "fetch", meanwhile)
            with ShardedIndex.open(folder, missing=missing) as reader:  # type: ignore[arg-type]
                assert not reader.problems
                assert set(reader) == set(writer)
            monkeypatch.undo()
            writer.add(rows[50:53], ids=range(50, 53))


def test_a_shard_that_is_there_again_is_found_by_refresh(folder: Path, tmp_path: Path) -> None:
    with ShardedIndex.open(folder) as index:
        file = index.shards[1].file
    os.rename(folder / file, tmp_path / file)
    with ShardedIndex.open(folder, missing="report") as index:
        assert list(index.problems) == [file]
        assert not index.refresh()
        os.rename(tmp_path / file, folder / file)
        assert index.refresh()
        assert (index.problems, index.share, len(index)) == ({}, 1.0, ROWS)
        assert index.remove([100]) == 1


# ---- forked processes ----------------------------------------------------------------------------------------------


@pytest.mark.threads
@pytest.mark.subprocess
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads, which is what is tried here
@can_fork
def test_a_forked_process_searches_changes_and_closes(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as index:
        inside, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with index._following.changing, index._following.using():  # as a search, and a change, that go on
                inside.set()
                go_on.wait(HANG)

        index.search(rows[7], 3, threads=2)  # its threads are not those of the child
        thread = threading.Thread(target=hold)
        thread.start()
        assert inside.wait(HANG)

        def work() -> None:
            assert index.search(rows[7], 1, threads=2).ids.tolist() == [7]
            assert index.remove([8]) == 1
            assert index.search(rows[8], 300, threads=2).ids.size == ROWS - 1
            index.close()

        try:
            assert in_child(work, patience=120) == 0
        finally:
            go_on.set()
            thread.join()
        assert index.search(rows[8], 300).ids.size == ROWS - 1
        assert index.search(rows[7], 1, threads=2).ids.tolist() == [7]


@pytest.mark.subprocess
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@can_fork
def test_a_forked_process_does_not_keep_the_writers_lock(folder: Path, rows: np.ndarray) -> None:
    child = None
    with ShardedIndex.open(folder) as index:
        with index._following.folder.writing():
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
        try:
            assert index.add(rows[:1]).tolist() == [ROWS]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.mark.subprocess
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@can_fork
def test_a_forked_process_leaves_the_copies_to_its_parent(rows: np.ndarray, tmp_path: Path) -> None:
    need_module("fsspec")
    import fsspec

    with ShardedIndex.build(rows, "memory://forked", rows_per_shard=80) as index:
        assert index._following._copies is not None
        copies = index._following._copies.path
        names = sorted(copies.iterdir())

        def work() -> None:
            assert index.search(rows[7], 1).ids.tolist() == [7]
            index.remove([3])
            index.compact()
            assert len(index) == ROWS - 1
            index.close()
            gc.collect()

        assert in_child(work, patience=120) == 0
        assert sorted(copies.iterdir()) == names
        index.remove([3])
        assert len(index) == ROWS - 1
    assert not copies.exists()
    fsspec.filesystem("memory").store.clear()


def test_what_shards_count_and_hold_is_what_their_files_do(folder: Path, rows: np.ndarray) -> None:
    with ShardedIndex.open(folder) as index:
        assert index.remove([0, 1, 100]) == 3
        parts = {path.name: edgevec.Index.load(path) for path in folder.glob("*.ev")}
        reports = index.check()
        assert set(reports) == set(parts)
        assert all(report.ok for report in reports.values())
        assert sum(report.live for report in reports.values()) == ROWS - 3
        assert sum(report.dead + report.free_slots for report in reports.values()) == 3
        usage = index.memory_usage()
        assert usage["vectors"] == sum(part.memory_usage()["vectors"] for part in parts.values())
        assert usage["total"] == sum(value for name, value in usage.items() if name not in ("total", "mapped"))
        assert 0 < usage["mapped"] <= usage["total"]
    with pytest.raises(edgevec.ClosedError):
        index.check()
    with pytest.raises(edgevec.ClosedError):
        index.memory_usage()
