"""Many threads: searching at once, searching while one writes, long calls that let others run and can be stopped."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from oracle import Rows, assert_held, clustered, distances, each_quantization
from support import HANG, lasting

import edgevec
from edgevec import Quantization

pytestmark = pytest.mark.threads

THREADS = 8


def at_once(n: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work(0), ... work(n - 1), each in a thread, started together; what one raises is raised here."""
    barrier = threading.Barrier(n)

    def start(i: int) -> Any:
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(start, range(n)))


@each_quantization
def test_searching_at_once_is_searching_alone(quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, 3200, 40)
    queries, rows = rows[:200], rows[200:]
    index = edgevec.Index(40, "l2", quantization=quantization, ef_construction=80)
    index.add(rows)
    index.remove(range(0, 3000, 10))
    allowed = edgevec.IdFilter(range(0, 3000, 3))
    ways: list[dict[str, Any]] = [{}, {"filter": allowed}, {"exact": True}, {"ef": 200}]
    alone = [index.search(queries, 10, threads=1, **way) for way in ways]

    def work(i: int) -> None:
        context = edgevec.SearchContext(index) if i % 2 else None
        order = np.random.default_rng(i).permutation(len(queries))
        for turn, at in enumerate(order):
            which = (i + turn) % len(ways)
            found = index.search(queries[at], 10, context=context, **ways[which])
            np.testing.assert_array_equal(found.ids, alone[which].ids[at])
            np.testing.assert_array_equal(found.distances, alone[which].distances[at])
        found = index.search(queries, 10, threads=2, **ways[i % len(ways)])
        np.testing.assert_array_equal(found.ids, alone[i % len(ways)].ids)

    at_once(THREADS, work)


@each_quantization
def test_searching_while_one_writes(quantization: Quantization, rng: np.random.Generator) -> None:
    """Each id stands for one vector for good, so that a result can be verified whenever it was found.

    Ids 0..999 stay; those from 1000 on come and go; multiples of three are allowed by the filter.
    """
    dim, total, staying = 16, 4000, 1000
    rows = clustered(rng, total, dim)
    index = edgevec.Index(dim, "l2", quantization=quantization, M=6, ef_construction=40)
    index.add(rows[:staying], np.arange(staying))
    allowed = edgevec.IdFilter(range(0, total, 3))
    stop = threading.Event()

    def write() -> None:
        own = np.random.default_rng(1)
        for turn in range(60):
            ids = staying + own.choice(total - staying, 150, replace=False)
            index.add(rows[ids], ids, threads=1 + turn % 2)
            index.remove(staying + own.choice(total - staying, 200, replace=False))
            if turn % 20 == 19:
                index.compact()
            if turn % 15 == 7:
                assert index.check()._replace(unreachable=0).ok

    def verify(query: Rows, ids: Any, got: Any) -> None:
        np.testing.assert_allclose(got, distances("l2", rows[ids], query), rtol=1e-4, atol=1e-4)
        assert (np.diff(got) >= 0).all()
        assert len(set(ids.tolist())) == len(ids)

    def search(seed: int) -> int:
        own, context, searches = np.random.default_rng(seed), edgevec.SearchContext(index), 0
        while not stop.is_set():
            query = clustered(own, 1, dim)[0]
            found = index.search(query, 10, context=context)
            assert found.ids.size == 10
            verify(query, *found)
            found = index.search(query, 10, filter=allowed, exact=seed % 2 == 0)
            assert found.ids.size == 10
            assert (found.ids % 3 == 0).all()
            verify(query, *found)
            always = int(own.integers(staying))
            assert_held(index, always, rows[[always]])
            assert always in index
            assert len(index) >= staying
            searches += 1
        return searches

    def work(i: int) -> int:
        if i:
            return search(i)
        try:
            write()
        finally:
            stop.set()
        return 1

    assert all(at_once(THREADS, work))
    index.compact()
    assert index.check().ok
    assert set(range(staying)) <= set(index)


@each_quantization
@pytest.mark.parametrize("keep_vectors", [True, False])
def test_getting_while_one_compacts(keep_vectors: bool, quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, 500, 40)
    index = edgevec.Index(40, "l2", quantization=quantization, keep_vectors=keep_vectors, M=6, ef_construction=20)
    index.add(rows)
    held, stop = index.get(range(500)), threading.Event()

    def work(i: int) -> int:
        own, turns = np.random.default_rng(i), 0
        try:
            while not stop.is_set():
                if i == 0:
                    index.compact()
                    stop.wait(0 if turns < lasting(200) else 1e-4)
                    turns += 1
                    if turns == lasting(300):
                        return turns
                    continue
                ids = own.choice(500, 20)
                np.testing.assert_array_equal(index.get(ids), held[ids])
                turns += 1
            return turns
        finally:
            if i == 0:
                stop.set()

    assert all(at_once(4, work))


