"""How long does a stopped call take to end? Long calls of an index are stopped at random, by Ctrl-C or by progress.

    python benches/stop_latency.py                                    # 1,000,000 x 128
    python benches/stop_latency.py --n 100000 --stops 5 --quantization binary

What is shown is the time from the moment at which a thread raises SIGINT, or from which the progress function says
False, until the call has raised KeyboardInterrupt or CancelledError; and the CPU time that the calling thread has had
of it, in which other programs on the machine do not show. After each the index must hold what it held; or,
where Ctrl-C came while an add mended the graph, all of what was added.
Moments are drawn between a hundredth and the whole of the time that the call takes by itself, evenly on a logarithmic
scale, as most phases are short; calls of more than --patience seconds are stopped within these.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import Floats, clustered_parts
from rich.console import Console
from rich.table import Table
from timing import machine, write_json

from edgevec import CancelledError, IdFilter, Index, Quantization

DIM = 128
Progress = Callable[[int, int], bool]


class Delay(NamedTuple):
    """Seconds, and those of them that the calling thread worked."""

    wall: float
    cpu: float


@dataclass
class Call:
    """call: with a progress function, or None where it has none. undo: what it does when nobody stops it."""

    name: str
    run: Callable[[Progress | None], object]
    undo: Callable[[Any], object] | None = None
    has_progress: bool = False
    took: float | None = None
    delays: dict[str, list[Delay]] = field(default_factory=dict)


def calls_of(index: Index, rows: Floats, queries: Floats, folder: Path) -> list[Call]:
    """Every call that may take long. `rows`: as many as the index holds, which it does not hold."""
    n, few = len(rows), max(1, len(rows) // 5)
    held = np.arange(n)
    far = (rows + rows[0] * 3).astype(np.float32)
    index.save(folder / "index")

    def load(_: Progress | None) -> object:
        return Index.load(folder / "index")

    def calibrated(_: Progress | None) -> object:
        index._calibrator._entries.clear()
        return index.search(queries[:1], 10, recall=0.95)

    return [
        Call("add", lambda tell: index.add(rows, progress=tell), index.remove, True),
        Call("add a fifth", lambda tell: index.add(rows[:few], progress=tell), index.remove, True),
        Call("replace", lambda tell: index.add(rows, held, progress=tell), None, True),
        Call("add what lies elsewhere", lambda tell: index.add(far[:few], progress=tell), index.remove, True),
        Call("get", lambda _: index.get(held)),
        Call("search, a batch", lambda _: index.search(rows, 10)),
        Call("search, exact, one", lambda _: [index.search(query, 10, exact=True) for query in queries[:50]]),
        Call("search, exact, a batch", lambda _: index.search(queries, 10, exact=True)),
        Call("search, k = n", lambda _: index.search(queries[0], n)),
        Call("search, filter", lambda _: index.search(queries[0], 10, filter=IdFilter(held[::2]))),
        Call("search, recall=", calibrated),
        Call("check", lambda _: index.check()),
        Call("save", lambda _: index.save(folder / "other")),
        Call("load", load),
        Call("remove", lambda _: index.remove(held[: n // 2])),
        Call("compact", lambda tell: index.compact(progress=tell), None, True),
    ]


def cpu_clock() -> Callable[[], float]:
    """Of the thread that asks for it, for any thread to read."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


@contextlib.contextmanager
def after(seconds: float, act: Callable[[], object]) -> Iterator[Callable[[], Delay | None]]:
    """Run it then, on a thread; what has gone by since, or None where it has not begun."""
    began: list[tuple[float, float]] = []
    cpu = cpu_clock()

    def run() -> None:
        began.append((time.perf_counter(), cpu()))
        act()

    def since() -> Delay | None:
        return Delay(time.perf_counter() - began[0][0], cpu() - began[0][1]) if began else None

    timer = threading.Timer(seconds, run)
    timer.start()
    try:
        yield since
    finally:
        timer.cancel()
        timer.join()


def stop(call: Call, how: str, moment: float) -> Delay | None:
    """How long it took to end; None when it had ended before."""
    asked = threading.Event()
    act = asked.set if how == "progress" else lambda: signal.raise_signal(signal.SIGINT)
    start, made = time.perf_counter(), None
    try:
        with after(moment, act) as since:
            try:
                made = (call.run((lambda done, total: not asked.is_set()) if how == "progress" else None),)
            except (KeyboardInterrupt, CancelledError):
                return since()
    except KeyboardInterrupt:  # just as it had ended
        pass
    call.took = time.perf_counter() - start
    if call.undo and made is not None:
        call.undo(made[0])
    return None


def measure(index: Index, call: Call, stops: int, patience: float, rng: np.random.Generator) -> None:
    """Add to call.delays."""
    for how in ("progress", "Ctrl-C") if call.has_progress else ("Ctrl-C",):
        times: list[Delay] = call.delays.setdefault(how, [])
        for _ in range(stops * 3):
            most = min(patience, call.took or patience)
            before = len(index)
            delay = stop(call, how, float(np.exp(rng.uniform(np.log(most / 100), np.log(most)))))
            if len(index) > before and how == "Ctrl-C":  # it came when the vectors were in already, all of them
                index.remove([id for id in index if id >= before])
            if call.name == "remove" and len(index) < before:
                return  # it was done
            if len(index) != before:
                raise SystemExit(f"{call.name}: {len(index)} vectors, not {before}")
            if delay is not None:
                times.append(delay)
            if len(times) == stops:
                break


def table(calls: list[Call], title: str) -> Table:
    """A row for each call and way to stop it."""
    made = Table(title=title)
    for column in ("call", "stopped by", "times", "median", "longest", "longest, CPU"):
        made.add_column(column)
    for call in calls:
        for how, times in call.delays.items():
            if times:
                wall, cpu = 1e3 * np.array(times).T
                figures = (np.median(wall), wall.max(), cpu.max())
                made.add_row(call.name, how, str(len(times)), *(f"{figure:.0f} ms" for figure in figures))
            else:
                made.add_row(call.name, how, "0", "", "", f"over in {1e3 * (call.took or 0):.0f} ms")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--stops", type=int, default=12, help="of each call and each way")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds")
    parser.add_argument("--quantization", default="sq8", choices=["none", "sq8", "binary"])
    parser.add_argument("--only", help="calls whose names hold this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    quantization: Quantization = options.quantization
    rows, queries = clustered_parts(2 * options.n, 1000, DIM, 32)
    index = Index(DIM, "l2", quantization=quantization, M=8, ef_construction=40)
    index.add(rows[: options.n])
    rng = np.random.default_rng(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        calls = calls_of(index, rows[options.n :], queries, Path(folder))
        if options.only:
            calls = [call for call in calls if options.only in call.name]
        for call in calls:
            measure(index, call, options.stops, options.patience, rng)
            Console().print(table([call], ""))
    title = f"Until a stopped call has ended: {options.n:,} x {DIM}, {quantization}"
    Console().print(table(calls, title))
    every = [time for call in calls for times in call.delays.values() for time in times]
    wall, cpu = (1e3 * max(of, default=0.0) for of in ([time.wall for time in every], [time.cpu for time in every]))
    print(f"longest: {wall:.0f} ms, CPU {cpu:.0f} ms")
    if options.json:
        figures = {call.name: {"seconds": call.took, "delays": call.delays} for call in calls}
        write_json(options.json, {"machine": machine(), "n": options.n, "calls": figures})


if __name__ == "__main__":
    main()
