"""Vectors on disk: the same answers as of the same index in memory, bit for bit, or an error that says why not."""

from __future__ import annotations

import copy
import os
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from forked import outcome_of, start_child
from hypothesis import given, settings
from hypothesis import strategies as st
from index_file import IndexFile
from small_index import each_metric
from support import HANG, examples

from edgevec import (
    CorruptIndexError,
    Index,
    KeepVectors,
    MemoryLimitError,
    Metric,
    ParameterError,
    Quantization,
    StorageError,
)

pytestmark = pytest.mark.core
Rows = npt.NDArray[np.float32]
KINDS: list[tuple[Quantization, KeepVectors]] = [("sq8", True), ("sq8", "float32"), ("binary", True)]
each_kind = pytest.mark.parametrize(("quantization", "keep_vectors"), KINDS)
WINDOWS = sys.platform == "win32"


def rows_of(rng: np.random.Generator, n: int, dim: int = 40) -> Rows:
    """Every sixth equals the one before it, so that there are duplicates."""
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    rows[5::6] = rows[4::6][: len(rows[5::6])]
    return rows


def assert_same(disk: Index, memory: Index, queries: Rows) -> None:
    """Of all ways to ask for vectors."""
    ids = list(memory)
    assert list(disk) == ids
    assert disk.get(ids).tobytes() == memory.get(ids).tobytes()
    for arguments in (
        {"k": 7},
        {"k": 3, "ef": 200},
        {"k": 90, "ef": 100},
        {"k": 7, "exact": True},
        {"k": 7, "filter": ids[::2]},
        {"k": 7, "filter": ids[::40]},
        {"k": 7, "threads": 1, "ef": 20},
    ):
        for query in (queries, queries[0]):
            found, expected = disk.search(query, **arguments), memory.search(query, **arguments)
            assert found.ids.tolist() == expected.ids.tolist(), arguments
            assert found.distances.tobytes() == expected.distances.tobytes(), arguments


def twins(metric: Metric, quantization: Quantization, keep_vectors: KeepVectors = True, dim: int = 40) -> list[Index]:
    """One on disk, one in memory."""
    return [
        Index(
            dim,
            metric,
            quantization=quantization,
            keep_vectors=keep_vectors,
            M=6,
            ef_construction=40,
            storage=storage,
        )
        for storage in ("disk", "memory")
    ]


def saved(path: Path, n: int = 500, quantization: Quantization = "sq8", keep_vectors: KeepVectors = True) -> Index:
    """What is in the file, in memory."""
    index = Index(40, "l2", quantization=quantization, keep_vectors=keep_vectors, M=6, ef_construction=40)
    index.add(rows_of(np.random.default_rng(1), n), threads=1)
    index.save(path)
    return index


# ---- the same answers ------------------------------------------------------------------------------------------------


@each_metric
@each_kind
def test_answers_and_files_are_those_of_the_index_in_memory(
    metric: Metric, quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, rng: np.random.Generator
) -> None:
    disk, memory = both = twins(metric, quantization, keep_vectors)
    queries = rows_of(rng, 20)
    first, other, single = rows_of(rng, 600), rows_of(rng, 150) + 1, rows_of(rng, 10)
    for index in both:
        index.add(first, threads=1)
    assert_same(disk, memory, queries)
    for index in both:
        index.remove(range(250))
        index.add(other, ids=range(200, 350), threads=1)  # replaces, and takes slots that are free
        for row in single:
            index.add(row)
    assert_same(disk, memory, queries)
    for name, index in zip(("disk", "memory"), both, strict=True):
        index.save(tmp_path / name)
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "memory").read_bytes() == disk.to_bytes()
    for index in both:
        index.compact()
    assert_same(disk, memory, queries)
    assert disk.check() == memory.check()
    disk, memory = Index.load(tmp_path / "disk", storage="disk"), Index.load(tmp_path / "memory")
    assert_same(disk, memory, queries)
    for index in (disk, memory):
        index.add(other - 2, ids=range(5000, 5150), threads=1)
        index.remove(range(300, 400))
    assert_same(disk, memory, queries)
    assert disk.search(queries, 5, recall=0.9).ids.tolist() == memory.search(queries, 5, recall=0.9).ids.tolist()


steps = st.lists(
    st.tuples(st.sampled_from(["add", "replace", "remove", "compact", "save", "load"]), st.integers(0, 2**16)),
    min_size=1,
    max_size=9,
)


