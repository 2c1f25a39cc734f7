"""The recall that was asked for is what new queries get; a search that excludes a vector finds what others are near."""

from __future__ import annotations

import functools
import logging
import pickle
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
from oracle import METRICS, Doubles, Ids, Rows, clustered, distances, each_metric, each_quantization
from sample_index import sample

import edgevec
from edgevec import Index, Metric, Quantization, calibration
from edgevec._native import NativeIndex

N, HELD_OUT = 6000, 600


class World(NamedTuple):
    """Real vectors of different lengths, so that the metrics differ: what is indexed, and queries like them."""

    rows: Rows
    queries: Rows


@functools.cache
def _world() -> World:
    rng = np.random.default_rng(5)
    rows = sample().vectors[rng.choice(len(sample()), N + HELD_OUT, replace=False)]
    rows = rows * np.exp(0.1 * rng.standard_normal((len(rows), 1))).astype(np.float32)
    return World(rows[:N], rows[N:])


@pytest.fixture(scope="module")
def world() -> World:
    return _world()


@pytest.fixture(scope="module")
def truths(world: World) -> dict[str, Doubles]:
    """By brute force, all distances under each metric."""
    return {metric: distances(metric, *world) for metric in METRICS}


def made(rows: Rows, metric: Metric = "cosine", quantization: Quantization = "sq8", **more: Any) -> edgevec.Index:
    index = edgevec.Index(rows.shape[1], metric, quantization=quantization, ef_construction=100, **more)
    index.add(rows, id_of(np.arange(len(rows))))
    return index


@functools.cache
def _pickled(metric: Metric, quantization: Quantization) -> bytes:
    return pickle.dumps(made(_world().rows, metric, quantization))


def whole(metric: Metric = "cosine", quantization: Quantization = "sq8") -> edgevec.Index:
    """An index of the whole world that nobody has asked anything yet: built once, and read anew each time."""
    index: edgevec.Index = pickle.loads(_pickled(metric, quantization))
    return index


def id_of(row: Any) -> Any:
    """Ids that are no rows. int64 too where NumPy's own integers are shorter."""
    return np.asarray(row, np.int64) * 3 - 50


def quality(truth: Doubles, ids: Ids, k: int) -> float:
    """Recall@k, where truth [q, n] holds the distances of all rows."""
    furthest = np.partition(truth, k - 1, axis=1)[:, k - 1 : k]
    rows = (ids + 50) // 3
    return float((np.take_along_axis(truth, rows, axis=1) <= furthest + 1e-6).mean())


def ef_of(index: edgevec.Index, query: Rows, k: int, **options: Any) -> int:
    """The candidates that such a search keeps; 0: all."""
    context = edgevec.SearchContext(index)
    index.search(query, k, context=context, **options)
    return context.stats.ef


# ---- what was asked for


@pytest.mark.quality
@each_metric
@each_quantization
def test_new_queries_get_the_recall_asked_for(
    world: World, truths: dict[str, Doubles], metric: Metric, quantization: Quantization
) -> None:
    index, truth = whole(metric, quantization), truths[metric]
    for k in (1, 10, 100):
        curve = index.calibrate(k)
        assert ef_of(index, world.queries[0], k, recall=0.95) == max(k, curve.ef_for(0.95) or 0)
        least = quality(truth, index.search(world.queries, k, ef=k).ids, k)
        for wanted in (0.9, 0.95, 0.99):
            got = quality(truth, index.search(world.queries, k, recall=wanted).ids, k)
            assert got >= wanted - 0.02, (k, wanted)
            assert got <= max(wanted, least) + 0.06, (k, wanted)  # a step of ef is much where ef is small


@pytest.mark.quality
@each_quantization
def test_the_error_is_small(world: World, truths: dict[str, Doubles], quantization: Quantization) -> None:
    """Where recall moves slowly with ef, so that rounding ef says nothing."""
    index = whole("l2", quantization)
    for wanted in (0.97, 0.98, 0.99):
        found = index.search(world.queries, 10, recall=wanted)
        assert quality(truths["l2"], found.ids, 10) == pytest.approx(wanted, abs=0.015)


@pytest.mark.quality
def test_excluding_the_query_itself_is_harder(world: World) -> None:
    """A walk that may lead through the vector asked for finds its neighbors at once, and would promise too much."""
    index = whole()
    ef = index.calibrate(10).ef_for(0.95)
    seen = index.search(world.rows[:HELD_OUT], 11, ef=ef).ids[:, 1:]
    truth = index.search(world.rows[:HELD_OUT], 11, exact=True).ids[:, 1:]
    assert edgevec.recall(seen, truth) > 0.97


