"""The graph on disk: answers against NumPy, exact ones equal to the index's, damage that is told, bounded memory."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from forked import in_child
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import distances
from small_index import each_metric, make_index
from support import HANG, examples

import edgevec
from edgevec import (
    CancelledError,
    ClosedError,
    CorruptIndexError,
    DiskIndex,
    FormatVersionError,
    IdFilter,
    Index,
    IndexNotFoundError,
    Metric,
    ParameterError,
    StorageError,
    UnknownIdError,
    ZeroVectorError,
    recall,
)

pytestmark = pytest.mark.core
Rows = npt.NDArray[np.float32]
PAGE = 4096
each_way = pytest.mark.parametrize("mmap", [False, pytest.param(True, marks=pytest.mark.mmap)])


def written(index: Index, path: Path, **arguments: bool) -> DiskIndex:
    DiskIndex.write(index, path)
    return DiskIndex(path, **arguments)


def clusters(rng: np.random.Generator, n: int, dim: int) -> Rows:
    """Four that are a hundredth as wide as they are apart."""
    centers = rng.standard_normal((4, dim))
    return (centers[rng.integers(4, size=n)] + 0.01 * rng.standard_normal((n, dim))).astype(np.float32)


def brute_force(rows: Rows, queries: Rows, k: int, metric: Metric) -> tuple[npt.NDArray[np.int64], Rows]:
    all_of = distances(metric, rows, queries)
    nearest = np.argsort(all_of, axis=1, kind="stable")[:, :k]
    return nearest, np.take_along_axis(all_of, nearest, axis=1)


def data_of(kind: str, rng: np.random.Generator, n: int, dim: int) -> Rows:
    if kind == "clustered":
        return clusters(rng, n, dim)
    rows = rng.random((n, dim)).astype(np.float32)
    if kind == "sorted":
        return rows[np.argsort(rows[:, 0])]
    if kind == "duplicated":
        return rows[rng.integers(n // 10, size=n)]
    return rows


# ---- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.quality
@each_metric
@pytest.mark.parametrize("kind", ["clustered", "uniform", "sorted", "duplicated"])
def test_recall(kind: str, metric: Metric, tmp_path: Path, rng: np.random.Generator) -> None:
    rows = data_of(kind, rng, 2400, 48)
    index = Index(48, metric)
    index.add(rows, threads=2)
    queries = rows[::48] + 0.002 * rng.standard_normal((50, 48)).astype(np.float32)
    with written(index, tmp_path / "disk") as disk:
        _, truth = brute_force(index.get(range(2400)), queries, 10, metric)
        found = disk.search(queries, 10, ef=150).distances
        # by distances, as duplicates are equally near
        near = found <= truth[:, -1:] + 1e-5 * np.abs(truth[:, -1:]) + 1e-6
        assert near.mean() > 0.95


@each_metric
@pytest.mark.parametrize("quantization", ["none", "sq8", "binary"])
@each_way
def test_exact_answers_are_those_of_the_index(
    quantization: str, metric: Metric, mmap: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    index, held = make_index(rng, metric, quantization)  # type: ignore[arg-type]
    disk = written(index, tmp_path / "disk", mmap=mmap)
    queries = rng.standard_normal((30, 12)).astype(np.float32)
    for allowed in (None, list(held)[::2], list(held)[:3], []):
        for k in (1, 10, 500):
            wanted = index.search(queries, k, exact=True, filter=allowed)
            found = disk.search(queries, k, exact=True, filter=allowed)
            assert found.ids.tolist() == wanted.ids.tolist()
            np.testing.assert_allclose(found.distances, wanted.distances, rtol=1e-5, atol=1e-6)
    assert sorted(held) == list(disk.ids())
    assert disk.get(list(held)).tobytes() == index.get(list(held)).tobytes()
    assert disk.check()["live"] == len(disk) == len(index)


@pytest.mark.mmap
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_a_map_is_read_page_by_page(tmp_path: Path, rng: np.random.Generator) -> None:
    """With the pages around each one a search of a file that is larger than memory would read hundreds of megabytes."""
    index, _ = make_index(rng, "l2", "sq8")
    with written(index, tmp_path / "disk", mmap=True):
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        assert any(line.endswith(str(tmp_path / "disk")) for line in lines)
        flags = next(line for line in lines if line.startswith("VmFlags:"))
    assert "rr" in flags.split()


@pytest.mark.parametrize("dim", [1, 2, 31, 32, 33, 64, 65, 100, 500, 1100])
@each_metric
def test_any_dimension(dim: int, metric: Metric, tmp_path: Path, rng: np.random.Generator) -> None:
    """Several blocks of a page, one, and blocks of several pages; codes of 8 bits and of one."""
    rows = rng.standard_normal((150, dim)).astype(np.float32) + 0.1
    index = Index(dim, metric, quantization="none", M=8)
    index.add(rows, ids=np.arange(150, dtype=np.int64) * 7 - 2**62)
    disk = written(index, tmp_path / "disk")
    truth, _ = brute_force(rows, rows[:20], 5, metric)
    found = disk.search(rows[:20], 5, ef=150)
    if metric != "cosine" or dim > 2:  # in few dimensions many are equally near
        assert recall((found.ids + 2**62) // 7, truth) > 0.95
    exact = index.search(rows[:20], 5, exact=True)
    assert (disk.search(rows[:20], 5, exact=True).ids == exact.ids).all()
    assert disk.check()["nodes"] <= 150


@each_metric
def test_filters(metric: Metric, tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((1500, 40)).astype(np.float32)
    index = Index(40, metric)
    index.add(rows, ids=rng.permutation(100_000)[:1500])
    disk, queries = written(index, tmp_path / "disk"), rng.standard_normal((20, 40)).astype(np.float32)
    ids = np.array(list(index))
    for share in (1.0, 0.5, 0.2, 0.05, 0.002):
        allowed = rng.permutation(ids)[: int(1500 * share)]
        wanted = index.search(queries, 10, exact=True, filter=allowed)
        found = disk.search(queries, 10, ef=150, filter=IdFilter(np.concatenate([allowed, allowed, [-5, 10**9]])))
        assert found.ids.shape == wanted.ids.shape
        assert (found.ids != -1).sum(axis=1).tolist() == [min(10, len(allowed))] * 20
        assert np.isin(found.ids[found.ids != -1], allowed).all()
        assert recall(found.ids, wanted.ids) > (0.99 if share < 0.05 else 0.9)


def test_a_filter_far_away_is_answered_too(tmp_path: Path, rng: np.random.Generator) -> None:
    """What is allowed lies where no walk comes by: exactly k results all the same."""
    rows = rng.standard_normal((2000, 40)).astype(np.float32)
    rows[1000:] += 30
    index = Index(40, "l2")
    index.add(rows)
    disk = written(index, tmp_path / "disk")
    found = disk.search(rows[:5], 10, ef=10, filter=range(1000, 2000))
    wanted = index.search(rows[:5], 10, exact=True, filter=range(1000, 2000))
    assert found.ids.tolist() == wanted.ids.tolist()


def test_copies_share_a_block(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = np.repeat(rng.standard_normal((4, 20)).astype(np.float32), 900, axis=0)
    index = Index(20, "l2")
    index.add(rows, ids=rng.permutation(3600))
    disk = written(index, tmp_path / "disk")
    assert disk.check() | {"edges": 0, "min_degree": 0, "max_degree": 0} == {
        "live": 3600, "nodes": 4, "edges": 0, "duplicates": 3596, "min_degree": 0, "max_degree": 0,
    }  # fmt: skip
    for k in (1, 5, 899, 901, 3600):
        for allowed in (None, np.arange(0, 3600, 7)):
            wanted = index.search(rows[1000], k, exact=True, filter=allowed)
            assert disk.search(rows[1000], k, filter=allowed).ids.tolist() == wanted.ids.tolist()


def test_vectors_that_only_share_a_code_are_told_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    """Of what is small beside the largest coordinate, 8-bit codes tell nothing."""
    rows = rng.standard_normal((1040, 8)).astype(np.float32)
    rows[1000:] = [0.5, 6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    rows[1000:, 0] += np.arange(40, dtype=np.float32) * 1e-5
    index = Index(8, "l2", keep_vectors="float32")
    index.add(rows)
    disk = written(index, tmp_path / "disk")
    assert index.check().duplicates > 20
    for query in (1000, 1020, 1039):
        wanted = index.search(rows[query], 5, exact=True)
        assert disk.search(rows[query], 5, ef=100).ids.tolist() == wanted.ids.tolist()
    assert disk.check()["nodes"] == disk.check()["live"] == 1040


def test_an_empty_index(tmp_path: Path) -> None:
    with written(Index(5), tmp_path / "disk") as disk:
        assert len(disk) == 0
        assert 1 not in disk
        assert list(disk.ids()) == []
        assert disk.search(np.ones(5)).ids.size == disk.search(np.ones((2, 5)), filter=[1]).ids.size == 0
        assert disk.check()["nodes"] == 0


def test_what_was_removed_is_not_found(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((600, 40)).astype(np.float32)
    index = Index(40)
    index.add(rows)
    index.remove(range(0, 600, 4))
    disk = written(index, tmp_path / "disk")
    found = disk.search(rows, 3, ef=100).ids
    assert (found % 4 != 0).all()
    assert 4 not in disk
    assert 5 in disk
    assert "5" not in disk
    assert True not in disk
    assert 2**80 not in disk
    with pytest.raises(UnknownIdError, match="id 4"):
        disk.get([5, 4])


# ---- arguments -----------------------------------------------------------------------------------------------------


def test_bad_arguments(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng, "cosine")
    disk = written(index, tmp_path / "disk")
    query = np.ones(12)
    for arguments in ({"k": 0}, {"ef": 0}, {"beam": 0}, {"beam": 65}, {"threads": -1}, {"filter": [-1]}):
        with pytest.raises(ParameterError):
            disk.search([query], **arguments)
    with pytest.raises(ParameterError, match="13"):
        disk.search(np.ones(13))
    with pytest.raises(ZeroVectorError, match="row 1"):
        disk.search([query, 0 * query])
    with pytest.raises(ParameterError, match="Index"):
        DiskIndex.write(disk, tmp_path / "other")  # type: ignore[arg-type]
    assert disk.metric == "cosine"
    assert disk.dim == 12
    assert disk.ef == 77


def test_closing(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    disk = written(index, tmp_path / "disk")
    again: DiskIndex = pickle.loads(pickle.dumps(disk))
    disk.close()
    disk.close()
    with pytest.raises(ClosedError):
        disk.search(np.ones(12))
    with pytest.raises(ClosedError):
        len(disk)
    assert repr(disk) == "DiskIndex(closed)"
    assert len(again) == len(index)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_the_same_bytes_whoever_writes_them(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    DiskIndex.write(index, tmp_path / "one", threads=1)
    DiskIndex.write(index, tmp_path / "many")
    index.save(tmp_path / "index")
    DiskIndex.write(Index.load(tmp_path / "index", storage="disk"), tmp_path / "disk")
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "many").read_bytes() == (tmp_path / "disk").read_bytes()
    assert len(data) % PAGE == 0


def test_a_stopped_write_leaves_the_old_file(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(CancelledError):
        DiskIndex.write(index, tmp_path / "file", progress=lambda done, total: False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
    told: list[tuple[int, int]] = []
    DiskIndex.write(index, tmp_path / "file", progress=lambda done, total: told.append((done, total)))
    assert told
    assert told[-1][0] == told[-1][1] > 0


def test_files_of_another_kind(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    index.save(tmp_path / "index")
    DiskIndex.write(index, tmp_path / "disk")
    (tmp_path / "other").write_bytes(bytes(5000))
    for file, said in (("index", r"Index\.load\(\) opens"), ("other", "not a graph on disk")):
        with pytest.raises(CorruptIndexError, match=said):
            DiskIndex(tmp_path / file)
    with edgevec.open(tmp_path / "collection", 2) as made:
        made.upsert([1], [[1, 2]])
    for file, said in (("disk", "DiskIndex opens"), ("collection", r"edgevec\.open\(\) opens"), ("other", "not an")):
        with pytest.raises(CorruptIndexError, match=said):
            Index.load(tmp_path / file)
    with pytest.raises(IndexNotFoundError):
        DiskIndex(tmp_path / "none")
    with pytest.raises(StorageError):
        DiskIndex(tmp_path)
    data = bytearray((tmp_path / "disk").read_bytes())
    data[8] = 99
    (tmp_path / "newer").write_bytes(data)
    with pytest.raises(FormatVersionError, match="99"):
        DiskIndex(tmp_path / "newer")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """A small file, in which every section has something."""
    index, _ = make_index(np.random.default_rng(3))
    folder = tmp_path_factory.mktemp("whole")
    DiskIndex.write(index, folder / "whole")
    return (folder / "whole").read_bytes(), folder / "hurt"


def ask_all(path: Path, mmap: bool) -> list[object]:
    with DiskIndex(path, mmap=mmap) as disk:
        ids = list(disk.ids())
        found = disk.search(np.ones((3, 12)), 5, ef=40)
        few = disk.search(np.ones(12), 5, filter=ids[:4])
        checked = disk.check()
        return [ids, disk.get(ids).tobytes(), found.ids.tolist(), few.ids.tolist(), sorted(checked.items())]


@settings(max_examples=examples(400), deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), mmap=st.booleans())
def test_no_damage_goes_unnoticed(whole: tuple[bytes, Path], where: float, bit: int, mmap: bool) -> None:
    """But for bytes that fill up pages, which say nothing and are never read."""
    data, path = whole
    hurt = bytearray(data)
    hurt[int(where * len(data))] ^= 1 << bit
    path.write_bytes(hurt)
    try:
        answers = ask_all(path, mmap and sys.platform != "emscripten")
    except (CorruptIndexError, FormatVersionError):
        return
    path.write_bytes(data)
    assert answers == ask_all(path, False)
    assert data[int(where * len(data))] == 0


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.3, 0.9, 0.9999])
def test_truncated_files(whole: tuple[bytes, Path], share: float) -> None:
    data, path = whole
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CorruptIndexError):
        DiskIndex(path)


def test_a_block_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    index = Index(700, "l2")  # a block has pages of its own, and the last one is that of node 9
    index.add(rng.standard_normal((10, 700)).astype(np.float32))
    DiskIndex.write(index, tmp_path / "disk")
    data = bytearray((tmp_path / "disk").read_bytes())
    size = len(data) // PAGE * PAGE
    at = size - 2 * PAGE + 100
    data[at] ^= 1
    (tmp_path / "disk").write_bytes(data)
    disk = DiskIndex(tmp_path / "disk")
    for call in (lambda: disk.search(np.zeros(700), exact=True), disk.check, lambda: disk.get([9])):
        with pytest.raises(CorruptIndexError, match=r"block 9 .*checksum"):
            call()
    assert disk.get([0]).shape == (1, 700)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be cut off or removed there")
def test_a_file_that_is_cut_off_or_removed_meanwhile(tmp_path: Path, rng: np.random.Generator) -> None:
    index, held = make_index(rng)
    DiskIndex.write(index, tmp_path / "disk")
    shutil.copy(tmp_path / "disk", tmp_path / "other")
    disk, other = DiskIndex(tmp_path / "disk"), DiskIndex(tmp_path / "other")
    (tmp_path / "disk").unlink()
    assert disk.check()["live"] == len(held)
    with (tmp_path / "other").open("r+b") as file:
        file.truncate(PAGE)
    with pytest.raises(StorageError, match="cut off"):
        other.check()
    with pytest.raises(StorageError, match="cut off"):
        other.search(rng.standard_normal((40, 12)), threads=4)


# ---- memory, threads -----------------------------------------------------------------------------------------------


def test_memory_is_bounded(tmp_path: Path, rng: np.random.Generator) -> None:
    """Of a file of 12 MB, and of one a quarter of it, about the same."""
    held = []
    for n in (700, 2800):
        index = Index(384, quantization="none", M=8, ef_construction=20)
        index.add(rng.standard_normal((n, 384)).astype(np.float32))
        disk = written(index, tmp_path / f"disk-{n}")
        disk.search(rng.standard_normal((20, 384)), ef=50, threads=1)
        disk.search(rng.standard_normal(384), filter=range(0, n, 2), exact=True)
        disk.get(range(n))
        memory = disk.memory_usage()
        held.append(memory["peak"])
        assert memory["on_disk"] == (tmp_path / f"disk-{n}").stat().st_size > n * 384 * 4
    assert held[1] < 1.3 * held[0]
    assert held[1] < 2**20 < memory["on_disk"] / 8


def test_reads_are_counted(tmp_path: Path, rng: np.random.Generator) -> None:
    index = Index(384, quantization="none", M=8, ef_construction=20)
    index.add(rng.standard_normal((700, 384)).astype(np.float32))
    disk = written(index, tmp_path / "disk")
    before = disk.stats()
    disk.search(rng.standard_normal((10, 384)), 5, ef=20, beam=1)
    after = disk.stats()
    reads = after["reads"] - before["reads"]
    assert after["queries"] - before["queries"] == 10
    assert 10 * 20 <= reads < 10 * 300
    assert reads == after["rounds"] - before["rounds"]
    assert after["bytes_read"] - before["bytes_read"] >= reads * 384 * 4
    disk.search(rng.standard_normal((10, 384)), 5, ef=20, beam=8)
    assert disk.stats()["rounds"] - after["rounds"] < reads / 3


@pytest.mark.threads
def test_threads_search_one_file(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((400, 40)).astype(np.float32)
    index = Index(40)
    index.add(rows)
    disk = written(index, tmp_path / "disk")
    wanted = disk.search(rows, 5, threads=1)
    found: list[npt.NDArray[np.int64]] = []

    def ask() -> None:
        found.append(disk.search(rows, 5, threads=3).ids)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((ids == wanted.ids).all() for ids in found)


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_searches_what_it_inherited(tmp_path: Path, rng: np.random.Generator) -> None:
    """Whatever other threads were doing with it at the fork."""
    index, _ = make_index(rng)
    disk, queries = written(index, tmp_path / "disk"), rng.standard_normal((30, 12))
    wanted, ended = disk.search(queries).ids.tolist(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            disk.search(queries, threads=2)

    def work() -> None:
        assert disk.search(queries, threads=2).ids.tolist() == wanted
        disk.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        outcomes = [in_child(work, patience=HANG) for _ in range(10)]
    finally:
        ended.set()
        thread.join()
    assert outcomes == [0] * 10
