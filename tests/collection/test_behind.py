"""Readers beside a writer: what the graph has yet to take in lies beside it, and answers are those of the records."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import distances, each_metric, each_quantization
from support import HANG, HELPERS, wait_until

import edgevec
from edgevec import Metric, Quantization
from edgevec.collection import Collection
from edgevec.collection import behind as behind_module
from edgevec.collection.following import Follower
from edgevec.staging import Stage

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
DIM = 12


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph follows when the test says so."""
    monkeypatch.setattr(Follower, "wake", lambda self: None)


def is_behind(reader: Collection) -> int:
    late = reader._store.graph.behind
    return 0 if late is None else len(late)


def wait_until_in_step(reader: Collection) -> None:
    wait_until(lambda: not is_behind(reader), "vectors stay beside the graph")


Model = dict[int, tuple[Any, int]]
"""id -> vector, and the number of the burst that wrote it."""


def burst(made: Collection, model: Model, rng: np.random.Generator, number: int, new: int = 12, old: int = 8) -> None:
    """New records, others replaced or deleted, in one to three batches."""
    known = rng.permutation(list(model))
    fresh = range(10_000 * number, 10_000 * number + new)
    for part in np.array_split(rng.permutation([*fresh, *known[:old].tolist()]), rng.integers(1, 4)):
        vectors = rng.standard_normal((len(part), DIM)).astype(np.float32)
        with made.batch():
            gone = [id for id in known[old : 2 * old].tolist() if rng.random() < 0.3 and id in model]
            made.upsert(part, vectors, [{"burst": number}] * len(part), [f"text burst{number}"] * len(part))
            made.delete(gone)
        model.update({id: (vector, number) for id, vector in zip(part.tolist(), vectors, strict=True)})
        for id in gone:
            del model[id]


def assert_answers(reader: Collection, model: Model, metric: str, rng: np.random.Generator, k: int = 10) -> None:
    """Exact searches are exact, the graph finds almost all, and what is shown is of the model."""
    for exact, first in ((True, 0), (True, 2), (False, 0), (False, 2)):
        among = {id: vector for id, (vector, number) in model.items() if number >= first}
        query = rng.standard_normal(DIM).astype(np.float32)
        where = {"burst": {"$gte": first}} if first else None
        hits = reader.search(query, k, where=where, exact=exact, ef=None if exact else 200)
        ids = np.array(list(among))
        true = distances(metric, np.array(list(among.values())), query) if among else np.empty(0)
        assert len(hits) == min(k, len(among))
        assert len({hit.id for hit in hits}) == len(hits)
        at = {id: place for place, id in enumerate(ids.tolist())}
        found = [true[at[hit.id]] for hit in hits]
        np.testing.assert_allclose([hit.distance for hit in hits], found, rtol=2e-4, atol=2e-4)
        assert all(hit.metadata == {"burst": model[hit.id][1]} for hit in hits)
        assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
        nearest = np.sort(true)[:k]
        if exact:
            np.testing.assert_allclose(found, nearest, rtol=2e-4, atol=2e-4)
        elif among:
            assert np.mean(np.isclose(found, nearest, rtol=2e-4, atol=2e-4)) >= 0.9
    for include in ((), ("metadata",)):
        assert sorted(hit.id for hit in reader.search(query, len(model) + 5, include=include)) == sorted(model)
    number = max(number for _, number in model.values())
    named = {id for id, (_, of) in model.items() if of == number}
    hits = reader.search(query, len(model), text=f"burst{number}", weights=(0.5, 1))
    assert named <= {hit.id for hit in hits}
    for hit in hits:
        np.testing.assert_allclose(
            hit.distance, distances(metric, model[hit.id][0][None], query)[0], rtol=2e-4, atol=2e-4
        )


@each_metric
@each_quantization
def test_answers_are_those_of_the_records(
    metric: Metric, quantization: Quantization, tmp_path: Path, rng: np.random.Generator, by_hand: None
) -> None:
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, metric, quantization=quantization, durability="fast") as made:
        burst(made, model, rng, 1, new=300)
        made.checkpoint()
        with edgevec.open(path, mode="r") as reader:
            most = 0
            for number in range(2, 12):
                burst(made, model, rng, number)
                assert_answers(reader, model, metric, rng)
                most = max(most, is_behind(reader))
                reader._store._follow(int(rng.integers(0, 25)))
                assert_answers(reader, model, metric, rng)
            assert most > 50
            assert reader.check().ok
            assert not is_behind(reader)
            assert_answers(reader, model, metric, rng)


