"""One index in a process of its own, and the other end of the pipe to it.

Engines bring thread pools, allocators and OpenMP runtimes that would meet in one process, and some end the process when
they dislike the machine. So every index is built in a fresh one, which then answers a line of JSON with a line of JSON:
recall at a setting, or the times of a round. It also makes the memory of an index plain to see.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data import Workload
from engines import FAMILIES, Engine, Options, Settings
from held import environment
from timing import Latency, Spent, call_times_us, spent

# Pools that are sized once, at import, and serve searches too.
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
WARM_ROWS = 2048
WARM_QUERIES = 100

Setting = tuple[int, Options]
"""The search parameter, and the rest of what Engine.tune takes."""


class ProcessError(Exception):
    """The process ended before its work was done; the message is its last word."""


@dataclass(frozen=True)
class Built:
    """What an index cost. Bytes are by how much the process grew, for each vector; None where there is no /proc. What
    lies in a mapped file is counted apart.
    """

    seconds: float
    cpu_seconds: float
    bytes_per_vector: float | None
    mapped_per_vector: float = 0.0


@dataclass(frozen=True)
class Round:
    """One setting in one round: P50 and P99 of single calls, then one batch.

    QPS counts the processor's time: of one thread on a quiet machine the clock's, and the same where others work too.
    """

    p50_us: float
    p99_us: float
    qps: float
    core_share: float


class EngineProcess:
    """This side of the pipe. ProcessError when the other side is gone."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process, self._errors = process, errors
        self.built = Built(**self._read())

    def recall(self, search_param: int, search: Options) -> float:
        """Of all queries, at this setting."""
        return float(self._ask("recall", search_param, dict(search)))

    def time(self, settings: Sequence[Setting]) -> list[Round]:
        """One round over these settings."""
        return [
            Round(*figures)
            for figures in self._ask("time", [[search_param, dict(search)] for search_param, search in settings])
        ]

    def _ask(self, *question: Any) -> Any:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its last word says more
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = [line for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
            raise ProcessError(said[-1] if said else f"ended with code {code}")
        return json.loads(line)


@contextmanager
def engine_process(folder: Path, family: str, build: Options, settings: Settings) -> Iterator[EngineProcess]:
    """An EngineProcess over the workload that `save_workload` left in the folder; it ends with the block."""
    job = json.dumps({"family": family, "build": dict(build), "settings": asdict(settings)})
    with (
        tempfile.NamedTemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, __file__, str(folder), job],
            env=os.environ | ONE_THREAD | {"OMP_NUM_THREADS": str(settings.build_threads)} | environment(settings.simd),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield EngineProcess(process, Path(errors.name))
        finally:
            process.kill()


def save_workload(workload: Workload, folder: Path) -> None:
    """Write a workload where workers find it."""
    for name in ("base", "queries", "truth", "metric"):
        np.save(folder / f"{name}.npy", getattr(workload, name))


def load_workload(folder: Path) -> Workload:
    """A workload that `save_workload` wrote. The base is mapped: processes share it at no cost to each."""
    base = np.load(folder / "base.npy", mmap_mode="c").view(np.ndarray)
    queries, truth, metric = (np.load(folder / f"{name}.npy") for name in ("queries", "truth", "metric"))
    return Workload("kept", False, base, queries, truth, metric.item())


def own_bytes() -> int | None:
    """Memory of this process that no file backs, huge pages among it (Linux); None elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    gc.collect()
    with suppress(OSError, AttributeError):  # what was freed goes back first, where malloc is glibc's
        ctypes.CDLL(None).malloc_trim(0)
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return sum(int(fields.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem", "HugetlbPages")) * 1024


def warm(engine: Engine, workload: Workload, search_param: int) -> None:
    """Build and search a small index once: libraries load code and start threads on first use."""
    engine.build(np.array(workload.base[:WARM_ROWS]))
    engine.tune(search_param)
    engine.many(workload.queries[:1])


def build(engine: Engine, workload: Workload) -> Built:
    """Index the workload and say what that took."""
    before = own_bytes()
    took = spent(lambda: engine.build(workload.base))
    after = own_bytes()
    grown = None if before is None or after is None else (after - before) / len(workload.base)
    return Built(took.wall, took.cpu, grown, engine.file_bytes / len(workload.base))


def timed(engine: Engine, workload: Workload, settings: Sequence[Setting]) -> list[list[float]]:
    """The figures of a Round for each setting."""
    figures = []
    for search_param, search in settings:
        engine.tune(search_param, **search)
        engine.many(workload.queries[:WARM_QUERIES])
        batch: Spent = spent(lambda: engine.many(workload.queries))
        single = Latency.of([call_times_us(engine.one, workload.queries)])
        qps = len(workload.queries) / batch.cpu
        figures.append([single.p50_us, single.p99_us, qps, batch.cpu / batch.wall])
    return figures


def serve(folder: Path, family: str, build_options: Options, settings: Settings) -> None:
    """The other side: build, say what it cost, and answer until the pipe closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # some libraries chat on standard output
    workload = load_workload(folder)
    make = partial(FAMILIES[family].make, settings, **build_options)
    warm(make(), workload, FAMILIES[family].grid[0])  # gone before memory is looked at
    engine = make()
    print(json.dumps(asdict(build(engine, workload))), file=answers)
    for line in sys.stdin:
        match json.loads(line):
            case ["recall", search_param, search]:
                engine.tune(search_param, **search)
                print(workload.recall(engine.many(workload.queries)), file=answers)
            case ["time", wanted]:
                print(json.dumps(timed(engine, workload, wanted)), file=answers)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    serve(Path(sys.argv[1]), given["family"], given["build"], Settings(**given["settings"]))