@settings(max_examples=examples(40))
@given(kind=st.sampled_from(KINDS), metric=st.sampled_from(["cosine", "ip", "l2"]), steps=steps, dim=st.integers(2, 70))
def test_any_sequence_of_changes(
    kind: tuple[Quantization, KeepVectors],
    metric: Metric,
    steps: list[tuple[str, int]],
    dim: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    disk, memory = twins(metric, *kind, dim)
    queries = rows_of(np.random.default_rng(9), 6, dim)
    for i, (step, seed) in enumerate([("add", 1), *steps]):
        rng = np.random.default_rng(seed)
        rows, some = rows_of(rng, int(rng.integers(1, 60)), dim), list(memory)[:: int(rng.integers(2, 9))]
        for index in (disk, memory):
            if step == "add":
                index.add(rows, threads=1)
            elif step == "replace":
                index.add(rows, ids=range(len(rows)), threads=1)
            elif step == "remove":
                index.remove(some)
            elif step == "compact":
                index.compact()
            else:
                index.save(folder / f"{i}-{index.storage}")
        if step == "load":
            disk = Index.load(folder / f"{i}-disk", storage="disk")
            memory = Index.load(folder / f"{i}-memory")
        if len(memory):
            assert_same(disk, memory, queries)
    assert disk.check() == memory.check()
    disk.close()


@pytest.mark.parametrize("walk", [1, 2])
def test_codes_that_tell_nothing_apart(walk: int, rng: np.random.Generator, tmp_path: Path) -> None:
    """Then the graph is built and walked on vectors, or all of them are compared."""
    disk, memory = twins("l2", "sq8", "float32", 16)
    rows = rng.standard_normal((500, 16)).astype(np.float32)
    rows = rows * np.float32(1e-30) if walk == 2 else rows * np.float32(1e-3) + 1000 * rng.choice([-1.0, 1.0], (500, 1))
    rows = rows.astype(np.float32)
    rows[7::50] = rows[6]
    for index in (disk, memory):
        index.add(rows[:400], threads=1)
        index.add(rows[400:], threads=1)
        index.remove(range(50))
        index.add(rows[:20], threads=1)
    assert disk.stats()["walk"] == memory.stats()["walk"] == walk
    assert_same(disk, memory, rows[100:110])
    assert disk.to_bytes() == memory.to_bytes()


def test_many_copies_of_a_vector(rng: np.random.Generator) -> None:
    """Of one node, more than can be read at once."""
    for quantization, keep_vectors in KINDS:
        disk, memory = twins("cosine", quantization, keep_vectors)
        rows = np.concatenate([np.repeat(rows_of(rng, 2), 150, 0), rows_of(rng, 100)])
        for index in (disk, memory):
            index.add(rows, threads=1)
        assert_same(disk, memory, rows[::60])


@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_long_vectors(quantization: Quantization, rng: np.random.Generator) -> None:
    """Of which fewer can be read at once."""
    disk, memory = twins("ip", quantization, "float32", 9000)
    for index in (disk, memory):
        index.add(np.random.default_rng(3).standard_normal((130, 9000)).astype(np.float32), threads=1)
    found = [index.search(np.ones((3, 9000), np.float32), 60, ef=120) for index in (disk, memory)]
    assert found[0].ids.tolist() == found[1].ids.tolist()
    assert found[0].distances.tobytes() == found[1].distances.tobytes()


# ---- what it says of itself ------------------------------------------------------------------------------------------


def test_only_numbers_of_vectors_are_in_memory(tmp_path: Path) -> None:
    memory = saved(tmp_path / "index", 2000)
    disk = Index.load(tmp_path / "index", storage="disk")
    assert (disk.storage, memory.storage) == ("disk", "memory")
    assert repr(disk).endswith("storage='disk')")
    assert "storage" not in repr(memory)
    usage = disk.memory_usage()
    assert usage["vectors"] == 4 * 2000
    assert usage["on_disk"] == 2 * 40 * 2000 == memory.memory_usage()["vectors"]
    assert memory.memory_usage()["on_disk"] == 0
    assert usage["total"] <= memory.memory_usage()["total"] - 2 * 40 * 2000 + 4 * 2000 + 3000
    copied = copy.copy(disk)
    assert copied.storage == "memory"
    assert copied.to_bytes() == memory.to_bytes()


def test_a_limit_counts_what_is_in_memory(tmp_path: Path) -> None:
    saved(tmp_path / "index", 4000, keep_vectors="float32")
    need = Index.load(tmp_path / "index", storage="disk").memory_usage()["peak"] + 100_000
    with pytest.raises(MemoryLimitError):
        Index.load(tmp_path / "index", memory_limit=need)
    index = Index.load(tmp_path / "index", memory_limit=need, storage="disk")
    assert index.search(np.ones(40), 5).ids.size == 5
    assert index.memory_usage()["peak"] <= need


def test_a_search_reads_what_it_ranks_once(tmp_path: Path, rng: np.random.Generator) -> None:
    saved(tmp_path / "index", 3000)
    index = Index.load(tmp_path / "index", storage="disk")
    before = index.stats()["reads"]
    for query in rows_of(rng, 50):
        index.search(query, 10)
    assert 50 <= index.stats()["reads"] - before <= 50 * (2 * 10 + 16)


def test_neighbors_in_the_file_are_read_together(tmp_path: Path) -> None:
    saved(tmp_path / "index", 640)
    index = Index.load(tmp_path / "index", storage="disk")
    before = index.stats()["reads"]
    index.get(range(640))
    assert index.stats()["reads"] - before == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"quantization": "none"}, ["disk", "none"]),
        ({"keep_vectors": False}, ["disk", "none are kept"]),
        ({"storage": "tape"}, ["memory, disk", "tape"]),
    ],
)
def test_what_has_no_vectors_beside_codes_is_refused(
    arguments: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ParameterError) as caught:
        Index(4, **{"storage": "disk", **arguments})  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)
    if "storage" not in arguments:
        Index(4, **arguments).save(tmp_path / "index")  # type: ignore[arg-type]
        with pytest.raises(ParameterError) as caught:
            Index.load(tmp_path / "index", storage="disk")
        assert all(word in str(caught.value) for word in words)


