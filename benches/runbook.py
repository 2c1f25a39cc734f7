"""Does recall hold while vectors come and go? Streaming runbooks, beside a fresh build and hnswlib at every search.

    python benches/runbook.py                                        # three runbooks over 60,000 real embeddings
    python benches/runbook.py --made sliding --n 100000 --ef 100
    python benches/runbook.py --write /tmp/runbooks                  # the same as files
    python benches/runbook.py --file msturing-10M_slidingwindow_runbook.yaml --key msturing-10M

A runbook is a list of steps (insert, delete, replace, search) over the rows of a data set, in the YAML form of the
streaming track of NeurIPS'23's big-ann-benchmarks. The made ones follow the patterns of that track:

- sliding: a twentieth of the rows comes at each step, and what came ten steps before goes
- expiring: rows come in hundredths, and each goes 10, 50 or 100 steps later (10, 2 and 1 of 13)
- clustered: rows lie cluster by cluster; the clusters come one after the other, and go in another order

recall@10 is against exact search by NumPy among the rows that live then. Microseconds a query are processor time in
batches on one thread, seconds of changes processor time of all threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from data import Floats, Ids, exact_uncached, named, recall
from rich.console import Console
from rich.table import Table
from timing import spent

import edgevec

K = 10
CLUSTERS = 32


@dataclass(frozen=True)
class Step:
    """Rows start to end of the data set, whose numbers are their ids; a replacement gives them to the ids from tags."""

    operation: Literal["insert", "delete", "replace", "search"]
    start: int = 0
    end: int = 0
    tags: int = 0


# --- runbooks ------------------------------------------------------------------------------------------------------


def parts(n: int, count: int) -> list[tuple[int, int]]:
    """The rows in so many parts of about the same length: the first row of each, and the one after its last."""
    bounds: list[int] = np.linspace(0, n, count + 1).astype(int).tolist()
    return list(pairwise(bounds))


def sliding(n: int) -> Iterator[Step]:
    twentieths = parts(n, 20)
    for number, part in enumerate(twentieths):
        yield Step("insert", *part)
        if number >= 10:
            yield Step("delete", *twentieths[number - 10])
        yield Step("search")


def expiring(n: int) -> Iterator[Step]:
    rng = np.random.default_rng(1)
    going: dict[int, list[Step]] = {}
    for number, (start, end) in enumerate(parts(n, 100)):
        yield Step("insert", start, end)
        bounds = np.sort(np.concatenate([[start, end], rng.integers(start, end, 2)])).tolist()
        for part in pairwise(bounds):
            going.setdefault(number + int(rng.choice([10, 50, 100], p=np.array([10, 2, 1]) / 13)), []).append(
                Step("delete", *part)
            )
        yield from (step for step in going.pop(number, []) if step.start < step.end)
        if number % 5 == 4:
            yield Step("search")


def clustered(n: int) -> Iterator[Step]:
    clusters = parts(n, CLUSTERS)
    rng = np.random.default_rng(2)
    for come, part in enumerate(clusters):
        yield Step("insert", *part)
        if come % 2:
            yield Step("search")
    for gone, part in enumerate(rng.permutation(clusters)[: CLUSTERS * 3 // 4].tolist()):
        yield Step("delete", *part)
        if gone % 2:
            yield Step("search")


MADE: dict[str, Callable[[int], Iterator[Step]]] = {"sliding": sliding, "expiring": expiring, "clustered": clustered}


def by_cluster(base: Floats) -> Floats:
    """The rows in the order of the nearest of a few of them: neighbors come together, and go together."""
    centers = base[np.random.default_rng(2).choice(len(base), CLUSTERS, replace=False)]
    return base[np.argsort((base @ centers.T).argmax(axis=1), kind="stable")]


def read(path: Path, key: str) -> list[Step]:
    import yaml

    book: dict[Any, Any] = yaml.safe_load(path.read_text())[key]
    return [as_step(book[number]) for number in sorted(number for number in book if isinstance(number, int))]


def as_step(entry: dict[str, Any]) -> Step:
    if entry["operation"] == "replace":
        return Step("replace", entry["ids_start"], entry["ids_end"], entry["tags_start"])
    return Step(entry["operation"], entry.get("start", 0), entry.get("end", 0))


def as_entry(step: Step) -> dict[str, Any]:
    if step.operation == "replace":
        tags = {"tags_start": step.tags, "tags_end": step.tags + step.end - step.start}
        return {"operation": "replace", **tags, "ids_start": step.start, "ids_end": step.end}
    if step.operation == "search":
        return {"operation": "search"}
    return {"operation": step.operation, "start": step.start, "end": step.end}


def write(path: Path, key: str, steps: list[Step], n: int) -> None:
    import yaml

    book = {key: {"max_pts": n, **{number: as_entry(step) for number, step in enumerate(steps, 1)}}}
    path.write_text(yaml.safe_dump(book, sort_keys=False))


# --- what is measured ----------------------------------------------------------------------------------------------


class Edgevec:
    def __init__(self, dim: int, n: int, ef: int) -> None:
        self._index = edgevec.Index(dim, "cosine")
        self._ef = ef

    def put(self, ids: Ids, vectors: Floats) -> None:
        self._index.add(vectors, ids)

    def remove(self, ids: Ids) -> None:
        self._index.remove(ids)

    def search(self, queries: Floats) -> Ids:
        return self._index.search(queries, K, ef=self._ef, threads=1).ids


class Hnswlib:
    """With replaced elements, its way to use the room of deleted ones again."""

    def __init__(self, dim: int, n: int, ef: int) -> None:
        import hnswlib

        self._index = hnswlib.Index("cosine", dim)
        self._index.init_index(n, ef_construction=200, M=16, allow_replace_deleted=True)
        self._index.set_ef(ef)
        self._held: set[int] = set()

    def put(self, ids: Ids, vectors: Floats) -> None:
        self.remove(np.array([id for id in ids.tolist() if id in self._held], np.int64))
        self._index.add_items(vectors, ids, replace_deleted=True)
        self._held.update(ids.tolist())

    def remove(self, ids: Ids) -> None:
        for id in ids.tolist():
            self._index.mark_deleted(id)
        self._held.difference_update(ids.tolist())

    def search(self, queries: Floats) -> Ids:
        found: Ids = self._index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)
        return found


@dataclass
class Run:
    """What an engine took for its changes so far, and each search's recall and microseconds a query."""

    engine: Any
    seconds: float = 0.0
    recalls: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    def change(self, call: Callable[[], object]) -> None:
        self.seconds += spent(call).cpu


