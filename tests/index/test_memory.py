"""Memory: what is removed is given back, slots are used again, and what the index says it holds is what it holds."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from oracle import clustered, each_metric, each_quantization

import edgevec
from edgevec import KeepVectors, Metric, Quantization

pytestmark = pytest.mark.core


def filled(n: int, dim: int, rng: np.random.Generator, **options: object) -> edgevec.Index:
    index = edgevec.Index(dim, "l2", M=8, ef_construction=32, **options)
    index.add(clustered(rng, n, dim))
    return index


@each_quantization
def test_remove_and_compact_give_memory_back(quantization: Quantization, rng: np.random.Generator) -> None:
    index = filled(6000, 64, rng, quantization=quantization)
    full = index.memory_usage()["total"]
    index.remove(range(5400))
    index.compact()
    assert index.memory_usage()["total"] < full / 5
    small = filled(600, 64, rng, quantization=quantization)
    small.compact()
    assert index.memory_usage()["total"] < 1.5 * small.memory_usage()["total"]
    index.remove(list(index))
    index.compact()
    assert index.memory_usage()["total"] < full / 50
    assert index.stats()["slots"] == 0


@each_quantization
def test_slots_are_used_again(quantization: Quantization, rng: np.random.Generator) -> None:
    index = filled(2000, 16, rng, quantization=quantization)
    slots, memory = [], []
    for _ in range(20):
        gone = rng.choice(list(index), 500, replace=False)
        index.remove(gone)
        index.add(clustered(rng, 500, 16))
        slots.append(index.stats()["slots"])
        memory.append(index.memory_usage()["total"])
    assert len(index) == 2000
    assert max(slots) <= 2 * 2000
    assert slots[-1] == slots[9]  # settled
    assert memory[-1] <= 1.1 * memory[9]


@each_quantization
def test_slots_are_used_again_by_upserts_one_by_one(quantization: Quantization, rng: np.random.Generator) -> None:
    index = filled(300, 8, rng, quantization=quantization)
    for id in rng.integers(0, 300, 3000).tolist():
        index.add(clustered(rng, 1, 8), id)
    assert len(index) == 300
    assert index.stats()["slots"] <= 2 * 300
    assert index.check()._replace(unreachable=0).ok


@each_metric
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_vectors_take_what_keeping_them_says(
    metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    ways: tuple[KeepVectors, ...] = (True, "float32", False) if quantization == "sq8" else (True, False)
    rows = clustered(rng, 2000, 256)
    sizes = {}
    for keep_vectors in ways:
        index = edgevec.Index(
            256, metric, quantization=quantization, M=4, ef_construction=20, keep_vectors=keep_vectors
        )
        index.add(rows)
        index.compact()
        assert index.keep_vectors == keep_vectors
        sizes[keep_vectors] = index.memory_usage()
    for keep_vectors in ways:
        size = rows.nbytes if keep_vectors else 0
        if quantization == "sq8" and keep_vectors is True:
            size //= 2
        assert sizes[keep_vectors]["vectors"] == size
        assert sizes[keep_vectors]["total"] - sizes[False]["total"] >= size
    assert sizes[False]["total"] < rows.nbytes / 2


@each_quantization
def test_the_parts_are_the_total(quantization: Quantization, rng: np.random.Generator) -> None:
    index = filled(3000, 48, rng, quantization=quantization)
    usage = index.memory_usage()
    assert usage.pop("mapped") == usage.pop("limit") == 0
    total = usage.pop("total")
    assert total <= usage.pop("held") <= usage.pop("peak")
    assert sum(usage.values()) == total
    assert min(usage.values()) >= 0
    least = {"none": 48 * 4, "sq8": 48 * 3, "binary": 48 * 4 + 32}[quantization] + 16 * 4 + 8
    assert total >= 3000 * least


@each_quantization
@pytest.mark.parametrize("at_once", [True, False])
def test_a_small_index_is_small(at_once: bool, quantization: Quantization, rng: np.random.Generator) -> None:
    """What building and searching it take is not its own."""
    rows = clustered(rng, 10, 16)
    index = edgevec.Index(16, quantization=quantization)
    for part in [rows] if at_once else rows:
        index.add(part)
    index.get(range(10))
    index.check()
    index.compact()
    assert index.memory_usage()["total"] < 8 << 10
    for _ in range(5):
        index.search(rows[0])
        index.search(rows, filter=[1, 2])
    assert index.memory_usage()["total"] < 8 << 10


def test_a_large_index_keeps_what_building_takes(rng: np.random.Generator) -> None:
    """Else each row added alone would make it anew."""
    index = filled(3000, 48, rng)
    before = index.memory_usage()["other"]
    index.add(clustered(rng, 1, 48))
    assert index.memory_usage()["other"] >= before
    assert before > 30_000


def test_freed_indexes_leave_nothing(rng: np.random.Generator) -> None:
    """Contexts, filters, results and iterators may outlive each other in any order."""
    for _ in range(10):
        index = filled(300, 8, rng)
        context, allowed, walk = edgevec.SearchContext(index), edgevec.IdFilter(range(100)), iter(index)
        next(walk)
        found = index.search(np.ones(8), filter=allowed, context=context)
        del index
        gc.collect()
        assert context.stats.queries == 1
        assert len(list(walk)) == 299
        del context, walk
        gc.collect()
        assert len(allowed) == 100
        assert found.ids.size == 10


@each_quantization
def test_a_pickled_index_comes_back_as_it_was(quantization: Quantization, rng: np.random.Generator) -> None:
    index = filled(500, 12, rng, quantization=quantization, seed=9)
    index.remove(range(0, 100, 3))
    index.ef = 33
    again = pickle.loads(pickle.dumps(index))
    assert repr(again) == repr(index)
    assert list(again) == list(index)
    query = clustered(rng, 1, 12)[0]
    np.testing.assert_array_equal(again.search(query).ids, index.search(query).ids)
    again.add(clustered(rng, 5, 12))
    assert len(again) == len(index) + 5


# ---- what the system says ------------------------------------------------------------------------------------------

MEASURE = """
    import gc, os, sys
    import numpy as np
    import edgevec

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    quantization = sys.argv[1]
    rows = np.random.default_rng(0).standard_normal((50_000, 128)).astype("f4")
    small = edgevec.Index(128, "l2", quantization=quantization, M=8, ef_construction=16)
    small.add(rows[:2000], threads=2)  # starts threads and fills caches
    before = resident()
    index = edgevec.Index(128, "l2", quantization=quantization, M=8, ef_construction=16)
    index.add(rows, threads=2)
    index.search(rows[:100])
    grown, claimed = resident() - before, index.memory_usage()["total"]
    index.remove(range(49_000))
    index.compact()
    kept, still = resident() - before, index.memory_usage()["total"]
    del index
    print(grown, claimed, kept, still, resident() - before)
"""


MANY_SMALL = """
    import gc, os, sys
    import numpy as np
    import edgevec

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def small():
        index = edgevec.Index(16, quantization=sys.argv[1])
        index.add(rows)
        index.search(rows[0])
        return index

    rows = np.random.default_rng(0).standard_normal((10, 16)).astype("f4")
    warm = [small() for _ in range(100)]
    before = resident()
    many = [small() for _ in range(2000)]
    print((resident() - before) / len(many))
"""


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
@each_quantization
def test_thousands_of_small_indexes(quantization: Quantization) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MANY_SMALL), quantization], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 8 << 10


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
@each_quantization
def test_the_memory_an_index_claims_is_what_the_system_sees(quantization: Quantization) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), quantization], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    grown, claimed, kept, still, left = map(int, done.stdout.split())
    slack = 4 << 20
    assert 0.7 * grown - slack <= claimed  # nothing large is kept quiet
    assert claimed <= 2 * grown + slack  # room reserved and never touched is not resident
    assert kept <= still + 0.2 * grown + slack
    assert left <= 0.1 * grown + slack
