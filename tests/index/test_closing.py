"""A closed index holds nothing and answers nothing, whenever it was closed."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_index import DIM, make_index, make_rows

import edgevec
from edgevec import BusyError, ClosedError, Index, SearchContext

CALLS: dict[str, Callable[[Index], object]] = {
    "dim": lambda index: index.dim,
    "metric": lambda index: index.metric,
    "quantization": lambda index: index.quantization,
    "M": lambda index: index.M,
    "ef_construction": lambda index: index.ef_construction,
    "seed": lambda index: index.seed,
    "keep_vectors": lambda index: index.keep_vectors,
    "ef": lambda index: index.ef,
    "set ef": lambda index: setattr(index, "ef", 7),
    "storage": lambda index: index.storage,
    "memory_limit": lambda index: index.memory_limit,
    "set memory_limit": lambda index: setattr(index, "memory_limit", 7),
    "len": len,
    "contains": lambda index: 1 in index,
    "iter": lambda index: list(index),
    "add": lambda index: index.add(np.ones((1, DIM))),
    "remove": lambda index: index.remove([1]),
    "get": lambda index: index.get([1]),
    "compact": lambda index: index.compact(),
    "search": lambda index: index.search(np.ones(DIM)),
    "search with recall": lambda index: index.search(np.ones(DIM), recall=0.9),
    "search of a batch": lambda index: index.search(np.ones((2, DIM))),
    "calibrate": lambda index: index.calibrate(),
    "save": lambda index: index.save("never written"),
    "to_bytes": lambda index: index.to_bytes(),
    "pickle": pickle.dumps,
    "copy": copy.deepcopy,
    "check": lambda index: index.check(),
    "stats": lambda index: index.stats(),
    "memory_usage": lambda index: index.memory_usage(),
    "context": SearchContext,
    "with": Index.__enter__,
}


def test_every_public_name_is_asked_of_a_closed_index() -> None:
    asked = {name.split()[-1] for name in CALLS} | {"search", "load", "from_bytes", "close", "closed"}
    assert {name for name in vars(Index) if not name.startswith("_")} <= asked


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_index_answers_with_an_error(call: Callable[[Index], object], rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    index.close()
    with pytest.raises(ClosedError, match="closed"):
        call(index)


def test_closing_gives_back_memory_and_may_be_repeated(rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    native = index._native
    assert native.memory_usage()["total"] > 0
    index.close()
    index.close()
    assert index.closed
    assert repr(index) == "<closed Index>"
    assert native.memory_usage()["total"] == 0
    native.close()
    with pytest.raises(ClosedError, match="the index was closed"):
        native.check()


def test_a_with_block_closes_its_index_after_errors_too(rng: np.random.Generator) -> None:
    with make_index(rng)[0] as index:
        assert not index.closed
    assert index.closed
    with pytest.raises(RuntimeError, match="of the block"), make_index(rng)[0] as index:
        raise RuntimeError("of the block")
    assert index.closed


@pytest.mark.mmap
def test_a_closed_index_no_longer_holds_its_mapped_file(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    make_index(rng)[0].save(path)
    with Index.load(path, mmap=True) as index:
        assert index.memory_usage()["mapped"] > 0
        maps = Path("/proc/self/maps")
        told = sys.platform == "linux" and maps.exists()  # wine has one too, with other names in it
        if told:
            assert str(path) in maps.read_text()
    if told:
        assert str(path) not in maps.read_text()
    path.unlink()  # which Windows refuses while it is mapped


def test_closing_within_a_callback_is_refused_and_changes_nothing(rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    refused = []

    def progress(done: int, total: int) -> None:
        with pytest.raises(BusyError):
            index.close()
        refused.append(done)

    held = len(index)
    index.add(make_rows(rng, 20_000), np.arange(10_000, 30_000), threads=1, progress=progress)
    assert refused
    assert len(index) == held + 20_000


def test_a_context_outlives_its_index(rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    context = SearchContext(index)
    index.search(np.ones(DIM), 3, context=context)
    native = index._native
    index.close()
    assert context.stats.queries == 1
    with pytest.raises(ClosedError):
        native.search(np.ones(DIM, np.float32), 3, context=context._native)


def close_beside_calls(rng: np.random.Generator, threads: int, pause: float) -> list[str]:
    """How each of the threads that use an index ended, when another closed it."""
    index, _ = make_index(rng)
    index.add(make_rows(rng, 2000), np.arange(1000, 3000))
    queries, rows = make_rows(rng, 64), make_rows(rng, 300)
    calls: list[Callable[[], object]] = [
        lambda: index.search(queries[0], 10),
        lambda: index.search(queries, 10, threads=threads),
        lambda: index.search(queries[1], 10, filter=np.arange(500)),
        lambda: index.add(rows, np.arange(300), threads=threads),
        lambda: (index.check(), index.to_bytes(), list(index)),
    ]
    ends: list[str] = []

    def work(call: Callable[[], object]) -> None:
        try:
            while True:
                call()
        except ClosedError:
            ends.append("closed")
        except BaseException as error:
            ends.append(repr(error))

    workers = [threading.Thread(target=work, args=(call,)) for call in calls]
    for worker in workers:
        worker.start()
    time.sleep(pause)
    index.close()
    for worker in workers:
        worker.join()
    return ends


@pytest.mark.threads
@pytest.mark.parametrize("threads", [1, 2])
def test_closing_beside_searches_and_adds(threads: int, rng: np.random.Generator) -> None:
    """Whatever is under way ends as if the index were not closed; what comes after it, with ClosedError."""
    for round in range(12):
        assert close_beside_calls(rng, threads, 0.002 * round) == ["closed"] * 5


def test_the_error_is_that_of_closed_collections() -> None:
    assert issubclass(edgevec.ClosedError, ValueError)
