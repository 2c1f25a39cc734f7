"""Mapped without verifying: open at once, never outside the file, and verified when a call needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from index_file import HEADER, NODE, NONE, IndexFile
from small_index import DIM, each_kind, make_index, make_rows, saved

from edgevec import CorruptIndexError, EdgevecError, Index, KeepVectors, Metric, Quantization

pytestmark = [pytest.mark.mmap, pytest.mark.core]

METRICS: tuple[Metric, ...] = ("cosine", "ip", "l2")


def opened(data: bytes, path: Path) -> Index:
    path.write_bytes(data)
    return Index.load(path, mmap=True, verify=False)


@each_kind
def test_answers_are_those_of_the_verified_index(
    quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, rng: np.random.Generator
) -> None:
    for metric in METRICS:
        verified, _ = make_index(rng, metric, quantization, keep_vectors)
        data, queries = saved(verified, tmp_path / "verified"), make_rows(rng, 20)
        with opened(data, tmp_path / metric) as index:
            assert list(index) == list(verified)
            assert len(index) == len(verified)
            exact, same = index.search(queries, 7, exact=True), verified.search(queries, 7, exact=True)
            np.testing.assert_array_equal(exact.ids, same.ids)
            np.testing.assert_allclose(exact.distances, same.distances, rtol=1e-5)
            found = index.search(queries, 7, ef=200).ids
            assert np.mean(found == verified.search(queries, 7, ef=200).ids) > 0.95
            allowed = list(verified)[::2]
            assert set(index.search(queries, 7, filter=allowed).ids.ravel().tolist()) <= {*allowed, -1}
            np.testing.assert_array_equal(index.get(allowed), verified.get(allowed))
            assert allowed[0] in index
            assert index.check() == verified.check()
            assert index.to_bytes() == data
            new = make_rows(rng, 30)
            for one in (index, verified):
                one.add(new, np.arange(5000, 5030), threads=1)
                one.remove(allowed[:5])
            assert index.to_bytes() == verified.to_bytes()


def test_opening_makes_nothing_for_the_slots(tmp_path: Path, rng: np.random.Generator) -> None:
    full = Index(128, seed=1, M=4, ef_construction=10)
    full.add(rng.standard_normal((20_000, 128)))
    full.save(tmp_path / "index")
    with Index.load(tmp_path / "index", mmap=True, verify=False) as index:
        memory = index.memory_usage()
        assert memory["total"] - memory["mapped"] < 200_000
        index.search(np.ones(128))
        assert index.memory_usage()["total"] < memory["total"] + 1_000_000
        index.check()
        assert index.memory_usage()["total"] > memory["total"] + 20_000 * 10


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.check(),
        lambda index: index.save("never written"),
        lambda index: index.to_bytes(),
        lambda index: index.compact(),
        lambda index: index.remove([0]),
        lambda index: index.add(np.ones((1, DIM))),
        lambda index: index.calibrate(),
    ],
    ids=["check", "save", "to_bytes", "compact", "remove", "add", "calibrate"],
)
def test_damage_is_told_by_the_first_call_that_needs_all(
    call: Callable[[Index], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    file = IndexFile(saved(make_index(rng)[0], tmp_path / "index"))
    data = bytearray(file.data())
    name, offset, *_ = file.table()[0]
    data[offset + 5] ^= 1
    with opened(data, tmp_path / "damaged") as index:
        for _ in range(2):
            with pytest.raises(CorruptIndexError, match=f"section '{name}': checksum differs"):
                call(index)
            assert len(index.search(np.ones(DIM), 5).ids) == 5
    assert not (tmp_path / "never written").exists()


def test_the_header_is_verified_all_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    data = saved(make_index(rng)[0], tmp_path / "index")
    for position in range(0, HEADER.itemsize, 3):
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        with pytest.raises(CorruptIndexError, match="section 'header'"):
            opened(damaged, tmp_path / f"{position % 2}")
    for cut in [*range(0, 700, 50), len(data) - 1]:
        with pytest.raises(CorruptIndexError):
            opened(data[:cut], tmp_path / "cut")


def test_a_header_that_would_lead_astray_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    data = saved(make_index(rng)[0], tmp_path / "index")
    for field, value in (("entry", 10**6), ("live", 10**6), ("dead", 10**6), ("slots", 7)):
        file = IndexFile(data)
        file.set(field, value)
        with pytest.raises(CorruptIndexError):
            opened(file.data(), tmp_path / field)


def use(index: Index, rng: np.random.Generator) -> None:
    """Everything that reads; what names ids or needs all of the file may refuse it."""
    queries = make_rows(rng, 4)
    for k in (1, 2, 4):  # few enough for the graph to be walked; for more, all vectors are compared
        index.search(queries, k, ef=k)
    index.search(queries[0], 5)
    index.search(queries, 300, ef=300, threads=2)
    index.search(queries, 3, exact=True)
    list(index)
    index.stats()
    calls: list[Callable[[], object]] = [
        lambda: index.get([0]),
        lambda: index.search(queries, 3, filter=np.arange(40)),
        lambda: index.calibrate(5),
        lambda: index.check(),
        lambda: index.add(queries),
    ]
    for call in calls:
        try:
            call()
        except EdgevecError:
            index.search(queries[0], 5)


@each_kind
def test_any_bytes_in_any_section(
    quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, rng: np.random.Generator
) -> None:
    data = saved(make_index(rng, "l2", quantization, keep_vectors)[0], tmp_path / "index")
    table = IndexFile(data).table()
    for i in range(60):
        hostile = bytearray(data)
        for _, offset, size, _, _ in table:
            if rng.random() < 0.4:
                random = rng.integers(0, 256 if i % 2 else 4, size, np.uint8)
                keep = rng.random(size) < (0, 0.9, 0.99)[i % 3]
                before = np.frombuffer(data, np.uint8)[offset : offset + size]
                hostile[offset : offset + size] = np.where(keep, before, random).tobytes()
        with opened(hostile, tmp_path / f"{i}") as index:
            use(index, rng)


def test_chains_of_duplicates_that_go_in_circles_end(tmp_path: Path, rng: np.random.Generator) -> None:
    data = saved(make_index(rng)[0], tmp_path / "index")
    slots = IndexFile(data).get("slots")
    for round in range(20):
        file = IndexFile(data)
        chain = file["chain"]
        chain[:] = (np.arange(slots) + 1) % slots if round == 0 else rng.integers(0, slots, slots)
        if round % 3 == 2:
            chain[rng.integers(0, slots, 50)] = rng.integers(0, NONE, 50)
        with opened(file.data(), tmp_path / f"{round}") as index:
            use(index, rng)


def test_links_and_levels_that_lead_anywhere(tmp_path: Path, rng: np.random.Generator) -> None:
    data = saved(make_index(rng)[0], tmp_path / "index")
    for round in range(20):
        file = IndexFile(data)
        for name in ("upper", "upper_at"):
            file[name][:] = rng.integers(0, NONE if round % 2 else 2 * file.get("slots"), file[name].size)
        file["level"][:] = rng.integers(0, 256, file["level"].size)
        file.set("entry", int(file.slots(NODE)[round]))
        with opened(file.data(), tmp_path / f"{round}") as index:
            use(index, rng)


def test_without_mmap_every_byte_is_verified_all_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    data = bytearray(saved(make_index(rng)[0], tmp_path / "index"))
    data[-100] ^= 1
    (tmp_path / "index").write_bytes(data)
    with pytest.raises(CorruptIndexError):
        Index.load(tmp_path / "index", verify=False)