def test_a_context_is_for_one_search_at_a_time(rng: np.random.Generator) -> None:
    """A second one is told so, whatever the first is doing, and spoils nothing."""
    rows = clustered(rng, 3000, 48)
    index = edgevec.Index(48, "l2", M=6, ef_construction=40)
    index.add(rows)
    ways: list[dict[str, Any]] = [{"ef": 300}, {"exact": True}, {"filter": edgevec.IdFilter(range(0, 3000, 2))}]
    alone = [index.search(rows[:300], 10, threads=1, **way) for way in ways]
    shared, busy = edgevec.SearchContext(index), [0] * THREADS

    def work(i: int) -> int:
        answered = 0
        for turn in range(60):
            which = (i + turn) % len(ways)
            single = turn % 2 == 0
            try:
                found = index.search(rows[turn] if single else rows[:300], 10, threads=1, context=shared, **ways[which])
            except edgevec.BusyError:
                busy[i] += 1
                continue
            expected = alone[which].ids[turn] if single else alone[which].ids
            np.testing.assert_array_equal(found.ids, expected)
            assert shared.stats.strategy in ("graph", "exact", "filtered_graph")
            answered += 1
        return answered

    answered = sum(at_once(THREADS, work))
    assert answered > 0
    assert answered + sum(busy) == 60 * THREADS
    with pytest.raises(edgevec.NotFiniteError):
        index.search(rows[0] * np.nan, 10, context=shared)
    np.testing.assert_array_equal(index.search(rows[7], 10, context=shared, exact=True).ids, alone[1].ids[7])


def test_ef_is_what_was_set_last(rng: np.random.Generator) -> None:
    index = edgevec.Index(8, "l2")
    index.add(clustered(rng, 50, 8))

    def work(i: int) -> None:
        for turn in range(300):
            index.ef = 1 + i * 1000 + turn
            index.search(np.ones(8))

    at_once(THREADS, work)
    context = edgevec.SearchContext(index)
    index.search(np.ones(8), 1, context=context)
    assert index.ef == context.stats.ef or context.stats.strategy == "exact"
    assert index.ef % 1000 == 300


def test_threads_that_all_write(rng: np.random.Generator) -> None:
    rows = clustered(rng, 1600, 12)
    index = edgevec.Index(12, "l2")

    def work(i: int) -> None:
        for start in range(i * 200, (i + 1) * 200, 20):
            index.add(rows[start : start + 20], np.arange(start, start + 20), threads=1)
            index.remove(range(start, start + 5))

    at_once(THREADS, work)
    expected = {id for id in range(1600) if id % 20 >= 5}
    assert set(index) == expected
    assert index.check()._replace(unreachable=0).ok
    assert_held(index, sorted(expected), rows[sorted(expected)])


def test_numbered_ids_are_given_once(rng: np.random.Generator) -> None:
    rows = clustered(rng, 50, 4)
    index = edgevec.Index(4, "l2")
    given = at_once(THREADS, lambda i: [index.add(rows).tolist() for _ in range(10)])
    ids = [id for of_thread in given for of_call in of_thread for id in of_call]
    assert sorted(ids) == list(range(50 * 10 * THREADS))


# ---- letting others run --------------------------------------------------------------------------------------------


def long_build(index: edgevec.Index, times: int) -> Callable[[], object]:
    rows = np.random.default_rng(0).standard_normal((5000 * times, 32))
    return lambda: index.add(rows, threads=1)


def long_search(index: edgevec.Index, times: int) -> Callable[[], object]:
    rows = np.random.default_rng(0).standard_normal((4000, 32))
    index.add(rows[:200])
    queries = np.repeat(rows, 5 * times, axis=0)
    return lambda: index.search(queries, 100, exact=True, threads=1)


