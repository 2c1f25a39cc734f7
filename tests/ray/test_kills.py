"""Workers and nodes that are killed at random moments of builds, searches and changes: nothing lost, nothing wrong.

EDGEVEC_KILLS says how many runs there are. In each, threads ask a service all the time, and every answer must be right
for a state that the index may have had just then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
from oracle import assert_right, assert_valid, recall
from ray_cluster import Background, Killing, LocalCluster
from support import HANG, wait_until

import edgevec
import edgevec.ray
from edgevec import Index, SearchResult, ShardedIndex

pytestmark = pytest.mark.filterwarnings("default")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see this file

RUNS = int(os.environ.get("EDGEVEC_KILLS", "6"))
PHASES = {"build": ("_build_shard", "build_here"), "search": ("_Holder",), "change": ("change",)}
"""And what the workers are about that are killed first of all."""
DIM, K = 32, 10
BUILD: dict[str, Any] = {"rows_per_shard": 500, "metric": "l2", "keep_vectors": "float32"}
PERIOD = 2.0
"""Seconds in which each moment is drawn. What is killed goes on until all is over, so there is always something."""
Held = dict[int, np.ndarray]


# ---- what an index may hold ------------------------------------------------------------------------------------------


def rows_of(seed: int, count: int) -> np.ndarray:
    """float32[count, DIM]"""
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


class History:
    """A file of changes, each of which is begun, and then done, or not where its process was killed before.

    Who asks sees what had been done before, and nothing that is begun after the answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, **entry: Any) -> None:
        """On a line of its own, also where the process before was killed in the midst of one."""
        opened = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(opened, f"\n{json.dumps(entry)}\n".encode())
        os.close(opened)

    def entries(self) -> list[dict[str, Any]]:
        """A line that is not there whole, yet or for good, says what has not been begun or has not ended."""
        found = []
        for line in self.path.read_text().split("\n")[:-1]:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def count(self, what: str) -> int:
        return sum(what in entry for entry in self.entries())

    def states(self) -> list[Held]:
        """Before all changes, and after each."""
        found: list[Held] = [{}]
        for entry in self.entries():
            if "begin" in entry:
                found.append(changed(found[-1], entry))
            elif entry["end"] == "not done":
                found[-1] = found[-2]
        return found

    def broken_off(self) -> int:
        """Changes that were not done."""
        return sum(entry.get("end") == "not done" for entry in self.entries())

    def settle(self, held: Held) -> None:
        """Find out of the last change, if its process was killed, whether it was done. Half of it is an error."""
        if self.count("begin") > self.count("end"):
            *_, before, after = self.states()
            done = same(held, after)
            assert done or same(held, before), "half of a change"
            self.note(end="done" if done else "not done")


def changed(held: Held, entry: dict[str, Any]) -> Held:
    ids = entry.get("ids", [])
    if entry["begin"] == "build":
        return dict(enumerate(rows_of(entry["seed"], entry["count"])))
    if entry["begin"] == "add":
        return {**held, **dict(zip(ids, rows_of(entry["seed"], len(ids)), strict=True))}
    return {id: row for id, row in held.items() if id not in set(ids)}


def same(held: Held, other: Held) -> bool:
    return held.keys() == other.keys() and all(np.array_equal(held[id], row) for id, row in other.items())


def content(folder: Path) -> Held:
    """What is in an index. All checksums are compared, and each id must be in one shard."""
    with ShardedIndex.open(folder) as index:
        ids = list(index)
        assert len(set(ids)) == len(ids) == len(index)
        index.check()
        return dict(zip(ids, index.get(ids), strict=True))


# ---- who asks --------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """ended: how many changes, before the question. begun: how many, after the answer."""

    ended: int
    begun: int
    query: np.ndarray
    exact: bool
    result: SearchResult

    def check(self, states: list[Held]) -> None:
        """It is right for one of the states that it may be of."""
        wrong: list[Exception] = []
        for held in states[self.ended : self.begun + 1]:
            try:
                (assert_right if self.exact else assert_valid)(self.result, "l2", held, self.query, K)
            except (AssertionError, KeyError) as error:
                wrong.append(error)
            else:
                return
        raise AssertionError(f"right for none of {len(wrong)} states: {wrong}")


