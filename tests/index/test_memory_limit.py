"""A limit that holds: what would pass it is refused and changes nothing, whatever was done before."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_valid, clustered, each_quantization, step_of
from support import SANITIZED, examples

import edgevec
from edgevec import MemoryLimitError, ParameterError, Quantization

pytestmark = pytest.mark.core

MB = 1_000_000


def fill(index: edgevec.Index, rows: np.ndarray, step: int) -> int:
    """Add rows until one step is refused; how many were added."""
    for start in range(0, len(rows), step):
        try:
            index.add(rows[start : start + step], range(start, min(start + step, len(rows))), threads=1)
        except MemoryLimitError:
            return start
    return len(rows)


# ---- what is refused -------------------------------------------------------------------------------------------------


@each_quantization
@pytest.mark.parametrize("step", [1, 50, 1000])
def test_an_index_fills_its_limit_and_no_more(step: int, quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, 12_000, 24)
    limit = 400_000 if step == 1 else 2 * MB
    index = edgevec.Index(24, "l2", quantization=quantization, M=6, ef_construction=24, memory_limit=limit)
    held = fill(index, rows, step)
    assert 0 < held < len(rows)
    assert len(index) == held
    assert set(index) == set(range(held))
    usage = index.memory_usage()
    assert limit / 2 < usage["peak"] <= limit == usage["limit"] == index.memory_limit
    assert index.search(rows[5], 1).ids[0] == 5
    assert index.search(rows[:300], 3).ids.shape == (300, 3)
    index.memory_limit = None
    assert index.check().ok
    index.add(rows[held:], range(held, len(rows)))
    assert len(index) == len(rows)


def test_what_is_refused_is_told_in_figures(rng: np.random.Generator) -> None:
    index = edgevec.Index(16, memory_limit=MB)
    index.add(rng.standard_normal((100, 16)))
    held = index.memory_usage()["held"]
    with pytest.raises(MemoryError) as caught:
        index.add(rng.standard_normal((20_000, 16)))
    assert isinstance(caught.value, edgevec.OutOfMemoryError)
    found = re.search(r"of (\d+) bytes (\d+) are held, and (\d+) more are needed: 20000 rows", str(caught.value))
    assert found is not None
    limit, told, more = map(int, found.groups())
    assert limit == MB
    assert told <= held
    assert told + more > limit
    assert index.memory_usage()["held"] <= held
    assert index.memory_usage()["peak"] < MB / 2  # refused at once: nothing was allocated


def test_the_limit_can_be_raised_and_lowered(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5000, 16))
    index = edgevec.Index(16, memory_limit=200_000)
    with pytest.raises(MemoryLimitError):
        index.add(rows)
    index.memory_limit = 20 * MB
    index.add(rows)
    index.memory_limit = 1000  # less than it holds: it cannot grow, and answers
    assert index.memory_limit == 1000
    with pytest.raises(MemoryLimitError):
        index.add(rows)
    assert index.search(rows[7], 1).ids[0] == 7
    assert index.remove([7]) == 1
    index.memory_limit = None
    assert index.memory_limit is None
    index.add(rows)
    assert len(index) == 9999


@pytest.mark.parametrize("limit", [0, -1, 2**63, 1.5, "1GB", True])
def test_limits_that_are_none(limit: object) -> None:
    with pytest.raises(ParameterError, match="memory_limit"):
        edgevec.Index(4, memory_limit=limit)
    index = edgevec.Index(4, memory_limit=MB)
    with pytest.raises(ParameterError, match="memory_limit"):
        index.memory_limit = limit
    assert index.memory_limit == MB


def test_copies_and_files_have_no_limit(tmp_path: Path, rng: np.random.Generator) -> None:
    index = edgevec.Index(4, memory_limit=MB)
    index.add(rng.standard_normal((10, 4)))
    index.save(tmp_path / "a")
    others = (edgevec.Index.load(tmp_path / "a"), pickle.loads(pickle.dumps(index)), copy.deepcopy(index))
    for other in (*others, edgevec.Index.from_bytes(index.to_bytes())):
        assert other.memory_limit is None
        assert len(other) == 10


@each_quantization
def test_a_file_that_does_not_fit_is_not_read(
    quantization: Quantization, tmp_path: Path, rng: np.random.Generator
) -> None:
    index = edgevec.Index(32, quantization=quantization)
    rows = rng.standard_normal((4000, 32))
    index.add(rows)
    index.save(tmp_path / "a")
    size = (tmp_path / "a").stat().st_size
    with pytest.raises(MemoryLimitError, match=rf"of {size // 2} bytes \d+ are held, and \d+ more are needed: 4000"):
        edgevec.Index.load(tmp_path / "a", memory_limit=size // 2)
    with pytest.raises(MemoryLimitError):
        edgevec.Index.from_bytes(index.to_bytes(), memory_limit=size // 2)
    loaded = edgevec.Index.load(tmp_path / "a", memory_limit=2 * size)
    assert loaded.memory_usage()["peak"] <= 2 * size == loaded.memory_limit
    assert loaded.search(rows[3], 1).ids[0] == 3


def mapped_within(limit: int, path: Path, rng: np.random.Generator) -> tuple[np.ndarray, edgevec.Index]:
    """4,000 rows, and an index that has them in a mapped file."""
    rows = rng.standard_normal((4000, 32))
    with edgevec.Index(32, quantization="none") as index:
        index.add(rows)
        index.save(path)
    return rows, edgevec.Index.load(path, mmap=True, memory_limit=limit)


@pytest.mark.mmap
def test_a_mapped_file_does_not_count(tmp_path: Path, rng: np.random.Generator) -> None:
    rows, mapped = mapped_within(300_000, tmp_path / "a", rng)
    assert mapped.memory_usage()["held"] < 300_000 < mapped.memory_usage()["mapped"]
    assert mapped.search(rows[3], 1).ids[0] == 3
    with pytest.raises(MemoryLimitError):  # it would copy what is mapped
        mapped.add(rows[:10])
    assert len(mapped) == 4000


def test_contexts_and_filters_count(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3000, 16))
    index = edgevec.Index(16)
    index.add(rows)
    index.search(rows[0], 1)
    before = index.memory_usage()["held"]
    context, allowed = edgevec.SearchContext(index), edgevec.IdFilter(range(0, 3000, 2))
    index.search(rows[0], 1, context=context, filter=allowed)
    held = index.memory_usage()["held"]
    assert held > before + 3000 / 8
    del context, allowed
    assert index.memory_usage()["held"] < held


@each_quantization
@pytest.mark.parametrize("keep", [True, False])
def test_compacting_without_a_second_copy(keep: bool, quantization: Quantization, rng: np.random.Generator) -> None:
    """The same file comes of it as with one, and searches find the same."""
    rows = clustered(rng, 4000, 24)
    indexes = [edgevec.Index(24, quantization=quantization, M=6, keep_vectors=keep) for _ in range(2)]
    for index in indexes:
        index.add(rows, threads=1)
        index.remove(range(0, 4000, 3))
        full = index.memory_usage()["held"]
    moved, copied = indexes
    moved.memory_limit = full + full // 4
    for index in indexes:
        index.compact()
    assert moved.memory_usage()["peak"] <= moved.memory_limit < copied.memory_usage()["peak"]
    assert moved.memory_usage()["held"] < full
    assert moved.to_bytes() == copied.to_bytes()
    assert np.array_equal(moved.search(rows[:100], 5).ids, copied.search(rows[:100], 5).ids)


def test_compacting_that_cannot_lead_around_the_removed_is_refused(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((7, 8))
    index = edgevec.Index(8, "l2", M=4, ef_construction=12)
    for n in (1, 1, 1, 4):
        index.add(rows[:n], range(n), threads=1)
    index.memory_limit = 4000
    with pytest.raises(MemoryLimitError):
        index.compact()
    assert index.stats()["dead"] == 3
    index.memory_limit = None
    index.compact()
    assert index.stats()["dead"] == 0


@pytest.mark.mmap
def test_a_mapped_file_is_not_compacted_in_place(tmp_path: Path, rng: np.random.Generator) -> None:
    """What is written to it would be memory that nobody counts."""
    rows, mapped = mapped_within(300_000, tmp_path / "a", rng)
    mapped.remove(range(0, 4000, 2))
    with pytest.raises(MemoryLimitError):
        mapped.compact()
    assert len(mapped) == 2000
    assert mapped.search(rows[3], 1).ids[0] == 3


# ---- any sequence ----------------------------------------------------------------------------------------------------

ONE_SEARCH = 50_000
"""Bytes that suffice for a search of these small indexes."""
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 120), st.integers(0, 400)),
        st.tuples(st.just("remove"), st.integers(1, 120), st.integers(0, 400)),
        st.tuples(st.just("limit"), st.integers(4, 400), st.just(0)),
        st.tuples(st.sampled_from(["compact", "search", "exact", "context", "save"]), st.just(0), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)


@each_quantization
@settings(max_examples=examples(60), deadline=None)
@given(calls=CALLS, seed=st.integers(0, 2**32 - 1), keep=st.sampled_from([True, "float32"]))
def test_any_calls_under_any_limits(
    quantization: Quantization, calls: list[tuple[str, int, int]], seed: int, keep: object
) -> None:
    """What is refused changes nothing: the index is what a dict is that has not seen the call."""
    rng = np.random.default_rng(seed)
    index = edgevec.Index(8, "l2", quantization=quantization, M=4, ef_construction=12, seed=seed, keep_vectors=keep)
    held: dict[int, np.ndarray] = {}
    contexts, readable = [], 0
    for name, n, start in calls:
        limit = index.memory_limit
        before = index.memory_usage()["held"]
        try:
            if name == "add":
                rows = rng.standard_normal((n, 8)).astype(np.float32)
                index.add(rows, range(start, start + n), threads=1)
                held.update(zip(range(start, start + n), rows, strict=True))
            elif name == "remove":
                gone = range(start, start + n)
                assert index.remove(gone) == sum(held.pop(id, None) is not None for id in gone)
            elif name == "limit":
                index.memory_limit = n * 1000
                readable = before + ONE_SEARCH
            elif name == "compact":
                index.compact()
            elif name == "context":
                contexts.append(edgevec.SearchContext(index))
            elif name == "save":
                assert len(edgevec.Index.from_bytes(index.to_bytes())) == len(held)
            else:
                query = rng.standard_normal(8).astype(np.float32)
                found = index.search(query, 5, exact=name == "exact")
                assert_valid(found, "l2", held, query, 5, step_of(index, np.array([*held.values(), query])))
        except MemoryLimitError:
            assert limit is not None
        if limit is not None and name != "limit":
            reads = name in ("search", "exact", "context")  # for one of them there is room, however low the limit
            assert index.memory_usage()["held"] <= max(limit, before, readable if reads else 0)
        assert len(index) == len(held)
    assert set(index) == set(held)
    index.memory_limit = None
    report = index.check()
    assert not (report.bad_links)
    assert not (report.bad_codes)
    assert not (report.bad_ids)
    index.compact()  # what upkeep there was no room for
    assert index.check().ok
    if held:
        step = step_of(index, np.array(list(held.values())))
        assert np.abs(index.get(list(held)) - np.array(list(held.values()))).max() <= 20 * step


# ---- the system's limit ----------------------------------------------------------------------------------------------

CONFINED = """
import resource, sys
import numpy as np
import edgevec
from edgevec import MemoryLimitError