@pytest.mark.parametrize("prepare", [long_build, long_search])
def test_python_goes_on_during_a_long_call(prepare: Callable[[edgevec.Index, int], Callable[[], object]]) -> None:
    """A thread that sleeps a millisecond at a time gets its turns, in a call that is long enough for them.

    Were the interpreter locked, it would get none however long the call is.
    """
    turns, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            time.sleep(0.001)
            turns[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        for times in (1, 2, 4, 8, 16, 32):
            call = prepare(edgevec.Index(32, "l2", quantization="sq8"), times)
            before = turns[0]
            call()
            if turns[0] - before >= 20:
                break
        else:
            pytest.fail("no call let another thread have twenty turns")
    finally:
        stop.set()
        counter.join()


# ---- stopping ------------------------------------------------------------------------------------------------------


def prepared(rng: np.random.Generator, quantization: Quantization) -> tuple[edgevec.Index, Callable[[], None]]:
    """An index, and a check that it answers as it does now."""
    rows = clustered(rng, 500, 24)
    index = edgevec.Index(24, "l2", quantization=quantization, ef_construction=40)
    index.add(rows, np.arange(500) * 3)
    index.remove([3, 6])
    held = [id for id in range(0, 1500, 3) if id not in (3, 6)]
    before = index.search(rows[:50], 10, exact=True)
    next_ids = itertools.count(1498)

    def same() -> None:
        assert sorted(index) == held
        after = index.search(rows[:50], 10, exact=True)
        np.testing.assert_array_equal(after.ids, before.ids)
        # what came may have taught the codes another center, to which vectors held in 24 bits are rounded anew
        np.testing.assert_allclose(after.distances, before.distances, rtol=1e-6, atol=1e-10)
        assert_held(index, held, rows[np.array(held) // 3])
        assert index.check()._replace(unreachable=0).ok
        walked = index.search(rows[:50], 10, ef=100)
        assert np.isin(walked.ids, held).all()
        numbered = index.add(rows[:1])  # goes on where it was
        assert numbered.tolist() == [next(next_ids)]
        index.remove(numbered)

    return index, same


@each_quantization
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("when", [1, 2])
def test_a_callback_that_says_stop(
    when: int, threads: int, quantization: Quantization, rng: np.random.Generator
) -> None:
    """At once, or in the middle; new vectors and replaced ones."""
    index, same = prepared(rng, quantization)
    more = clustered(rng, 6000, 24)
    for ids in (None, np.arange(6000)):
        calls: list[tuple[int, int]] = []

        def progress(done: int, total: int, calls: list[tuple[int, int]] = calls) -> bool:
            calls.append((done, total))
            return len(calls) < when

        with pytest.raises(edgevec.CancelledError, match="stopped"):
            index.add(more, ids, threads=threads, progress=progress)
        assert len(calls) == when
        assert all(0 <= done <= total == 6000 for done, total in calls)
        same()
        index.compact()
        same()


@each_quantization
def test_what_a_callback_raises_comes_out(quantization: Quantization, rng: np.random.Generator) -> None:
    index, same = prepared(rng, quantization)

    def progress(done: int, total: int) -> None:
        raise LookupError(f"{done} of {total}")

    for call in (
        lambda: index.add(clustered(rng, 400, 24), progress=progress),
        lambda: index.compact(progress=progress),
    ):
        with pytest.raises(LookupError, match=r"\d+ of \d+"):
            call()
        same()


def test_progress_counts_to_the_end(rng: np.random.Generator) -> None:
    index = edgevec.Index(24, "l2")
    for run in (
        lambda tell: index.add(clustered(rng, 3000, 24), progress=tell),
        lambda tell: index.compact(progress=tell),
    ):
        seen: list[tuple[int, int]] = []
        run(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen[-1] == (3000, 3000)
        assert seen == sorted(seen)


def test_only_false_stops(rng: np.random.Generator) -> None:
    """A callback that returns nothing, or 0, did not ask to stop."""
    index = edgevec.Index(24, "l2")
    for value in (None, 0, "", True):
        assert index.add(clustered(rng, 300, 24), progress=lambda done, total, value=value: value).size == 300
    with pytest.raises(edgevec.CancelledError):
        index.add(clustered(rng, 3, 24), progress=lambda done, total: False)


CTRL_C = """
    import signal, sys, numpy as np, edgevec
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has jobs in the background ignore it
    rows = np.random.default_rng(0).standard_normal((60_000, 64)).astype("f4")
    index = edgevec.Index(64, "l2", ef_construction=1000)  # no machine is through with 60,000 rows before the signal
    index.add(rows[:1000], threads=2)
    before = index.search(rows[:20], 5, exact=True)

    def tell(done, total):
        if done:
            print("within", flush=True)

    try:
        print("before", flush=True)
        {call}
    except KeyboardInterrupt:
        after = index.search(rows[:20], 5, exact=True)
        same = (after.ids == before.ids).all() and np.allclose(after.distances, before.distances, 1e-6, 1e-10)
        print("interrupted", len(index), same, index.check()._replace(unreachable=0).ok)
        index.add(rows[:100])
        print(len(index))
    else:
        print("ran to its end")
"""


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform == "win32", reason="a console event, not a signal, is what Ctrl-C is there")
@pytest.mark.parametrize(
    ("call", "moment"),
    [
        ("index.add(rows, threads=1, progress=tell)", "within"),
        ("index.add(rows, threads=2, progress=tell)", "within"),
        ("index.add(rows, threads=1)", "before"),
        ("index.add(rows, threads=2)", "before"),
        ("[index.search(rows, 100, exact=True, threads=1) for _ in range(100)]", "before"),
    ],
)
def test_ctrl_c_stops_a_long_call_and_leaves_the_index_as_it_was(call: str, moment: str) -> None:
    code = textwrap.dedent(CTRL_C).format(call=call)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.strip() == moment:
                break
        if moment == "before":
            time.sleep(0.3)  # until the call is under way: nothing goes wrong when it is not yet
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=HANG)
    said = [line for line in out.splitlines() if line not in ("before", "within")]
    assert said == ["interrupted 1000 True True", "1100"], err
