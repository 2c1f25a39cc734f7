"""What is saved comes back, equal indexes are equal files, and other files are told from damaged ones."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from index_file import (
    DEAD_DUPLICATE,
    DEAD_NODE,
    DUPLICATE,
    FREE,
    HEADER,
    ITEMS,
    MAGIC,
    NODE,
    IndexFile,
    crc32c,
    padded,
    with_header,
)
from oracle import assert_held
from small_index import DIM, KINDS, Rows, each_kind, each_metric, each_way, make_index, make_rows, saved

import edgevec
from edgevec import KeepVectors, Metric, Quantization


def brute_force(metric: str, held: dict[int, Rows], query: Rows) -> npt.NDArray[np.float64]:
    rows, q = np.array(list(held.values()), np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.sort(((rows - q) ** 2).sum(1))
    if metric == "cosine":
        rows, q = rows / np.linalg.norm(rows, axis=1, keepdims=True), q / np.linalg.norm(q)
    return np.sort(1 - rows @ q)


def assert_same(a: edgevec.Index, b: edgevec.Index, rng: np.random.Generator) -> None:
    """Equal in all that can be asked of them."""
    for name in ("dim", "metric", "quantization", "M", "ef_construction", "ef", "seed", "keep_vectors"):
        assert getattr(a, name) == getattr(b, name)
    assert list(a) == list(b)
    assert a.check() == b.check()
    np.testing.assert_array_equal(a.get(list(a)), b.get(list(b)))
    queries = rng.standard_normal((20, DIM)).astype(np.float32)
    for exact in (False, True):
        for x, y in zip(a.search(queries, 7, exact=exact), b.search(queries, 7, exact=exact), strict=True):
            np.testing.assert_array_equal(x, y)


# ---- there and back ------------------------------------------------------------------------------------------------


@each_way
@each_kind
@each_metric
def test_a_loaded_index_is_the_saved_one(
    metric: Metric,
    quantization: Quantization,
    keep_vectors: KeepVectors,
    mmap: bool,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    index, held = make_index(rng, metric, quantization, keep_vectors)
    path = tmp_path / "an index, Индекс"
    data = saved(index, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    loaded = edgevec.Index.load(path, mmap=mmap)
    assert_same(index, loaded, rng)
    assert saved(loaded, tmp_path / "again") == data

    more = make_rows(rng, 30)
    new_ids = loaded.add(more)
    assert new_ids.tolist() == list(range(max(held) + 1, max(held) + 31)), "numbered on from the highest id ever held"
    gone = list(held)[::4]
    loaded.remove(gone)
    held = {id: row for id, row in held.items() if id not in gone} | dict(zip(new_ids.tolist(), more, strict=True))
    loaded.compact()
    assert sorted(loaded) == sorted(held)
    assert loaded.check().ok
    if keep_vectors:
        for query in make_rows(rng, 5):
            for exact in (False, True):
                found = loaded.search(query, 8, ef=500, exact=exact)
                np.testing.assert_allclose(found.distances, brute_force(metric, held, query)[:8], rtol=1e-4, atol=1e-4)
    assert path.read_bytes() == data, "changing a loaded index does not reach its file"


@each_way
@each_kind
def test_an_empty_index_is_saved_and_loaded(
    quantization: Quantization, keep_vectors: KeepVectors, mmap: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    index = edgevec.Index(DIM, quantization=quantization, keep_vectors=keep_vectors)
    index.save(tmp_path / "empty")
    loaded = edgevec.Index.load(tmp_path / "empty", mmap=mmap)
    assert len(loaded) == 0
    assert loaded.check().ok
    assert loaded.search(np.ones(DIM)).ids.size == 0
    loaded.add(make_rows(rng, 40))
    assert loaded.check().ok
    assert len(loaded) == 40


@pytest.mark.mmap
def test_mapped_memory_is_reported_and_given_up(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    index.save(tmp_path / "index")
    loaded = edgevec.Index.load(tmp_path / "index", mmap=True)
    assert edgevec.Index.load(tmp_path / "index").memory_usage()["mapped"] == 0
    file = IndexFile((tmp_path / "index").read_bytes())
    columns = [size for name, _, size, _, _ in file.table() if name != "centre"]
    assert loaded.memory_usage()["mapped"] == sum(columns)
    loaded.compact()
    assert loaded.memory_usage()["mapped"] == 0


@each_kind
def test_same_seed_same_bytes(
    quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def build(seed: int) -> bytes:
        rng = np.random.default_rng(99)
        return saved(make_index(rng, "l2", quantization, keep_vectors, seed)[0], tmp_path / "index")

    assert build(1) == build(1)
    assert build(1) != build(2)


def test_the_file_is_what_its_description_says(tmp_path: Path, rng: np.random.Generator) -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert HEADER.itemsize == 640
    index, held = make_index(rng)
    data = saved(index, tmp_path / "index")
    file = IndexFile(data)
    assert data.startswith(MAGIC)
    assert [name for name, *_ in file.table()] == list(ITEMS)
    assert file.data() == data, "put together again by other code"
    assert file.get("live") == len(held) == len(file.slots(NODE, DUPLICATE))
    assert set(file["ids"][file.slots(NODE, DUPLICATE)].tolist()) == set(held)
    for states in ((FREE,), (NODE,), (DUPLICATE,), (DEAD_NODE, DEAD_DUPLICATE)):
        assert file.slots(*states), "the hostile files below want slots in all states"
    assert file.slots(NODE, level=1)


@pytest.mark.parametrize("copied", [lambda index: pickle.loads(pickle.dumps(index)), copy.deepcopy])
def test_a_copy_is_the_same_index(copied: Callable[[edgevec.Index], edgevec.Index], rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    other = copied(index)
    assert_same(index, other, rng)
    other.remove(list(other))
    assert len(other) == 0 < len(index)


def test_save_replaces_the_file_under_a_mapped_index(tmp_path: Path, rng: np.random.Generator) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows does not let a mapped file be replaced")
    index, _ = make_index(rng)
    index.save(tmp_path / "index")
    loaded = edgevec.Index.load(tmp_path / "index", mmap=True)
    loaded.add(make_rows(rng, 50))
    loaded.save(tmp_path / "index")
    assert_same(loaded, edgevec.Index.load(tmp_path / "index"), rng)


def test_a_file_that_was_saved_over_can_be_deleted(tmp_path: Path, rng: np.random.Generator) -> None:
    """In Emscripten a file that is renamed over would come back."""
    path = tmp_path / "index"
    for _ in range(3):
        index, _ = make_index(rng)
        for _ in range(3):
            index.add(make_rows(rng, 5))
            index.save(path)
        assert_same(index, edgevec.Index.load(path), rng)
        assert [file.name for file in tmp_path.iterdir()] == ["index"]
        path.unlink()
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            edgevec.Index.load(path)


@pytest.mark.threads
def test_a_file_saved_while_another_thread_writes_is_one_moment(tmp_path: Path, rng: np.random.Generator) -> None:
    index = edgevec.Index(DIM, "l2", M=4)
    rows = make_rows(rng, 1500)
    writer = threading.Thread(target=lambda: [index.add(rows[i : i + 10], threads=1) for i in range(0, 1500, 10)])
    writer.start()
    sizes: list[int] = []
    while not sizes or sizes[-1] < 1500:
        index.save(tmp_path / "index")
        loaded = edgevec.Index.load(tmp_path / "index")
        sizes.append(len(loaded))
        report = loaded.check()
        assert report.bad_links == report.bad_codes == report.bad_ids == 0
        assert_held(loaded, range(sizes[-1]), rows[: sizes[-1]])
    writer.join()
    assert sizes == sorted(sizes)
    assert all(size % 10 == 0 for size in sizes), "a call is saved whole or not at all"


# ---- what the system refuses ---------------------------------------------------------------------------------------


def test_missing_file_and_folder(tmp_path: Path) -> None:
    index = edgevec.Index(DIM)
    with pytest.raises(edgevec.IndexNotFoundError, match="nowhere") as missing:
        edgevec.Index.load(tmp_path / "nowhere")
    assert isinstance(missing.value, FileNotFoundError)
    with pytest.raises(edgevec.StorageError, match="nowhere") as refused:
        index.save(tmp_path / "nowhere" / "index")
    assert isinstance(refused.value, OSError)
    with pytest.raises(edgevec.StorageError):
        edgevec.Index.load(tmp_path)
    with pytest.raises(edgevec.StorageError):
        index.save(tmp_path)
    assert list(tmp_path.iterdir()) == [], "no temporary file is left"


@each_way
@pytest.mark.parametrize("data", [b"", b"\x89", MAGIC, MAGIC * 80, b"text " * 400, b"\0" * 4096], ids=range(6))
def test_not_an_index_file(data: bytes, mmap: bool, tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(data)
    with pytest.raises(edgevec.CorruptIndexError, match="section 'header'"):
        edgevec.Index.load(tmp_path / "index", mmap=mmap)


def test_newer_version_is_told_from_damage(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    data = saved(make_index(rng)[0], path)
    path.write_bytes(with_header(data, version=4))
    with pytest.raises(edgevec.FormatVersionError, match=r"format version 4.*up to 3"):
        edgevec.Index.load(path)
    # with another header, of which no more is known than where its checksum lies
    header = data[:8] + (7).to_bytes(4, "little") + (1000).to_bytes(4, "little") + rng.bytes(980)
    path.write_bytes(header + crc32c(header).to_bytes(4, "little") + rng.bytes(3000))
    with pytest.raises(edgevec.FormatVersionError, match="format version 7"):
        edgevec.Index.load(path)
    path.write_bytes(with_header(data, version=0))
    with pytest.raises(edgevec.CorruptIndexError, match="version"):
        edgevec.Index.load(path)


@each_way
@pytest.mark.parametrize(
    ("quantization", "keep_vectors", "version"), [(*kind, 2 if kind == ("sq8", True) else 1) for kind in KINDS]
)
def test_the_lowest_version_that_will_do(
    quantization: Quantization,
    keep_vectors: KeepVectors,
    version: int,
    mmap: bool,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    """Each way to keep vectors has its version, and a file in which they do not go together is refused."""
    index = edgevec.Index(40, quantization=quantization, M=4, keep_vectors=keep_vectors)
    index.add(rng.standard_normal((50, 40)))
    data = saved(index, tmp_path / "index")
    file = IndexFile(data)
    assert file.get("version") == version
    for other in ({"version": 3 - version}, {"version": 1, "keep_vectors": 2}, {"version": 2, "keep_vectors": 1}):
        (tmp_path / "index").write_bytes(with_header(data, **other))
        with pytest.raises(edgevec.CorruptIndexError, match="section 'header': vectors kept"):
            edgevec.Index.load(tmp_path / "index", mmap=mmap)
    if (quantization, keep_vectors) != ("sq8", True):
        (tmp_path / "index").write_bytes(with_header(data, version=2, keep_vectors=2))
        with pytest.raises(edgevec.CorruptIndexError, match="section '"):
            edgevec.Index.load(tmp_path / "index", mmap=mmap)


def test_sections_do_not_overlap(tmp_path: Path, rng: np.random.Generator) -> None:
    data = saved(make_index(rng)[0], tmp_path / "index")
    table = IndexFile(data).table()
    for (_, offset, size, _, _), (_, following, _, _, _) in pairwise(table):
        assert offset % 64 == 0
        assert following == offset + padded(size)
        assert not any(data[offset + size : following])