def test_the_graph_itself_is_left_alone_by_a_search(tmp_path: Path, rng: np.random.Generator, by_hand: None) -> None:
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, durability="fast") as made, edgevec.open(path, mode="r") as reader:
        burst(made, model, rng, 1, new=300)
        reader.refresh()
        graph = reader._store.graph
        assert graph.index is not None
        before = len(graph.index)
        made.upsert(range(5000, 5100), rng.standard_normal((100, DIM)))
        assert len(reader.search(np.ones(DIM), 500)) == before + 100
        assert (len(graph.index), is_behind(reader)) == (before, 100)
        assert reader._store._follow(30) == 70
        assert (len(graph.index), is_behind(reader)) == (before + 30, 70)
        assert reader.stats()["memory_bytes"] > graph.index.memory_usage()["total"]
        with edgevec.open(path, mode="r") as later:
            assert later._store.graph.behind is not None or len(later) == before + 100
        made.delete(range(5000, 5100))
        assert len(reader.search(np.ones(DIM), 500)) == before
        assert (len(graph.index), is_behind(reader)) == (before, 0)
        made.upsert([5000], np.ones((1, DIM)))
        assert [hit.id for hit in reader.search(np.ones(DIM), 1)] == [5000]
        reader.refresh()
        assert (len(graph.index), is_behind(reader)) == (before + 1, 0)


def test_what_is_too_much_is_inserted_at_once(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, by_hand: None
) -> None:
    monkeypatch.setattr(behind_module, "_MAX_ROWS", 50)
    monkeypatch.setattr(behind_module, "_ROWS_PER_PART", 7)
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, durability="fast") as made, edgevec.open(path, mode="r") as reader:
        burst(made, model, rng, 1, new=300)
        counts = []
        for number in range(2, 12):
            burst(made, model, rng, number)
            assert_answers(reader, model, "cosine", rng)
            counts.append(is_behind(reader))
        assert 0 in counts[1:]
        assert 0 < max(counts) <= 50


def test_much_for_a_small_graph_lies_beside_it(tmp_path: Path, rng: np.random.Generator, by_hand: None) -> None:
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, durability="fast") as made:
        burst(made, model, rng, 1, new=40)
        with edgevec.open(path, mode="r") as reader:
            assert_answers(reader, model, "cosine", rng)
            assert is_behind(reader) == 0
            burst(made, model, rng, 2, new=200, old=0)
            assert_answers(reader, model, "cosine", rng)
            assert is_behind(reader) == 200
            burst(made, model, rng, 3, new=400, old=0)
            assert_answers(reader, model, "cosine", rng)
            assert is_behind(reader) == 0


def test_a_failure_leaves_no_row_twice_nor_lost(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, by_hand: None
) -> None:
    """Whichever step fails, the next search answers as if nothing had happened."""
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, "l2", durability="fast") as made, edgevec.open(path, mode="r") as reader:
        burst(made, model, rng, 1, new=300)
        reader.refresh()
        steps = [
            (edgevec.Index, "add"),
            (edgevec.Index, "remove"),
            (Stage, "add"),
            (Stage, "commit"),
            (Stage, "settle"),
        ]
        for number, (kind, name) in enumerate(steps * 4, 2):
            burst(made, model, rng, number)
            calls, worse = iter(range(100)), (number - 2) // len(steps)
            real = getattr(kind, name)

            def failing(
                self: Any, *arguments: Any, real: Any = real, calls: Any = calls, worse: int = worse, **how: Any
            ) -> Any:
                done = real(self, *arguments, **how)
                if next(calls) >= worse:
                    raise MemoryError("no more")
                return done

            with monkeypatch.context() as patched:
                patched.setattr(kind, name, failing)
                for step in (lambda: reader.search(np.ones(DIM)), lambda: reader._store._follow(9)):
                    with suppress(MemoryError):
                        step()
            assert_answers(reader, model, "l2", rng)
        assert reader.check().ok


