"""Every n-th allocation of the core fails, in every call of an Index: OutOfMemoryError, and the index is as before.

Only an extension built with EDGEVEC_TESTING has the hook, as that of `tox -e asan`, where it must be there.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_index import DIM, each_kind, make_index, make_rows

import edgevec._core as _core
from edgevec import IdFilter, Index, KeepVectors, OutOfMemoryError, Quantization, SearchContext

fault: Any = getattr(_core.lib, "ev_fault_alloc", None)

if fault is None and os.environ.get("EDGEVEC_EXPECT_FAULTS") != "1":
    pytest.skip("this build of the core cannot make allocations fail", allow_module_level=True)

Call = Callable[[Index, Path, np.random.Generator], object]

READING: dict[str, Call] = {
    "search": lambda index, path, rng: index.search(make_rows(rng, 1)[0], 5),
    "batch": lambda index, path, rng: index.search(make_rows(rng, 40), 5, threads=2),
    "exact": lambda index, path, rng: index.search(make_rows(rng, 3), 5, exact=True),
    "large k": lambda index, path, rng: index.search(make_rows(rng, 3), 100, ef=300),
    "filter": lambda index, path, rng: index.search(make_rows(rng, 3), 5, filter=np.arange(0, 200, 3)),
    "id filter": lambda index, path, rng: IdFilter([3, 2, 1]),
    "context": lambda index, path, rng: index.search(make_rows(rng, 1)[0], 5, context=SearchContext(index)),
    "get": lambda index, path, rng: index.get(list(index)[:9]),
    "check": lambda index, path, rng: index.check(),
    "calibrate": lambda index, path, rng: index.calibrate(5, threads=1),
    "recall": lambda index, path, rng: index.search(make_rows(rng, 1)[0], 5, recall=0.9),
    "save": lambda index, path, rng: index.save(path),
    "to_bytes": lambda index, path, rng: index.to_bytes(),
    "pickle": lambda index, path, rng: pickle.loads(pickle.dumps(index)),
    "load": lambda index, path, rng: (index.save(path), Index.load(path)),
    "mapped": lambda index, path, rng: (index.save(path), Index.load(path, mmap=True)),
    "completed": lambda index, path, rng: (index.save(path), Index.load(path, mmap=True, verify=False).check()),
    "properties": lambda index, path, rng: (len(index), 3 in index, index.stats(), index.memory_usage(), index.ef),
    "new": lambda index, path, rng: Index(DIM),
}
CHANGING: dict[str, Call] = {
    "add": lambda index, path, rng: index.add(make_rows(rng, 40), np.arange(5000, 5040), threads=1),
    "add with threads": lambda index, path, rng: index.add(make_rows(rng, 300), np.arange(5000, 5300), threads=2),
    "replace": lambda index, path, rng: index.add(make_rows(rng, 20), list(index)[:20], threads=1),
    "remove": lambda index, path, rng: index.remove(list(index)[::3]),
    "compact": lambda index, path, rng: index.compact(),
    "ef": lambda index, path, rng: setattr(index, "ef", 9),
}


def fails(call: Callable[[], object], n: int) -> tuple[bool, bool]:
    """Whether the n-th allocation was reached, and whether the call told of it."""
    fault(n)
    told = False
    try:
        call()
    except OutOfMemoryError:
        told = True
    finally:
        made = fault(0)
    return made >= n, told


def assert_usable(index: Index, held: dict[int, Any], rng: np.random.Generator) -> None:
    assert sorted(index) == sorted(held)
    assert len(index) == len(held)
    report = index.check()
    assert (report.bad_links, report.bad_codes, report.bad_ids) == (0, 0, 0)
    assert len(index.search(make_rows(rng, 1)[0], 5).ids) == 5


def test_the_build_that_must_have_the_hook_has_it() -> None:
    assert fault is not None
    fault(0)
    Index(3).add(np.eye(3), threads=1)
    assert fault(0) > 3


@pytest.mark.threads
@pytest.mark.mmap
@pytest.mark.parametrize("call", READING.values(), ids=READING)
def test_calls_that_change_nothing(call: Call, tmp_path: Path, rng: np.random.Generator) -> None:
    index, held = make_index(rng)
    before, told, n = index.to_bytes(), 0, 1
    while True:
        reached, refused = fails(lambda: call(index, tmp_path / "index", rng), n)
        told += refused
        if not reached:
            break
        assert_usable(index, held, rng)
        assert index.to_bytes() == before
        n += 1
    assert not refused  # with nothing failing any more
    call(index, tmp_path / "index", rng)
    assert told or n <= 2


@pytest.mark.threads
@each_kind
@pytest.mark.parametrize("call", CHANGING.values(), ids=CHANGING)
def test_calls_that_change_the_index(
    call: Call, quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, rng: np.random.Generator
) -> None:
    made, held = make_index(rng, "l2", quantization, keep_vectors)
    data, n = made.to_bytes(), 1
    while True:
        index = Index.from_bytes(data)
        reached, refused = fails(lambda index=index: call(index, tmp_path, rng), n)  # type: ignore[misc]
        if not reached:
            break
        if refused:
            assert_usable(index, held, rng)
            call(index, tmp_path, rng)
        report = index.check()
        assert (report.bad_links, report.bad_codes, report.bad_ids) == (0, 0, 0)
        n += 1 if n < 60 else 7
    assert not refused
