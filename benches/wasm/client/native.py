"""The native build's side of the benchmark: a line of JSON in, {name, args}, and a line out. python native.py FOLDER"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from subject import Subject

import edgevec


class Benchmark:
    """What benchmark.mjs offers, for this project's engines."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.engines: dict[str, Subject] = {}

    def open(self, work: dict[str, Any]) -> dict[str, Any]:
        self.work = work
        return {"agent": f"Python {sys.version.split()[0]}", "simd": edgevec.simd_info().active}

    def start(self, name: str, warm: int) -> dict[str, Any]:
        engine = self.engines[name] = Subject(name.split()[-1])
        self._build(engine, warm)
        return {}

    def build(self, name: str) -> dict[str, Any]:
        engine = self.engines[name]
        return {"seconds": self._build(engine, self.work["n"]), "bytes": engine.bytes()}

    def _build(self, engine: Subject, n: int) -> float:
        work = self.work
        return engine.build(f"{self.folder}/data", n, work["dim"], work["M"], work["ef_construction"])

    def answers(self, name: str, ef: int, count: int) -> list[int]:
        return self.engines[name].ids(count, self.work["k"], ef)

    def round(self, name: str, ef: int, seconds: float) -> dict[str, Any]:
        return self.engines[name].round(self.work["queries"], self.work["k"], ef, seconds)


def main() -> None:
    benchmark = Benchmark(sys.argv[1])
    calls: dict[str, Callable[..., Any]] = {
        "open": benchmark.open,
        "start": benchmark.start,
        "build": benchmark.build,
        "answers": benchmark.answers,
        "round": benchmark.round,
    }
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps({"result": calls[job["name"]](*job["args"])}), flush=True)


if __name__ == "__main__":
    main()