def confine(limit, margin):
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + limit + margin
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))

def rows(n, seed):
    return np.random.default_rng(seed).standard_normal((n, DIM), np.float32)

MB, DIM, STEP = 2**20, 64, 2000
LIMIT, MARGIN = 32 * MB, 24 * MB
quantization, path = sys.argv[1:]
"""
"""The margin is for arrays, the stack of a thread, and what Python and the C library keep."""

BUILD = """
index = edgevec.Index(DIM, "l2", quantization=quantization, M=8, ef_construction=12, memory_limit=LIMIT)
index.add(rows(10, 0), threads=1)
index.search(rows(10, 0), 3, threads=1)
confine(LIMIT, MARGIN)
refused = None
while refused is None:
    step = len(index) // STEP
    try:
        index.add(rows(STEP, step), range(step * STEP, (step + 1) * STEP), threads=1)
    except MemoryLimitError as error:
        refused = error
held = len(index)
assert held >= 10 * STEP and held % STEP == 0, held
assert LIMIT * 0.8 < index.memory_usage()["peak"] <= LIMIT, index.memory_usage()
report = index.check()
assert not (report.bad_links or report.bad_codes or report.bad_ids) and report.unreachable * 50 <= held, report
found = index.search(rows(STEP, 3)[:50], 1, threads=1, exact=True)
assert found.ids[:, 0].tolist() == list(range(3 * STEP, 3 * STEP + 50))
index.remove(range(0, held, 2))
index.compact()  # in place: there is no room for a second copy of half
assert len(index) == held // 2
assert index.memory_usage()["peak"] <= LIMIT
assert index.memory_usage()["held"] < 0.65 * LIMIT, index.memory_usage()
assert index.search(rows(STEP, 3)[1], 1, exact=True).ids[0] == 3 * STEP + 1
report = index.check()
assert not (report.bad_links or report.bad_codes or report.bad_ids) and report.unreachable * 50 <= held, report
index.save(path)
"""

LOAD = """
confine(LIMIT, MARGIN)
try:
    edgevec.Index.load(path, memory_limit=4 * MB)
    raise AssertionError("it was loaded")
except MemoryLimitError as error:
    assert f"of {4 * MB} bytes" in str(error), error
index = edgevec.Index.load(path, memory_limit=LIMIT)
assert index.memory_usage()["peak"] <= LIMIT
assert len(index.search(rows(1, 3)[0], 3).ids) == 3
"""


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform != "linux" or SANITIZED, reason="RLIMIT_AS: Linux, without a sanitizer's shadow")
@each_quantization
def test_it_holds_under_the_limit_of_the_system(quantization: Quantization, tmp_path: Path) -> None:
    """A process that may have the limit and a margin builds up to it, compacts and loads: no other error comes."""
    for script in (BUILD, LOAD):
        done = subprocess.run(
            [sys.executable, "-c", CONFINED + textwrap.dedent(script), quantization, str(tmp_path / "a")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