def test_two_ways_at_once_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "index")
    with pytest.raises(ParameterError, match="mmap=True"):
        Index.load(tmp_path / "index", storage="disk", mmap=True)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_vectors", [True, "float32"])
def test_damage_is_found_when_it_is_loaded(keep_vectors: KeepVectors, tmp_path: Path) -> None:
    path = tmp_path / "index"
    saved(path, keep_vectors=keep_vectors)
    file = IndexFile(path.read_bytes())
    at = next(offset for name, offset, *_ in file.table() if name == "vectors")
    damaged = bytearray(path.read_bytes())
    damaged[at + 12345] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptIndexError, match=r"vectors.*checksum"):
        Index.load(path, storage="disk")


def test_what_is_no_number_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "index"
    saved(path, keep_vectors="float32")
    file = IndexFile(path.read_bytes())
    file["vectors"][77] = np.nan
    path.write_bytes(file.data())
    with pytest.raises(CorruptIndexError, match=r"vectors.*not a finite number"):
        Index.load(path, storage="disk")


@pytest.mark.skipif(WINDOWS, reason="a file that is open stays there")
def test_the_file_may_be_replaced_and_removed(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    memory = saved(path)
    disk = Index.load(path, storage="disk")
    other = Index(40, "l2")
    other.add(rows_of(rng, 500))
    other.save(path)
    assert_same(disk, memory, rows_of(rng, 5))
    path.unlink()
    assert_same(disk, memory, rows_of(rng, 5))


@pytest.mark.skipif(WINDOWS, reason="a file that is open cannot be cut off")
def test_a_file_that_was_cut_off_is_an_error_until_it_is_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    memory = saved(path)
    disk = Index.load(path, storage="disk")
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 3)
    calls = [
        lambda: disk.search(np.ones(40), 5),
        lambda: disk.search(np.ones((9, 40)), 5, exact=True),
        lambda: disk.get(list(disk)),
        lambda: disk.save(tmp_path / "other"),
        lambda: disk.to_bytes(),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="cut off") as caught:
            call()
        assert str(path) in str(caught.value)
    assert not (tmp_path / "other").exists()
    with open(path, "r+b") as file:
        file.write(whole)
    assert_same(disk, memory, rows_of(rng, 5))


