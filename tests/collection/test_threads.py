"""One writer and several readers, in threads and in another process: each sees whole batches and right answers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import HANG, HELPERS

import edgevec
from edgevec.collection import Collection

DIM = 8
PER_BATCH = 20


def write(made: Collection, batch: int) -> None:
    """Twenty records of this batch, whose vectors point the batch's way, in place of those before the last three."""
    rng = np.random.default_rng(batch)
    vectors = rng.standard_normal((PER_BATCH, DIM)).astype(np.float32)
    with made.batch():
        made.upsert(
            [f"{batch}-{n}" for n in range(PER_BATCH)],
            vectors,
            [{"batch": batch, "n": n} for n in range(PER_BATCH)],
            [f"batch{batch}"] * PER_BATCH,
        )
        made.delete(where="batch < ?", params=[batch - 3])


def look(made: Collection, rng: np.random.Generator) -> int:
    """What a reader may expect at any time; the newest batch that it saw."""
    query = rng.standard_normal(DIM).astype(np.float32)
    hits = made.search(query, 1000, ef=1000)
    batches = sorted({hit.metadata["batch"] for hit in hits})
    if not batches:
        return -1
    newest = batches[-1]
    assert batches == list(range(max(0, newest - 3), newest + 1))
    assert len(hits) == len(batches) * PER_BATCH
    assert sorted(hit.distance for hit in hits) == [hit.distance for hit in hits]
    hits = made.search(query, 5, where="n < 3")
    assert len(hits) in ((5,) if newest else (3, 5))
    assert all(hit.metadata["n"] < 3 for hit in hits)
    assert len(made.search(query, 100, text=f"batch{newest}", where={"batch": newest + 2})) in (0, PER_BATCH)
    count = made.count()
    assert count in (PER_BATCH, 2 * PER_BATCH, 3 * PER_BATCH, 4 * PER_BATCH)
    return newest


def run_all(jobs: list[Callable[[], None]]) -> None:
    """Each in a thread; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@pytest.mark.threads
@pytest.mark.parametrize("where", ["file", "memory"])
def test_one_writer_and_four_readers(where: str, tmp_path: Path) -> None:
    done = threading.Event()
    with edgevec.open(":memory:" if where == "memory" else tmp_path / "c.edgevec", DIM) as made:

        def writer() -> None:
            try:
                for batch in range(60):
                    write(made, batch)
                    if batch % 20 == 7:
                        made.checkpoint()
                    if batch == 30:
                        made.compact()
                        made.create_index("n")
            finally:
                done.set()

        def reader(seed: int) -> Callable[[], None]:
            def read() -> None:
                rng = np.random.default_rng(seed)
                newest = -1
                while not done.is_set():
                    seen = look(made, rng)
                    assert seen >= newest
                    newest = seen

            return read

        run_all([writer, *(reader(seed) for seed in range(4))])
        assert look(made, np.random.default_rng()) == 59
        assert made.check().ok


@pytest.mark.threads
def test_several_writing_threads_take_turns(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM, durability="fast") as made:

        def writer(name: str) -> Callable[[], None]:
            def work() -> None:
                for batch in range(10):
                    with made.batch():
                        made.upsert([f"{name}-{batch}"], np.eye(1, DIM), [{"who": name}])
                        assert made.count("who = ?", [name]) == batch + 1
                        assert f"{name}-{batch}" in {hit.id for hit in made.search(np.eye(1, DIM)[0], 1000)}

            return work

        run_all([writer(name) for name in "abcd"])
        assert len(made) == 40
        assert made.check().ok


@pytest.mark.threads
def test_others_do_not_see_an_open_batch(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        write(made, 0)
        with made.batch():
            write(made, 1)
            assert made.count() == 2 * PER_BATCH
            run_all([lambda: _assert_equal(made.count(), PER_BATCH)])
        run_all([lambda: _assert_equal(made.count(), 2 * PER_BATCH)])


def _assert_equal(a: Any, b: Any) -> None:
    assert a == b


READER = """
import sys
import numpy as np
import edgevec
from test_threads import look

rng, newest = np.random.default_rng(), -1
with edgevec.open(sys.argv[1], mode="r") as made:
    print("ready", flush=True)
    while newest < 59:
        seen = look(made, rng)
        assert seen >= newest, (seen, newest)
        newest = seen
    assert made.check().ok
    try:
        edgevec.open(sys.argv[1])
    except edgevec.LockedError:
        print("locked", flush=True)
"""


@pytest.mark.subprocess
def test_a_reader_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, DIM) as made:
        write(made, 0)
        command = [sys.executable, "-c", READER, str(path)]
        paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), str(Path(__file__).parent)])}
        with subprocess.Popen(command, env=paths, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            for batch in range(1, 60):
                write(made, batch)
                if batch % 10 == 7:
                    made.checkpoint()
            assert reader.stdout.read() == "locked\n"
        assert reader.returncode == 0


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads; the child only looks
def test_a_forked_process_gets_closed_error(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        write(made, 0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                made.upsert(["x"], np.eye(1, DIM))
            except edgevec.ClosedError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        write(made, 1)
        assert made.check().ok
