"""A replica that is late, since its process is stopped: another one answers in its place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import ray
from oracle import assert_right
from ray_cluster import Background
from support import HANG, wait_until

import edgevec
import edgevec.ray
from edgevec import SearchResult, ShardedIndex
from edgevec.ray.asking import _Actor, _Question
from edgevec.ray.hedging import Delays
from edgevec.ray.serving import _Holder

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("default")]

ROWS, DIM, K = 600, 8, 5


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture
def folder(rows: np.ndarray, tmp_path: Path) -> Path:
    ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=150, metric="l2", keep_vectors="float32").close()
    return tmp_path / "s"


@contextmanager
def stopped(service: edgevec.ray.Service, replica: int, part: int) -> Iterator[None]:
    pid = ray.get(service._replicas.actor(replica, part).handle.pid.remote(), timeout=HANG)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # replaced
            os.kill(pid, signal.SIGCONT)


def test_who_is_stopped_is_not_waited_for(rows: np.ndarray, folder: Path) -> None:
    found: list[SearchResult] = []
    with edgevec.ray.serve(folder, replicas=2, actors=2, hedge=0.5) as service:
        for query in rows[:20]:
            service.search(query, K, exact=True)
        # None owes an answer, and the one that is stopped is next.
        wait_until(lambda: {service._replicas._next() for _ in range(4)} == {0, 1}, "a replica owes answers")
        wait_until(lambda: service._replicas._next() == 1, "replicas take no turns")
        before = service.stats
        with stopped(service, 0, 1):
            asked = Background(lambda: found.extend(service.search(query, K, exact=True) for query in rows[:10]))
            asked.end()
            after = service.stats
            assert after.asked - before.asked == 20
            assert after.won > before.won
            assert after.replaced == 0
            # It owes answers, and is asked last until it has given them.
            service._replicas._late[1].clear()
            assert {service._replicas._next() for _ in range(4)} == {1}
        wait_until(lambda: {service._replicas._next() for _ in range(4)} == {0, 1}, "it is asked no more")
    for result, query in zip(found, rows[:10], strict=True):
        assert_right(result, "l2", (range(ROWS), rows), query, K)


def test_all_parts_that_are_late_are_asked_elsewhere(rows: np.ndarray, folder: Path) -> None:
    found: list[SearchResult] = []
    with edgevec.ray.serve(folder, replicas=2, actors=2, hedge=0.5) as service:
        for query in rows[:20]:
            service.search(query, K, exact=True)
        with stopped(service, 0, 0), stopped(service, 1, 1):  # neither replica can answer alone
            Background(lambda: found.append(service.search(rows[0], K, exact=True))).end()
    assert_right(found[0], "l2", (range(ROWS), rows), rows[0], K)


def test_none_is_asked_twice_without_hedging(rows: np.ndarray, folder: Path) -> None:
    for options in ({"replicas": 1, "hedge": 0.01}, {"replicas": 2, "hedge": None}):
        with edgevec.ray.serve(folder, actors=2, **options) as service:
            for query in rows[:30]:
                service.search(query, K)
            assert service.stats == edgevec.ray.ServiceStats(asked=60)


def test_an_actor_that_cannot_be_replaced_is_not_waited_for(
    rows: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node has what it would need."""
    found: list[SearchResult] = []
    with edgevec.ray.serve(folder, replicas=2, actors=1, hedge=0.5) as service:
        for query in rows[:20]:
            service.search(query, K, exact=True)

        monkeypatch.setattr(service, "_kind", ray.remote(_Holder).options(num_cpus=1000))
        os.kill(ray.get(service._replicas.actor(0, 0).handle.pid.remote(), timeout=HANG), signal.SIGKILL)
        Background(lambda: found.extend(service.search(query, K, exact=True) for query in rows[:10])).end()
        assert service.stats.replaced == 1
    for result, query in zip(found, rows[:10], strict=True):
        assert_right(result, "l2", (range(ROWS), rows), query, K)


def test_who_hangs_is_replaced(rows: np.ndarray, folder: Path) -> None:
    """With one replica, which is asked again, as with two, where the other has answered meanwhile."""
    found: list[SearchResult] = []
    for replicas in (1, 2):
        with edgevec.ray.serve(folder, replicas=replicas, actors=2, hedge=0.5, timeout=3) as service:

            def search(service: edgevec.ray.Service = service) -> None:
                found.append(service.search(rows[0], K, exact=True))

            for _ in range(20):
                search()
            hung = service._replicas.actor(0, 1)
            with stopped(service, 0, 1):
                while service._replicas.actor(0, 1) == hung:
                    Background(search).end()
                Background(search).end()
            assert service.stats.replaced
    for result in found:
        assert_right(result, "l2", (range(ROWS), rows), rows[0], K)


def test_a_long_queue_is_no_hanging() -> None:
    """Who answers others in the meantime is not replaced, however long one question waits; nor who has yet to start."""
    actor = _Actor(None)
    question = _Question(0, 0, actor, hedge=False, start=0.0)
    assert question.waited() == 0
    actor.heard = 0.0
    assert question.waited() > 0
    actor.heard = time.perf_counter() + HANG
    assert question.waited() < 0
    actor.heard, question.over = 0.0, True
    assert question.waited() == 0


@pytest.mark.parametrize("timeout", [0, -1, "soon", True, float("nan"), float("inf")])
def test_a_timeout_is_a_number_of_seconds(folder: Path, timeout: object) -> None:
    with pytest.raises(edgevec.ParameterError, match="timeout"):
        edgevec.ray.serve(folder, timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("hedge", [0, 1, -0.5, "often", True, float("nan")])
def test_a_share_is_between_0_and_1(folder: Path, hedge: object) -> None:
    with pytest.raises(edgevec.ParameterError, match="hedge"):
        edgevec.ray.serve(folder, replicas=2, hedge=hedge)  # type: ignore[arg-type]


def test_a_delay_is_that_of_the_share_and_of_the_kind(rng: np.random.Generator) -> None:
    delays = Delays(0.95)
    for seconds in rng.permutation(np.arange(1.0, 20.0)):
        delays.note("small", float(seconds))
        assert delays.of("small") is None
    delays.note("small", 20.0)
    assert delays.of("small") == pytest.approx(np.quantile(np.arange(1, 21), 0.95))
    assert delays.of("large") is None
    for _ in range(5000):
        delays.note("small", 100.0)
    assert delays.of("small") == 100.0
    for kind in range(500):  # kinds that are asked no more are forgotten
        delays.note(kind, 1.0)
    assert delays.of("small") is None
