"""Measures recall and latency over ef in a separate process, so that drawing does not disturb it, a SIMD path can be
forced, and it can be killed.

    python -m edgevec.tui.sweep FOLDER K EF,EF,... [NPROBE]      measures the bundle in FOLDER, prints a point a line
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from edgevec import EdgevecError
from edgevec.evaluation import Point, recall_curve

from .backends import bundle
from .backends.base import SearchBackend
from .models import Progress, Queries

__all__ = ["measure", "run"]

_LOOK_EVERY = 0.1
"""Seconds between two calls of progress."""


def run(
    backend: SearchBackend,
    queries: Queries,
    k: int,
    efs: list[int],
    simd: str | None,
    nprobe: int | None,
    progress: Progress,
) -> Iterator[Point]:
    """Yield a point for each ef as it is measured; fewer when progress returns False.

    nprobe: as of SearchBackend.search(); recall is against all shards.
    """
    with tempfile.TemporaryDirectory(prefix="edgevec-") as folder:
        if not progress(0, len(efs)):
            return
        backend.write_bundle(Path(folder), queries.filter_result)
        bundle.write_queries(Path(folder), queries)
        probes = [] if nprobe is None else [str(nprobe)]
        command = [sys.executable, "-m", __name__, folder, str(k), ",".join(map(str, efs)), *probes]
        yield from _in_process(command, len(efs), simd, progress)


def _in_process(command: list[str], points: int, simd: str | None, progress: Progress) -> Iterator[Point]:
    environment = dict(os.environ)
    if simd is not None:
        environment["EDGEVEC_SIMD"] = simd
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: Queue[str | None] = Queue()
    threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
    try:
        count = 0
        while True:
            if not progress(count, points):
                return
            try:
                line = lines.get(timeout=_LOOK_EVERY)
            except Empty:
                continue
            if line is None:
                break
            count += 1
            yield Point(*json.loads(line))
        if process.wait() != 0:
            raise EdgevecError(
                (process.stderr.read().strip().splitlines() or ["the measuring process ended early"])[-1]
            )
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _pass_on(stream: IO[str], lines: Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


# ---- in the process that measures ------------------------------------------------------------------------------------


def measure(folder: Path, k: int, efs: list[int], nprobe: int | None = None) -> None:
    backend = bundle.open_backend(folder, nprobe)
    queries = bundle.read_queries(folder, k)
    for point in recall_curve(
        backend,
        queries.vectors,
        queries.truth,
        k=k,
        efs=efs,
        true_distances=queries.distances,
        distances_of=queries.distances_of,
        metric=queries.metric,
    ):
        print(json.dumps(point), flush=True)


if __name__ == "__main__":
    try:
        wanted = [int(ef) for ef in sys.argv[3].split(",")]
        measure(Path(sys.argv[1]), int(sys.argv[2]), wanted, *map(int, sys.argv[4:]))
    except (EdgevecError, OSError, MemoryError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