@pytest.mark.quality
def test_queries_of_another_kind(world: World, rng: np.random.Generator) -> None:
    others = rng.standard_normal((2 * HELD_OUT, world.rows.shape[1])).astype(np.float32)
    index = whole()
    own = index.calibrate(10).ef_for(0.9)
    curve = index.calibrate(10, queries=others[:HELD_OUT])
    assert curve.samples == HELD_OUT
    assert (curve.ef_for(0.9) or N) > 2 * (own or 0)
    found = index.search(others[HELD_OUT:], 10, recall=0.9)
    truth = distances("cosine", world.rows, others[HELD_OUT:])
    assert quality(truth, found.ids, 10) == pytest.approx(0.9, abs=0.02)


@pytest.mark.quality
def test_a_large_batch_is_measured_with(world: World, rng: np.random.Generator) -> None:
    """Where it is harder than what is stored; one that is easier says nothing about others."""
    others = rng.standard_normal((HELD_OUT, world.rows.shape[1])).astype(np.float32)
    index = whole()
    own = ef_of(index, world.queries[0], 10, recall=0.9)
    index.search(world.rows[:HELD_OUT], 10, recall=0.9)
    assert ef_of(index, world.queries[0], 10, recall=0.9) == own
    index = whole()
    found = index.search(others, 10, recall=0.9)
    assert quality(distances("cosine", world.rows, others), found.ids, 10) == pytest.approx(0.9, abs=0.02)
    assert ef_of(index, world.queries[0], 10, recall=0.9) > own


def test_a_bad_row_is_named(world: World) -> None:
    index, queries = made(world.rows[:2000]), world.queries.copy()
    queries[333, 5] = np.nan
    with pytest.raises(edgevec.NotFiniteError, match="333"):
        index.search(queries, 10, recall=0.9)
    with pytest.raises(edgevec.NotFiniteError, match="333"):
        index.calibrate(10, queries=queries)
    queries[333] = 0
    with pytest.raises(edgevec.ZeroVectorError, match="333"):
        index.search(queries, 10, recall=0.9)


def test_many_copies_are_calibrated(rng: np.random.Generator) -> None:
    """A vector that has a copy is found by it, and that is what a new query that is a copy would be."""
    some = clustered(rng, 1000, 32)
    rows, queries = some[rng.integers(1000, size=N)], some[rng.integers(1000, size=200)]
    found = made(rows, "l2").search(queries, 10, recall=0.95)
    assert quality(distances("l2", rows, queries), found.ids, 10) >= 0.93


# ---- the edges


def test_asking_for_all_rows_gets_all(world: World) -> None:
    rows, queries = world
    index = made(rows[:3000])
    assert ef_of(index, queries[0], 10, recall=1.0) == 0
    assert ef_of(index, queries[0], 10, recall=0.5, exact=True) == 0
    np.testing.assert_array_equal(index.search(queries, 10, recall=1).ids, index.search(queries, 10, exact=True).ids)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 300])
def test_few_vectors_are_calibrated(n: int, rng: np.random.Generator) -> None:
    rows = clustered(rng, n, 16)
    index = made(rows, "l2")
    query = rng.standard_normal(16).astype(np.float32)
    for k in (1, 10, 1000):
        assert index.search(query, k, recall=0.95).ids.size == min(n, k)
        assert index.calibrate(k).samples <= n


