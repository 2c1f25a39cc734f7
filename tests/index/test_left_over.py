"""Killed processes lose nothing that was saved, and what they leave behind goes with the next save or load.

EDGEVEC_KILLS: how many processes are killed in each way; 15 by default.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import save_worker

import edgevec
from edgevec import Index
from edgevec.files import remove_left_over, replacing

fcntl = pytest.importorskip("fcntl", reason="left-over files are told by POSIX locks")
pytestmark = [
    pytest.mark.core,
    pytest.mark.subprocess,
    pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has one process"),
]

KILLS = int(os.environ.get("EDGEVEC_KILLS", "15"))
ROWS = 4000


def temporaries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".edgevec"))


@contextmanager
def workers(how: str, rows: int = ROWS) -> Iterator[Callable[[Path], tuple[int, Any]]]:
    """Starts a worker for a path; returns its process's number and where it tells of complete files."""
    command = [sys.executable, save_worker.__file__, how, str(rows)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as server:  # type: ignore[call-overload]
        assert server.stdin
        assert server.stdout

        def start(path: Path) -> tuple[int, Any]:
            assert server.stdin
            assert server.stdout
            print(path, file=server.stdin, flush=True)
            word, pid = server.stdout.readline().split()
            assert word == "pid"
            return int(pid), server.stdout

        try:
            yield start
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # workers too, where a test has failed before it killed them


def kill(pid: int) -> None:
    """Kill a worker and wait until it is gone: it holds its locks until then, and a signal is only the beginning."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.002)
    pytest.fail(f"the process {pid} is still there a minute after it was killed")


def kill_while_it_writes(pid: int, told: Any, rng: np.random.Generator) -> int:
    """Returns the number of the last file that was told to be complete."""
    last = int(told.readline())
    time.sleep(float(rng.random()) * 0.02)
    kill(pid)
    os.set_blocking(told.fileno(), False)  # the pipe stays open: what the worker had told is in it, and no more comes
    try:
        while line := told.readline():
            last = int(line)
        return last
    finally:
        os.set_blocking(told.fileno(), True)


def test_killed_saves_lose_nothing_and_leave_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    path, left = tmp_path / "index", 0
    with workers("save") as start:
        for i in range(KILLS):
            last = kill_while_it_writes(*start(path), rng)
            left += len(temporaries(tmp_path))
            assert len(temporaries(tmp_path)) <= 1
            index = Index.load(path, mmap=bool(i % 2))
            assert temporaries(tmp_path) == []  # loading has removed it
            assert index.ef in (1 + last % 1000, 1 + (last + 1) % 1000)
            assert len(index) == ROWS
            assert i % 5 or index.check().ok
    print(f"{left} of {KILLS} were killed in the middle of a file")
    assert left or KILLS < 100


def test_a_save_removes_what_a_killed_one_left(tmp_path: Path, rng: np.random.Generator) -> None:
    path, left = tmp_path / "index", 0
    index = save_worker.make_index(100)
    with workers("save") as start:
        for _ in range(KILLS):
            kill_while_it_writes(*start(path), rng)
            left += len(temporaries(tmp_path))
            index.save(path)
            assert temporaries(tmp_path) == []
    print(f"{left} of {KILLS} were killed in the middle of a file")
    assert left or KILLS < 100


def test_killed_exports_lose_nothing_and_leave_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    path, left, rows = tmp_path / "text.jsonl", 0, 50_000
    with workers("replace", rows) as start:
        for _ in range(KILLS):
            last = kill_while_it_writes(*start(path), rng)
            left += len(temporaries(tmp_path))
            assert path.read_text() in (save_worker.text_of(last, rows), save_worker.text_of(last + 1, rows))
            with replacing(path) as new:
                assert temporaries(tmp_path) == [new.name]
                new.write_text("whole")
            assert temporaries(tmp_path) == []
    print(f"{left} of {KILLS} were killed in the middle of a file")
    assert left or KILLS < 100


def test_living_writers_keep_their_files(tmp_path: Path, rng: np.random.Generator) -> None:
    """Two processes and this one save to one path at once, in both ways."""
    path, index = tmp_path / "index", save_worker.make_index(200)
    with workers("save") as start, workers("save") as start_other:
        running = [start(path), start_other(path)]
        for _ in range(20):
            index.save(path)
            Index.load(path)
            with replacing(tmp_path / "other") as new:
                new.write_text("whole")
            remove_left_over(tmp_path)
        for pid, told in running:
            # a save whose file had been removed would have ended its process
            assert int(told.readline()) == 0
            assert int(told.readline()) == 1
            os.kill(pid, 0)
            kill(pid)
    Index.load(path)
    assert temporaries(tmp_path) == []


def test_only_what_is_ours_and_of_the_dead_is_removed(tmp_path: Path) -> None:
    ours = tmp_path / ".edgevec-new-0123456789abcdef"
    others = [".edgevec-new-", ".edgevec-new-0123", ".edgevec-0123456789abcdef", "edgevec-new-0123456789abcdef"]
    for name in others:
        (tmp_path / name).write_text("of somebody else")
    (tmp_path / ".edgevec-new-00000000000000ff").mkdir()
    (tmp_path / ".edgevec-new-00000000000000fe").symlink_to(tmp_path / others[0])
    os.mkfifo(tmp_path / ".edgevec-new-00000000000000fd")
    index, path = save_worker.make_index(10), tmp_path / "index"
    for remove in (lambda: index.save(path), lambda: Index.load(path), lambda: remove_left_over(tmp_path)):
        ours.write_text("left over")
        before = set(temporaries(tmp_path))
        with ours.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            remove()
            assert set(temporaries(tmp_path)) == before  # its writer lives
        remove()
        assert set(temporaries(tmp_path)) == before - {ours.name}


def test_a_file_is_loaded_whatever_its_name_is(tmp_path: Path) -> None:
    path = tmp_path / ".edgevec-new-0123456789abcdef"
    save_worker.make_index(10).save(tmp_path / "index")
    (tmp_path / "index").rename(path)
    assert len(Index.load(path)) == 10
    assert path.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_what_may_not_be_removed_stays(tmp_path: Path) -> None:
    save_worker.make_index(10).save(tmp_path / "index")
    (tmp_path / ".edgevec-new-0123456789abcdef").write_text("left over")
    tmp_path.chmod(0o500)
    try:
        assert len(Index.load(tmp_path / "index")) == 10
        assert temporaries(tmp_path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.threads
def test_threads_of_one_process_keep_their_files(tmp_path: Path) -> None:
    path, failed = tmp_path / "index", []

    def save() -> None:
        index = save_worker.make_index(300)
        for _ in range(30):
            try:
                index.save(path)
            except edgevec.EdgevecError as error:
                failed.append(error)

    savers = [threading.Thread(target=save) for _ in range(4)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert not failed
    assert temporaries(tmp_path) == []