def engines(dim: int, n: int, ef: int) -> dict[str, Run]:
    runs = {"edgevec": Run(Edgevec(dim, n, ef))}
    try:
        runs["hnswlib"] = Run(Hnswlib(dim, n, ef))
    except ModuleNotFoundError:
        print("hnswlib is not installed: left out")
    return runs


def apply(step: Step, base: Floats, held: dict[int, int], runs: dict[str, Run]) -> None:
    rows = np.arange(step.start, step.end)
    ids = rows if step.operation != "replace" else step.tags + rows - step.start
    for run in runs.values():
        if step.operation == "delete":
            run.change(lambda run=run: run.engine.remove(ids))
        else:
            run.change(lambda run=run: run.engine.put(ids, base[rows]))
    for id, row in zip(ids.tolist(), rows.tolist(), strict=True):
        if step.operation == "delete":
            del held[id]
        else:
            held[id] = row


def measure(base: Floats, held: dict[int, int], queries: Floats, ef: int, runs: dict[str, Run], fresh: Run) -> None:
    """The search of a runbook, by all; a fresh build of what is held is made for it."""
    ids, rows = np.array(list(held), np.int64), np.array(list(held.values()), np.int64)
    live = base[rows]
    truth = exact_uncached(live, queries, K, "cosine")
    fresh.engine = Edgevec(base.shape[1], len(live), ef)
    fresh.change(lambda: fresh.engine.put(ids, live))
    place = np.full(ids.max() + 1, -1)
    place[ids] = np.arange(len(ids))
    for run in (*runs.values(), fresh):
        took, found = min((timed(run.engine, queries) for _ in range(3)), key=lambda pair: pair[0])
        run.microseconds.append(1e6 * took / len(queries))
        run.recalls.append(recall(place[found], truth, live, queries, "cosine"))


def timed(engine: Any, queries: Floats) -> tuple[float, Ids]:
    start = time.thread_time()
    found = engine.search(queries)
    return time.thread_time() - start, found


def play(name: str, steps: list[Step], base: Floats, queries: Floats, ef: int) -> None:
    runs = engines(base.shape[1], len(base), ef)
    fresh = Run(None)
    held: dict[int, int] = {}
    lives: list[int] = []
    for step in steps:
        if step.operation == "search":
            measure(base, held, queries, ef, runs, fresh)
            lives.append(len(held))
        else:
            apply(step, base, held, runs)
    show(name, lives, {"edgevec": runs.pop("edgevec"), "built anew": fresh, **runs})


def show(name: str, lives: list[int], runs: dict[str, Run]) -> None:
    table = Table("search", "vectors", *(f"{of}: recall, us" for of in runs), title=name)
    last = len(lives) - 1
    for number in sorted({round(last * part / 7) for part in range(8)}):
        cells = (f"{run.recalls[number]:.4f}, {run.microseconds[number]:.1f}" for run in runs.values())
        table.add_row(f"{number + 1}", f"{lives[number]:,}", *cells)
    table.add_section()
    means = (f"{np.mean(run.recalls):.4f}, {np.mean(run.microseconds):.1f}" for run in runs.values())
    table.add_row("mean", "", *means)
    table.add_row("least", "", *(f"{min(run.recalls):.4f}" for run in runs.values()))
    table.add_row("changes", "", *(f"{run.seconds:.1f} s" for run in runs.values()))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made", choices=MADE, action="append", help="which of the made runbooks; all of them")
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--ef", type=int, default=64)
    parser.add_argument("--file", type=Path, help="a runbook in YAML (needs PyYAML), over the first rows of the set")
    parser.add_argument("--key", help="the data set in it")
    parser.add_argument("--write", type=Path, help="write the made runbooks into this folder (needs PyYAML), and end")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        for name, make in MADE.items():
            write(arguments.write / f"{name}.yaml", "real", list(make(arguments.n)), arguments.n)
        return
    workload = named("real", arguments.n, 500)
    if arguments.file:
        if arguments.key is None:
            parser.error("--file needs --key, the name of the data set in it")
        steps = read(arguments.file, arguments.key)
        if (wanted := max(step.end for step in steps)) > len(workload.base):
            parser.error(f"{arguments.file} is over {wanted:,} rows, and there are {len(workload.base):,}")
        play(arguments.file.name, steps, workload.base, workload.queries, arguments.ef)
        return
    for name in arguments.made or MADE:
        base = by_cluster(workload.base) if name == "clustered" else workload.base
        play(name, list(MADE[name](len(base))), base, workload.queries, arguments.ef)


if __name__ == "__main__":
    main()