def test_recall_holds_within_a_filter(world: World, rng: np.random.Generator) -> None:
    rows, queries = world
    index = made(rows)
    allowed = rng.choice(N, N // 2, replace=False)
    found = index.search(queries, 10, recall=0.95, filter=id_of(allowed))
    truth = np.full((HELD_OUT, N), np.inf)
    truth[:, allowed] = distances("cosine", rows[allowed], queries)
    assert quality(truth, found.ids, 10) >= 0.93


@pytest.mark.parametrize("wanted", [0, -0.1, 1.0001, float("nan"), "much", True, None])
def test_a_recall_lies_between_0_and_1(wanted: object) -> None:
    index = made(np.eye(4, dtype=np.float32))
    if wanted is None:
        assert index.search(np.ones(4), 1, recall=None).ids.size == 1
        return
    with pytest.raises(edgevec.ParameterError, match="recall"):
        index.search(np.ones(4), 1, recall=wanted)


def test_bad_calibrations_are_refused() -> None:
    index = made(np.eye(4, dtype=np.float32))
    with pytest.raises(edgevec.ParameterError, match="ef or recall"):
        index.search(np.ones(4), 1, ef=10, recall=0.9)
    with pytest.raises(edgevec.ParameterError, match="k must"):
        index.calibrate(0)
    with pytest.raises(edgevec.ParameterError, match="threads"):
        index.calibrate(1, threads=-1)
    with pytest.raises(edgevec.ParameterError, match="at least one"):
        index.calibrate(1, queries=np.empty((0, 4), np.float32))
    with pytest.raises(edgevec.ParameterError, match="dimensions"):
        index.calibrate(1, queries=np.ones((2, 5), np.float32))
    with pytest.raises(edgevec.NotFiniteError):
        index.calibrate(1, queries=np.full((2, 4), np.nan, np.float32))


@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_codes_alone_cannot_be_calibrated(world: World, quantization: Quantization) -> None:
    rows, queries = world
    index = made(rows[:2000], quantization=quantization, keep_vectors=False)
    for wanted in (0.9, 1.0):
        with pytest.raises(edgevec.RecallError, match="keep_vectors"):
            index.search(queries[0], 10, recall=wanted)
    with pytest.raises(ValueError, match="codes only"):
        index.calibrate()
    assert index.search(queries[0], 10, recall=0.9, exact=True).ids.size == 10


def test_what_no_walk_reaches_is_compared_with_everything(world: World) -> None:
    rows, queries = world
    index = made(rows)
    reached = float(index.calibrate(10).recall[-1])
    if reached < 1:
        assert ef_of(index, queries[0], 10, recall=(1 + reached) / 2) == 0
    assert ef_of(index, queries[0], 10, recall=reached) > 0


# ---- the curve


def test_a_curve_can_be_read(world: World) -> None:
    curve = whole().calibrate(5)
    assert curve.k == 5
    assert (np.diff(curve.ef) > 0).all()
    assert (np.diff(curve.recall) >= 0).all()
    assert curve.recall[-1] >= 0.99
    assert curve.seconds > 0
    lines = str(curve).splitlines()
    assert lines[0].startswith(f"recall@5 by ef, on {curve.samples:,} samples")
    assert len(lines) == 1 + len(curve.ef)


def test_between_what_was_measured() -> None:
    curve = calibration.Calibration(1, np.array([10, 40]), np.array([0.9, 0.99]), 1, 0.0)
    assert curve.ef_for(0.1) == 10
    assert curve.ef_for(0.9) == 10
    assert curve.ef_for(1 - 0.1 / np.sqrt(10)) == 20  # half way, by logarithms
    assert curve.ef_for(0.99) == 40
    assert curve.ef_for(0.991) is None


def test_the_same_content_gives_the_same(world: World) -> None:
    index = made(world.rows[:5000])
    first, again = index.calibrate(10), index.calibrate(10, threads=1)
    np.testing.assert_array_equal(first.ef, again.ef)
    np.testing.assert_array_equal(first.recall, again.recall)


def test_the_graph_is_as_it_was(world: World) -> None:
    rows, queries = world
    index = made(rows[:3000])
    before = index.search(queries, 10, ef=20, threads=1)
    index.calibrate(10)
    np.testing.assert_array_equal(index.search(queries, 10, ef=20, threads=1).ids, before.ids)
    assert index.check().ok


@pytest.mark.quality
def test_measured_anew_after_growth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = world
    made_of: list[int] = []
    measure = calibration._measure
    monkeypatch.setattr(
        calibration, "_measure", lambda index, *rest: (made_of.append(len(index)), measure(index, *rest))[1]
    )
    index = made(rows[:4000])

    def ask() -> list[int]:
        made_of.clear()
        index.search(queries[0], 10, recall=0.95)
        index.search(queries[0], 10, recall=0.8)
        return list(made_of)

    assert ask() == [4000]
    assert ask() == []
    index.add(rows[4000:4300], np.arange(100_000, 100_300))
    assert ask() == []
    index.remove(index.add(rows[4300:4401], np.arange(200_000, 200_101)))
    assert ask() == [4300]
    index.add(rows[:431], id_of(np.arange(431)))  # replaced
    assert ask() == [4300]


# ---- searches that exclude a vector


@each_metric
@each_quantization
def test_an_excluded_vector_is_as_if_it_were_not_there(
    metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    """By comparing with everything, and by a walk that is wide enough to find everything."""
    rows = clustered(rng, 1500, 24)
    rows[700:720] = rows[:20]  # copies stay
    index = made(rows, metric, quantization)
    index.remove(id_of(np.arange(40, 60)))
    if metric == "ip":
        index.compact()
    live = np.setdiff1d(np.arange(1500), np.arange(40, 60))
    ids = np.concatenate([live[:40], rng.choice(live, 60, replace=False)])
    sampled = calibration._Sample(index._native, 7, index.get(id_of(ids)), id_of(ids), 0)
    walked = sampled._distances(slice(None), ef=1400)
    compared = sampled._distances(slice(None), exact=True)
    for row, id in enumerate(ids):
        truth = np.sort(distances(metric, rows[np.setdiff1d(live, [id])], rows[id]))[:7]
        np.testing.assert_allclose(compared[row], truth, atol=2e-5, rtol=1e-5)
    assert (walked <= compared[:, -1:]).mean() > 0.995


def test_excluding_an_id_that_is_not_held_changes_nothing() -> None:
    rows = 2 * np.eye(4, dtype=np.float32)
    sampled = calibration._Sample(made(rows, "l2")._native, 1, rows[:2], np.array([-50, 17], np.int64), 0)
    assert sampled._distances(slice(None)) == pytest.approx(np.array([[8], [0]]), rel=1e-6)


# ---- threads


@pytest.mark.threads
def test_threads_measure_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = world
    index = made(rows[:5000])
    count: list[int] = []
    measure = calibration._measure
    monkeypatch.setattr(calibration, "_measure", lambda index, *rest: (count.append(1), measure(index, *rest))[1])
    efs: list[int] = []
    threads = [threading.Thread(target=lambda: efs.append(ef_of(index, queries[0], 10, recall=0.95))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 1
    assert len(efs) == 6
    assert len(set(efs)) == 1


@pytest.mark.threads
def test_recall_can_be_asked_for_beside_a_writer(world: World) -> None:
    """Vectors come and go while their neighbors are asked for."""
    rows, queries = world
    index = made(rows[:3000])
    done, failed = threading.Event(), []

    def write() -> None:
        while not done.is_set():
            index.remove(id_of(np.arange(1000)))
            index.add(rows[:1000], id_of(np.arange(1000)))

    def search() -> None:
        try:
            for _ in range(5):
                assert index.search(queries[:20], 10, recall=0.9).ids.min() >= -50
        except Exception as error:
            failed.append(error)

    writer, readers = threading.Thread(target=write), [threading.Thread(target=search) for _ in range(3)]
    for thread in (writer, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    done.set()
    writer.join()
    assert failed == []
    assert index.check().ok


def test_measuring_is_done_in_short_calls_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two calls of the core other threads have their turn, and Ctrl-C too."""
    index = Index(8, "l2", M=6, ef_construction=40)
    index.add(np.random.default_rng(0).standard_normal((2000, 8)))
    asked, search = [], NativeIndex.search

    def spied(
        self: NativeIndex, queries: Any, k: int, ef: int = 0, exact: bool = False, *rest: Any, **more: Any
    ) -> Any:
        asked.append((len(queries), exact))
        return search(self, queries, k, ef, exact, *rest, **more)

    monkeypatch.setattr(NativeIndex, "search", spied)
    with caplog.at_level(logging.INFO, logger="edgevec"):
        index.calibrate(5)
    assert max(count for count, exact in asked if exact) <= 16
    assert max(count for count, exact in asked) <= 256
    assert [record.getMessage()[:8] for record in caplog.records] == ["measurin", "measured"]


def test_a_calibration_that_is_stopped_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    index = Index(8, "l2", M=6, ef_construction=40)
    index.add(rng.standard_normal((2000, 8)))
    index.calibrate(5, queries=rng.standard_normal((50, 8)))
    before = dict(index._calibrator._entries)
    with monkeypatch.context() as patched:
        patched.setattr(calibration, "_measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        for queries in (None, rng.standard_normal((50, 8))):
            with pytest.raises(KeyboardInterrupt):
                index.calibrate(5, queries=queries)
    assert index._calibrator._entries == before
    index.calibrate(5)
    assert (5, "user") not in index._calibrator._entries


@pytest.mark.threads
def test_who_measures_for_one_k_holds_up_nobody_who_asks_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(8, "l2", M=6, ef_construction=40)
    index.add(np.random.default_rng(0).standard_normal((1000, 8)))
    began, go_on, measure = threading.Event(), threading.Event(), calibration._measure

    def waiting(native: NativeIndex, k: int, *rest: Any) -> Any:
        if k == 5:
            began.set()
            assert go_on.wait(60)
        return measure(native, k, *rest)

    monkeypatch.setattr(calibration, "_measure", waiting)
    thread = threading.Thread(target=lambda: index.search(np.ones(8), 5, recall=0.9))
    thread.start()
    assert began.wait(60)
    index.search(np.ones(8), 3, recall=0.9)
    index.add(np.ones(8))
    go_on.set()
    thread.join()
