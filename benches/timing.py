"""How the benchmarks measure: rounds in turn, medians over rounds, and the machine written beside every number.

Engines take turns within a round and the order moves on by one each round, so that a slow minute of the machine falls
on all of them and none always runs after the same neighbor.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Q = TypeVar("Q")

SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Latency:
    """Microseconds of single calls: each figure is the median over rounds of that round's percentile."""

    p50_us: float
    p99_us: float

    @classmethod
    def of(cls, rounds: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> Latency:
        """From the microseconds of each call, a row per round."""
        p50, p99 = np.median([np.percentile(calls, [50, 99]) for calls in rounds], axis=0)
        return cls(float(p50), float(p99))


def in_turns(runs: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call every run once a round, rotating who goes first, and give each one's results in order of rounds."""
    results: dict[str, list[T]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(runs[name]())
    return results


def call_times_us(call: Callable[[Q], object], arguments: Iterable[Q]) -> NDArray[np.float64]:
    """Wall-clock microseconds of each call, one argument at a time."""
    clock = time.perf_counter_ns
    times = []
    for argument in arguments:
        start = clock()
        call(argument)
        times.append(clock() - start)
    return np.asarray(times, dtype=np.float64) / 1e3


@dataclass(frozen=True)
class Spent:
    """Seconds of one call by the clock, and of processor time over all threads: far less of it means a busy machine."""

    wall: float
    cpu: float


def spent(call: Callable[[], object]) -> Spent:
    """Make the call and say what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def machine(packages: Iterable[str] = ("numpy",)) -> dict[str, Any]:
    """The CPU, the system, the day and the versions that a figure belongs to."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpu_model(),
        "cores": cores(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := installed(name))},
    }


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The CPU's name: from /proc/cpuinfo where there is one, since platform.processor() is often empty on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Bytes by name, smallest first: L1, L2, L3, as the first core sees them; empty where the system does not say."""
    found = {}
    for cache in sorted(folder.glob("index*")):
        if (cache / "type").read_text().strip() != "Instruction":
            found["L" + (cache / "level").read_text().strip()] = parse_size((cache / "size").read_text().strip())
    return dict(sorted(found.items(), key=lambda each: each[1]))


def parse_size(size: str) -> int:
    """Bytes of a size such as 32K or 16M."""
    return int(size[:-1]) * SIZE_UNITS[size[-1]] if size[-1] in SIZE_UNITS else int(size)


def outgrown_cache(size: int, caches: dict[str, int]) -> str:
    """The largest cache that is smaller than this many bytes, or "none"."""
    return next((name for name, room in reversed(caches.items()) if room < size), "none")


def installed(package: str) -> str | None:
    """The version of an installed distribution, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_json(path: Path, content: object) -> None:
    """Indented JSON, for people as well as programs."""
    path.write_text(json.dumps(content, indent=2) + "\n")