class Asking:
    """Threads that ask a service, until they are stopped."""

    def __init__(self, search: Callable[..., SearchResult], history: History, seed: int) -> None:
        self._search, self._history = search, history
        self._stop = threading.Event()
        self._answers: list[Answer] = []
        self._threads = [Background(lambda n=n: self._ask([seed, n])) for n in range(3)]  # type: ignore[misc]

    def _ask(self, seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        while not self._stop.wait(0.02):
            query, exact = rng.standard_normal(DIM).astype(np.float32), bool(rng.integers(4))
            ended = self._history.count("end")
            result = self._search(query, K, exact=exact)
            self._answers.append(Answer(ended, self._history.count("begin"), query, exact, result))

    def end(self) -> list[Answer]:
        self._stop.set()
        for thread in self._threads:
            thread.end()
        return self._answers


# ---- what is done meanwhile ------------------------------------------------------------------------------------------


def in_worker(killing: Killing, task: Callable[..., None], *arguments: Any) -> None:
    """Run something in a worker, to its end or to that of the worker."""
    try:
        ray.get(ray.remote(task).options(num_cpus=0, max_retries=0, scheduling_strategy="SPREAD").remote(*arguments))
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        killing.wait()


def build_here(folder: Path, seed: int, count: int) -> None:
    edgevec.ray.build(rows_of(seed, count), folder, concurrency=3, cluster=seed % 2 == 1, **BUILD)


def build_all_the_time(folder: Path, history: History, seed: int, killing: Killing) -> None:
    """One build after the other at the same address, each of which replaces the last; some are begun in workers."""
    rng = np.random.default_rng(seed)
    while not killing.over.is_set():
        rows = {"seed": int(rng.integers(1 << 30)), "count": int(rng.integers(2000, 4001))}
        done = False
        while not done:  # what was broken off goes on
            history.note(begin="build", **rows)
            if rng.integers(2):
                in_worker(killing, build_here, folder, *rows.values())
            else:
                with suppress(edgevec.StorageError):  # a task was lost more often than it is run again
                    build_here(folder, *rows.values())
            history.settle(content(folder))
            done = history.entries()[-1]["end"] == "done"


def only_ask(folder: Path, history: History, seed: int, killing: Killing) -> None:
    assert killing.over.wait(HANG)


def change(folder: Path, history: History, seed: int) -> None:
    """Some changes, in a worker."""
    rng = np.random.default_rng(seed)
    with ShardedIndex.open(folder) as index:
        for _ in range(10):
            held = np.sort(np.fromiter(index, np.int64))
            what = rng.choice(["add", "add", "remove", "compact"])
            ids = rng.choice(held, 80, replace=False)
            if what == "add":
                ids = np.concatenate([ids, held.max() + 1 + np.arange(120)])
            noted, number = ids.tolist() if what != "compact" else [], int(rng.integers(1 << 30))
            history.note(begin=str(what), ids=noted, seed=number)
            if what == "add":
                index.add(rows_of(number, len(ids)), ids)
            elif what == "remove":
                assert index.remove(ids) == len(ids)
            else:
                index.compact()
            history.note(end="done")


def change_all_the_time(folder: Path, history: History, seed: int, killing: Killing) -> None:
    """In one worker after the other."""
    rng = np.random.default_rng(seed)
    over = False
    while not over:
        over = killing.over.is_set()
        in_worker(killing, change, folder, history, int(rng.integers(1 << 30)))
        history.settle(content(folder))


WORK = {"build": build_all_the_time, "search": only_ask, "change": change_all_the_time}


@pytest.fixture(scope="module")
def three_nodes(cluster: LocalCluster) -> Iterator[LocalCluster]:
    cluster.add_node()
    yield cluster
    cluster.remove_node()


@pytest.fixture(scope="module")
def service(three_nodes: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[edgevec.ray.Service]:
    folder = tmp_path_factory.mktemp("kills") / "s"
    ShardedIndex.build(rows_of(0, 3000), folder, **BUILD).close()
    # What the actors reserve leaves room for two builders wherever a node is gone.
    with edgevec.ray.serve(folder, replicas=2, actors=2, ray_remote_args={"num_cpus": 0.25}) as made:
        yield made


@pytest.mark.parametrize("run", range(RUNS))
def test_what_is_killed_costs_nothing(
    three_nodes: LocalCluster, service: edgevec.ray.Service, tmp_path: Path, run: int
) -> None:
    phase, first = list(PHASES)[run % 3], ("worker", "node")[run // 3 % 2]
    folder, history = Path(service._address), History(tmp_path / "history")
    history.note(begin="build", seed=run, count=3000)
    ShardedIndex.build(rows_of(run, 3000), folder, cluster=run % 2 == 1, **BUILD).close()
    history.note(end="done")
    before = service.stats
    asking = Asking(service.search, history, run)
    killing = Killing(three_nodes, np.random.default_rng([run, 1]), first, PHASES[phase], PERIOD)
    working = Background(lambda: WORK[phase](folder, history, run, killing))
    try:
        killing.run()
    finally:
        working.end()
        answers = asking.end()
    states, held = history.states(), content(folder)
    assert same(held, states[-1])
    for answer in answers:
        answer.check(states)
    assert_answers(service, held, rows_of(run + 1, 40))

    # Files that count for nothing are left, at most until the next compaction.
    wait_until(lambda: not any("_build_shard" in worker.does for worker in three_nodes.workers()), "a build goes on")
    with ShardedIndex.open(folder) as index:
        index.compact()
        left = {path.name for path in folder.iterdir()}
        assert left == index.manifest.files() | {"manifest.json", "manifest.json-lock"}
    asked = {name: now - then for name, now, then in zip(before._fields, service.stats, before, strict=True)}
    changes = f"{len(states) - 1} changes of which {history.broken_off()} not done"
    print(f"{phase}: {len(answers)} answers, {changes}; service: {asked}; killed: {killing.killed}")


def assert_answers(service: edgevec.ray.Service, held: Held, queries: np.ndarray) -> None:
    """Exact answers are those of NumPy, others about as good as those of one index."""
    ids, rows = np.array(sorted(held)), np.array([held[id] for id in sorted(held)])
    found, exact = service.search(queries, K), service.search(queries, K, exact=True)
    for one, query in enumerate(queries):
        assert_right(SearchResult(exact.ids[one], exact.distances[one]), "l2", held, query, K)
    with Index(DIM, "l2") as index:
        index.add(rows)
        of_one = recall("l2", rows, queries, index.search(queries, K).ids, K)
    assert recall("l2", rows, queries, np.searchsorted(ids, found.ids), K) > of_one - 0.02