@pytest.mark.skipif(WINDOWS, reason="there, it cannot replace the file that is read")
def test_after_a_save_the_new_file_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    memory = saved(old)
    disk = Index.load(old, storage="disk")
    for turn in range(3):
        rows = rows_of(rng, 50)
        for index in (disk, memory):
            index.add(rows, ids=range(100 * turn, 100 * turn + 50), threads=1)
        disk.save(new)
        assert disk.memory_usage()["on_disk"] == 80 * disk.stats()["slots"]
        assert_same(disk, memory, rows[:5])
        memory.save(tmp_path / "memory")
        assert new.read_bytes() == (tmp_path / "memory").read_bytes()
    os.truncate(old, 0)
    assert_same(disk, memory, rows_of(rng, 5))
    os.truncate(new, 0)
    with pytest.raises(StorageError, match="new"):
        disk.search(np.ones(40), 5)


def test_scratch_files_have_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    saved(tmp_path / "index")
    with Index.load(tmp_path / "index", storage="disk") as disk, Index(40, storage="disk") as other:
        disk.add(np.ones(40), ids=[9999])
        other.add(np.ones(40), ids=[9999])
        assert disk.get([9999]).tolist() == [[1.0] * 40]
        if not WINDOWS:
            assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "temporary"]
            assert not list(temporary.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "temporary"]


@pytest.mark.skipif(WINDOWS, reason="a folder with an open file stays there")
def test_without_a_folder_of_its_own_the_scratch_file_lies_among_temporary_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    saved(folder / "index")
    disk = Index.load(folder / "index", storage="disk")
    (folder / "index").unlink()
    folder.rmdir()
    disk.add(np.ones(40), ids=[9999])
    assert disk.get([9999, 0]).shape == (2, 40)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_close_closes_the_files(tmp_path: Path) -> None:
    saved(tmp_path / "index")
    before = len(os.listdir("/proc/self/fd"))
    disk = Index.load(tmp_path / "index", storage="disk")
    disk.add(np.ones(40), ids=[9999])
    assert len(os.listdir("/proc/self/fd")) == before + 2
    disk.save(tmp_path / "index")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    disk.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- threads and processes -------------------------------------------------------------------------------------------


@pytest.mark.threads
def test_searches_beside_changes(tmp_path: Path, rng: np.random.Generator) -> None:
    memory = saved(tmp_path / "index", 1000, keep_vectors="float32")
    disk = Index.load(tmp_path / "index", storage="disk")
    ids = list(range(1000))
    expected = memory.get(ids)
    queries = expected[:200]
    wrong: list[object] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            found = disk.search(queries, 1, ef=500, threads=2)
            if found.distances.max() > 1e-3:
                wrong.append(found.distances.max())
            if disk.get(ids).tobytes() != expected.tobytes():
                wrong.append("get")

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(8):
            disk.add(rows_of(rng, 60) + 30, ids=range(5000, 5060))
            disk.remove(range(5000, 5030))
            if turn % 3 == 1:
                disk.save(tmp_path / "index" if not WINDOWS else tmp_path / f"index{turn}")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parent_and_child_do_not_write_over_each_other(tmp_path: Path, rng: np.random.Generator) -> None:
    saved(tmp_path / "index")
    disk = Index.load(tmp_path / "index", storage="disk")
    early, own, others = rows_of(rng, 30), rows_of(rng, 30) + 5, rows_of(rng, 30) - 5
    disk.add(early, ids=range(1000, 1030))
    kept = disk.get(range(1000, 1030)).tobytes()
    there, back = os.pipe(), os.pipe()

    def work() -> None:
        disk.add(others, ids=range(2000, 2030))
        os.write(there[1], b"1")
        os.read(back[0], 1)  # the parent has added
        np.testing.assert_allclose(disk.get(range(2000, 2030)), others, atol=1e-4)
        assert disk.get(range(1000, 1030)).tobytes() == kept
        disk.save(tmp_path / "child")

    child = start_child(work, patience=HANG)
    os.close(there[1])  # so that nothing waits for a child that has ended
    os.read(there[0], 1)
    disk.add(own, ids=range(2000, 2030))
    os.write(back[1], b"1")
    assert outcome_of(child) == 0
    np.testing.assert_allclose(disk.get(range(2000, 2030)), own, atol=1e-4)
    assert disk.get(range(1000, 1030)).tobytes() == kept
    of_child = Index.load(tmp_path / "child")
    np.testing.assert_allclose(of_child.get(range(2000, 2030)), others, atol=1e-4)
    assert of_child.check().ok
