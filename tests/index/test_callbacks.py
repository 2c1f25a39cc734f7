"""What a progress function may ask of the index or collection that it is called for: sizes answer, the rest is refused.

None of it may wait: the calling thread has the lock that it would wait for.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import assert_held, clustered, each_quantization

import edgevec
from edgevec import Quantization
from edgevec.collection import Collection

DIM = 8


def same(index: edgevec.Index, held: dict[int, Any]) -> None:
    """It holds these vectors and no others, and its locks are free."""
    assert dict.fromkeys(index) == dict.fromkeys(held)
    assert_held(index, list(held), np.array(list(held.values())))
    assert index.check()._replace(unreachable=0).ok
    index.ef = index.ef


def refused_by_an_index(index: edgevec.Index, folder: Path) -> dict[str, Callable[[], object]]:
    row = np.ones(DIM, np.float32)
    context, allowed = edgevec.SearchContext(index), edgevec.IdFilter([1])
    return {
        "add": lambda: index.add(row),
        "add many": lambda: index.add(np.ones((500, DIM)), progress=lambda done, total: True),
        "remove": lambda: index.remove([1]),
        "get": lambda: index.get([1]),
        "search": lambda: index.search(row, 3),
        "search by": lambda: index.search(row, 3, filter=allowed, context=context),
        "search batch": lambda: index.search(np.ones((20, DIM)), 3),
        "search exact": lambda: index.search(row, 3, exact=True),
        "search recall": lambda: index.search(row, 3, recall=0.9),
        "calibrate": lambda: index.calibrate(3),
        "compact": lambda: index.compact(),
        "check": lambda: index.check(),
        "iterate": lambda: next(iter(index)),
        "ef": lambda: setattr(index, "ef", 99),
        "save": lambda: index.save(folder / "from-a-callback"),
        "pickle": lambda: pickle.dumps(index),
    }


@each_quantization
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.threads)])
@pytest.mark.parametrize("call", ["add", "compact"])
def test_an_index_answers_for_its_size_and_refuses_the_rest(
    call: str, threads: int, quantization: Quantization, tmp_path: Path, rng: np.random.Generator
) -> None:
    index = edgevec.Index(DIM, "l2", quantization=quantization, M=5, ef_construction=40)
    held = dict(enumerate(clustered(rng, 400, DIM)))
    index.add(np.array(list(held.values())))
    index.remove(range(40))
    held = {id: row for id, row in held.items() if id >= 40}
    refused, calls = refused_by_an_index(index, tmp_path), []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        assert len(index) == len(held)
        assert (40 in index, 1 in index) == (True, False)
        assert (index.dim, index.metric, index.M, index.ef) == (DIM, "l2", 5, 64)
        assert index.stats()["live"] == len(held)
        assert index.memory_usage()["total"] > 0
        assert f"Index({len(held)} x {DIM}" in repr(index)
        for name, ask in refused.items():
            with pytest.raises(edgevec.BusyError, match="callback"):
                pytest.fail(f"{name}: {ask()}")
        assert list(tmp_path.iterdir()) == []

    if call == "add":
        more = clustered(rng, 600, DIM)
        index.add(more, range(300, 900), threads=threads, progress=progress)
        held |= dict(zip(range(300, 900), more, strict=True))
    else:
        index.compact(progress=progress)
    assert len(calls) >= 2
    same(index, held)
    for name, ask in refused.items():
        if name not in ("compact", "get", "remove", "search by"):
            ask()


def test_what_a_callback_is_refused_leaves_the_call_as_it_was(rng: np.random.Generator) -> None:
    """The error goes through the callback, and out of the call that it belongs to."""
    index = edgevec.Index(DIM, "l2")
    rows = clustered(rng, 300, DIM)
    index.add(rows[:10])
    for call in (
        lambda: index.add(rows, progress=lambda done, total: index.remove([1])),
        lambda: index.compact(progress=lambda done, total: index.remove([1])),
    ):
        with pytest.raises(edgevec.BusyError):
            call()
        same(index, dict(enumerate(rows[:10])))


def test_another_index_is_free(rng: np.random.Generator) -> None:
    """Also one that is built in a callback, with a callback of its own that asks both."""
    rows = clustered(rng, 300, DIM)
    outer, inner = edgevec.Index(DIM, "l2"), edgevec.Index(DIM, "l2")
    sizes = []

    def within(done: int, total: int) -> None:
        sizes.append((len(outer), len(inner)))
        with pytest.raises(edgevec.BusyError):
            outer.search(rows[0])
        with pytest.raises(edgevec.BusyError):
            inner.search(rows[0])

    def progress(done: int, total: int) -> None:
        if len(inner) == 0:  # on a slow machine it is told of a beginning more than once
            inner.add(rows, range(300), progress=within)
            assert inner.search(rows[5], 1).ids.tolist() == [5]

    outer.add(rows, progress=progress)
    assert set(sizes) == {(0, 0)}
    assert (len(outer), len(inner)) == (300, 300)


# ---- collections ---------------------------------------------------------------------------------------------------


OPENED: list[Collection] = []


@pytest.fixture(autouse=True)
def everything_is_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(*arguments: Any, **options: Any) -> Collection:
    OPENED.append(edgevec.open(*arguments, **options))
    return OPENED[-1]


def at(path: Path, kind: str, **options: Any) -> Collection:
    return opened(":memory:" if kind == "memory" else path / "made.db", DIM, metric="l2", **options)


def filled(path: Path, kind: str, rows: Any) -> Collection:
    made = at(path, kind)
    made.upsert(list(range(len(rows))), rows, [{"even": n % 2 == 0} for n in range(len(rows))])
    return made


def assert_is(made: Collection, held: dict[int, Any]) -> None:
    assert {record.id for record in made} == held.keys()
    assert made.check().ok
    for id, row in list(held.items())[:: max(1, len(held) // 20)]:
        assert [hit.id for hit in made.search(row, 1, exact=True)] == [id]


def asked_for_sizes(made: Collection, count: int) -> None:
    assert len(made) == count
    assert made.count(where={"even": True}) <= count
    assert made.stats()["records"] == count
    assert (made.dim, made.metric) == (DIM, "l2")


def refused_by_a_collection(made: Collection, rows: Any) -> list[Callable[[], object]]:
    return [
        lambda: made.search(rows[0], 3),
        lambda: made.search(rows[0], 3, where={"even": True}),
        lambda: made.upsert([7, 7000], rows[:2]),
        lambda: made.upsert([7000], rows[:1], progress=lambda done, total: True),
        lambda: made.import_from([{"id": 7000, "vector": rows[0].tolist()}]),
        lambda: made.delete([3]),
        lambda: made.compact(),
        lambda: made.check(),
        lambda: made.checkpoint(),
        lambda: made.create_index("even"),
        lambda: made.close(),
        lambda: made.batch().__enter__(),
    ]


each_place = pytest.mark.parametrize("kind", ["file", "memory"])


@each_place
@pytest.mark.parametrize("call", ["upsert", "batch", "import", "compact", "check", "repair"])
def test_a_collection_answers_for_its_size_and_refuses_the_rest(
    call: str, kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    rows, more = clustered(rng, 300, DIM), clustered(rng, 400, DIM)
    made = filled(tmp_path, kind, rows)
    held = dict(enumerate(rows))
    count, calls = len(held), []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        asked_for_sizes(made, count)
        assert np.array_equal(made.get(5)[0].vector, held[5])
        for ask in refused_by_a_collection(made, more):
            with pytest.raises(edgevec.BusyError):
                ask()

    if call in ("upsert", "batch", "import"):
        held |= dict(enumerate(more, 200))
        count = len(held)  # inside a batch, what it has written is there
    if call == "upsert":
        made.upsert(range(200, 600), more, progress=progress)
    elif call == "batch":
        with made.batch(progress=progress):
            made.upsert(range(200, 400), more[:200])
            assert [hit.id for hit in made.search(more[199], 1)] == [399]
            made.upsert(range(400, 600), more[200:])
    elif call == "import":
        table = [{"id": id, "vector": row.tolist()} for id, row in enumerate(more, 200)]
        made.import_from(iter(table), progress=progress)
    elif call == "compact":
        made.compact(progress=progress)
    elif made._store.graph.index is not None:
        if call == "repair":
            made._store.graph.index.remove([1, 2])
        assert made.check(repair=call == "repair", progress=progress).ok
    assert calls
    assert_is(made, held)
    made.upsert([7000], more[:1])
    made.close()


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
@pytest.mark.parametrize("call", ["refresh", "check"])
def test_a_collection_that_another_writes_to_answers_too(call: str, tmp_path: Path, rng: np.random.Generator) -> None:
    writer = filled(tmp_path, "file", clustered(rng, 300, DIM))
    reader = opened(tmp_path / "made.db", mode="r")
    writer.upsert(range(300, 600), clustered(rng, 300, DIM))
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        assert len(reader) == 600
        with pytest.raises(edgevec.BusyError):
            reader.search(np.ones(DIM), 3)

    if call == "refresh":
        reader.refresh(progress=progress)
    else:
        assert reader.check(progress=progress).ok
    assert calls
    assert len(reader.search(np.ones(DIM), 700)) == 600


@each_place
def test_what_a_callback_is_refused_undoes_its_batch(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    rows = clustered(rng, 300, DIM)
    made = filled(tmp_path, kind, rows)
    with pytest.raises(edgevec.BusyError):
        made.upsert(range(200, 500), rows, progress=lambda done, total: made.delete([1]))
    assert_is(made, dict(enumerate(rows)))


@each_place
def test_an_encoder_may_use_its_collection(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """It is called before the collection changes, so everything answers; inside a batch too."""
    rows = clustered(rng, 50, DIM)
    filled(tmp_path, kind, rows).close()
    seen = []

    def encode(texts: list[str]) -> Any:
        seen.append((len(made), made.search(rows[3], 1)[0].id))
        return np.ones((len(texts), DIM))

    made = at(tmp_path, kind, encoder=encode)
    if kind == "memory":
        made.upsert(list(range(50)), rows)
    made.upsert("new", documents="a text")
    with made.batch():
        made.upsert("newer", documents="another")
    assert made.search(text="text", k=2)
    assert seen == [(50, 3), (51, 3), (52, 3)]