@pytest.mark.threads
def test_the_graph_follows_beside_searches(tmp_path: Path, rng: np.random.Generator) -> None:
    """Several threads search while a writer writes and the graph follows; each hit is what its own metadata say."""
    path = tmp_path / "c.edgevec"

    def vector(id: int, version: int) -> Any:
        return np.random.default_rng([id, version]).standard_normal(DIM).astype(np.float32)

    def write(made: Collection, ids: Iterator[int] | range, version: int) -> None:
        wanted = list(ids)
        made.upsert(wanted, [vector(id, version) for id in wanted], [{"version": version}] * len(wanted))

    with edgevec.open(path, DIM, "l2", durability="fast") as made, edgevec.open(path, mode="r") as reader:
        write(made, range(400), 0)
        reader.refresh()
        done, errors, most = threading.Event(), [], [0]

        def search(seed: int) -> None:
            own = np.random.default_rng(seed)
            try:
                while not done.is_set():
                    query = own.standard_normal(DIM).astype(np.float32)
                    hits = reader.search(query, 2000, exact=bool(own.integers(2)))
                    versions = [hit.metadata["version"] for hit in hits]
                    assert len({hit.id for hit in hits}) == len(hits) == 400 + 20 * max(versions)
                    for hit in hits[:5]:
                        right = np.square(vector(int(hit.id), hit.metadata["version"]) - query).sum()
                        assert abs(hit.distance - right) < 1e-3
                    most[0] = max(most[0], is_behind(reader))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            for version in range(1, 60):
                with made.batch():
                    write(made, range(380 + 20 * version, 400 + 20 * version), version)
                    write(made, rng.permutation(400)[:30].tolist(), version)
        finally:
            done.set()
        for thread in threads:
            thread.join(HANG)
        assert not errors, errors[0]
        assert most[0]
        reader.search(np.ones(DIM))
        wait_until_in_step(reader)
        assert reader.check().ok


@pytest.mark.threads
def test_the_thread_ends_when_there_is_nothing_left(tmp_path: Path, rng: np.random.Generator) -> None:
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, durability="fast") as made, edgevec.open(path, mode="r") as reader:
        burst(made, model, rng, 1, new=300)
        reader.refresh()
        for number in range(2, 5):
            burst(made, model, rng, number)
            assert_answers(reader, model, "cosine", rng)
            wait_until_in_step(reader)
            wait_until(lambda: not reader._store.follower._running.locked(), "the follower goes on")
        assert reader._store.graph.index is not None
        assert len(reader._store.graph.index) == len(model)


@pytest.mark.threads
def test_closing_ends_it(tmp_path: Path, rng: np.random.Generator) -> None:
    path, model = tmp_path / "c.edgevec", {}
    with edgevec.open(path, DIM, durability="fast") as made:
        burst(made, model, rng, 1, new=3000)
        for number in range(2, 6):
            reader = edgevec.open(path, mode="r")
            burst(made, model, rng, number, new=300)
            reader.search(np.ones(DIM))
            follower = reader._store.follower
            reader.close()
            assert not follower._running.locked()
            follower.wake()
            assert not follower._running.locked()


LEFT_OPEN = """
import sys
import numpy as np
import edgevec

reader = edgevec.open(sys.argv[1], mode="r")
with edgevec.open(sys.argv[1]) as made:
    made.upsert(range(5000, 5800), np.random.default_rng(0).standard_normal((800, 12)))
print(len(reader.search(np.ones(12), 10_000)), flush=True)
while reader._store.graph.behind is not None and not reader._store.follower._running.locked():
    pass
if sys.argv[2] == "forks":
    import os
    if not os.fork():
        sys.exit(0)
    assert os.wait()[1] == 0
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "how",
    [
        "ends",
        pytest.param("forks", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")),
    ],
)
def test_a_program_that_leaves_it_open_ends_in_silence(how: str, tmp_path: Path, rng: np.random.Generator) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        made.upsert(range(1000), rng.standard_normal((1000, DIM)))
    command = [sys.executable, "-W", "ignore", "-c", LEFT_OPEN, os.fspath(tmp_path / "c.edgevec"), how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "1800\n")


WRITER = """
import sys
import numpy as np
import edgevec
from test_behind import burst

rng, model = np.random.default_rng(3), {}
with edgevec.open(sys.argv[1], 12, "ip", durability="fast") as made:
    burst(made, model, rng, 1, new=300)
    for number in range(2, 16):
        print("written", flush=True)
        sys.stdin.readline()
        burst(made, model, rng, number, new=30)
    print("ended", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.subprocess
def test_a_writer_in_another_process(tmp_path: Path) -> None:
    """It writes what a generator with this seed makes; the reader knows what there is after each burst."""
    rng, model, asked = np.random.default_rng(3), {}, np.random.default_rng(4)
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "c.edgevec")]
    with (
        edgevec.open(tmp_path / "twin.edgevec", DIM, "ip", durability="fast") as twin,
        subprocess.Popen(command, env=paths, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer,
    ):
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "written\n"
        burst(twin, model, rng, 1, new=300)
        with edgevec.open(tmp_path / "c.edgevec", mode="r") as reader:
            for number in range(2, 16):
                assert_answers(reader, model, "ip", asked)
                writer.stdin.write("\n")
                writer.stdin.flush()
                burst(twin, model, rng, number, new=30)
                assert writer.stdout.readline() == ("written\n" if number < 15 else "ended\n")
            assert_answers(reader, model, "ip", asked)
            assert reader.check().ok
        writer.communicate("\n")
    assert writer.returncode == 0
