"""A Ray cluster whose nodes are processes of this machine, and what can happen to them and to their workers."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.cluster_utils import Cluster
from support import HANG, wait_until


class Worker(NamedTuple):
    pid: int
    does: str


class LocalCluster:
    """A head, to which this process is connected, and nodes."""

    def __init__(self, nodes: int) -> None:
        # Short, as sockets lie in it. What Ray would take of the memory for objects may be more than a small machine
        # has. That a node is dead is to be known soon, and not to be thought of one that is slow.
        self._scratch = tempfile.mkdtemp(prefix="ev-ray-")
        self._options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 << 20}
        config = {
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 60_000,
            "enable_worker_prestart": False,  # most would have nothing to do
            "prestart_worker_first_driver": False,
        }
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={**self._options, "temp_dir": self._scratch, "_system_config": config},
        )
        for _ in range(nodes):
            self.add_node()
        ray.init(address=self._cluster.address, log_to_driver=False)

    def close(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()
        for pid in processes_of(self._scratch):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
        shutil.rmtree(self._scratch)

    def add_node(self) -> None:
        """Ray gives up on a node that is not there after 30 seconds, as on a busy machine; here it is tried again."""
        for turn in range(10):
            try:
                self._cluster.add_node(wait=False, **self._options)  # it returns once the head knows it
                return
            except Exception as error:
                if turn == 9 or "timed out during startup" not in str(error):
                    raise

    def remove_node(self) -> None:
        self._cluster.remove_node(next(iter(self._cluster.worker_nodes)))

    def workers(self, node: Any = None) -> list[Worker]:
        """Those of one node, or of all, and what they do."""
        nodes = [self._cluster.head_node, *self._cluster.worker_nodes] if node is None else [node]
        raylets = {each.all_processes["raylet"][0].process.pid for each in nodes}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                title = (process / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace").strip()
                if parent in raylets and title.startswith("ray::"):
                    found.append(Worker(int(process.name), title.removeprefix("ray::")))
        return found

    def busy(self, node: Any = None) -> list[Worker]:
        """Those that have something to do."""
        idle = ("IDLE", "DashboardAgent", "RuntimeEnvAgent")  # a node ends with its agents
        return [worker for worker in self.workers(node) if not worker.does.startswith(idle)]

    def kill_worker(self, rng: np.random.Generator, does: tuple[str, ...] = ("",)) -> str:
        """Kill one that does something of this kind, and say what that was."""
        found: list[Worker] = []

        def busy() -> bool:
            found[:] = sorted(worker for worker in self.busy() if worker.does.startswith(does))
            return bool(found)

        wait_until(busy, "no worker has anything to do", pause=0.02)
        worker = found[rng.integers(len(found))]
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        wait_for_end(worker.pid)
        return worker.does

    def kill_node(self, rng: np.random.Generator) -> str:
        """Kill one that is not the head, say what it did, and put another one in its place."""
        nodes = list(self._cluster.worker_nodes)
        node = nodes[rng.integers(len(nodes))]
        workers = self.workers(node)
        self._cluster.remove_node(node, allow_graceful=False)
        for worker in workers:  # they notice it, and end
            wait_for_end(worker.pid)
        self.add_node()
        return f"a node ({', '.join(worker.does for worker in workers)})"


def wait_for_end(pid: int) -> None:
    """The process is gone, or nobody has asked yet how it ended."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(ended, f"process {pid} goes on")


def processes_of(scratch: str) -> list[int]:
    """Those whose command lines name a folder, where the system tells them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if scratch.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


class Killing:
    """Kills workers and nodes at random moments, by the main thread: Ray starts nodes in no other.

    Args:
        first: "worker" or "node"; what comes after it is drawn
        does: what workers are about that are killed first of all; of others some are, too
        period: seconds in which each moment is drawn
    """

    def __init__(
        self, cluster: LocalCluster, rng: np.random.Generator, first: str, does: tuple[str, ...], period: float
    ) -> None:
        self._cluster, self._rng, self._first, self._does, self._period = cluster, rng, first, does, period
        self._now = threading.Lock()
        self.over = threading.Event()
        self.killed: list[str] = []

    def run(self) -> None:
        """Kill one to three."""
        try:
            for turn in range(self._rng.integers(1, 4)):
                time.sleep(self._rng.uniform(0, self._period))
                node = self._first == "node" if turn == 0 else self._rng.integers(3) == 0
                does = self._does if turn == 0 or self._rng.integers(2) else ("",)
                with self._now:
                    kill = self._cluster.kill_node(self._rng) if node else self._cluster.kill_worker(self._rng, does)
                    self.killed.append(kill)
        finally:
            self.over.set()

    def wait(self) -> None:
        """Until what is just being killed is dead, with all that it did."""
        with self._now:
            pass


class Background:
    """A thread, whose error is that of the test."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # told by end()
            self._error = error

    def end(self) -> None:
        self._thread.join(HANG)
        assert not self._thread.is_alive(), "a thread hangs"
        if self._error:
            raise self._error
