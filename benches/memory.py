"""Bytes per vector against recall: by how much a fresh process grows over a build, for settings of edgevec and hnswlib.

    python benches/memory.py --data real

Every index is built in a process of its own (engine_process.py), whose growth is memory that no file backs: the vectors
given to it are not counted, what it copied of them is. An index that is used in place in its file (`Index.load(path,
mmap=True)`) holds little memory of its own; what lies in the file is shown beside, which stays in memory as long as
there is room, and is read again when there was none. Recall stands beside at two settings of ef, and the
smallest ef that reaches the target with the P50 of a call there. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data import WORKLOADS, named
from engine_process import Built, EngineProcess, engine_process, own_bytes, save_workload
from engines import FAMILIES, Options, Settings
from param_search import sweep
from rich.console import Console
from rich.table import Table
from timing import cores, machine, write_json

TARGET = 0.95
EFS = (64, 256)
WANTED = 160
SMALL: Options = {"keep_vectors": False}
SETTINGS: tuple[tuple[str, Options], ...] = (
    ("edgevec sq8", {}),
    ("edgevec sq8", {"keep_vectors": "float32"}),
    *(("edgevec sq8", {"M": M, **SMALL}) for M in (16, 12, 8)),
    ("edgevec binary", {}),
    *(("edgevec binary", {"M": M, **SMALL}) for M in (32, 24, 16, 12, 8)),
    ("edgevec none", {}),
    ("edgevec sq8", {"mapped": True}),
    ("edgevec binary", {"mapped": True}),
    ("hnswlib", {"M": 16}),
    ("hnswlib", {"M": 8}),
)


@dataclass(frozen=True)
class Size:
    """One setting. ef and P50 at the target; None when the target is out of reach."""

    engine: str
    build: Options
    built: Built
    recalls: dict[int, float]
    ef: int | None
    p50_us: float | None

    @property
    def name(self) -> str:
        """The engine and what differs from its defaults."""
        return " ".join([self.engine, *(f"{key}={value}" for key, value in self.build.items())])


def measure(index: EngineProcess, engine: str, build: Options) -> Size:
    """Recall at the stated search parameters, and what the target takes."""
    found = sweep(lambda ef: index.recall(ef, {}), FAMILIES[engine].grid, (TARGET,))
    ef = next((ef for ef, recall in found.items() if recall >= TARGET), None)
    p50 = None if ef is None else index.time([(ef, {})])[0].p50_us
    recalls = {wide: found[wide] if wide in found else index.recall(wide, {}) for wide in EFS}
    return Size(engine, build, index.built, recalls, ef, p50)


def smallest_of(sizes: Sequence[Size], mapped: bool) -> Size | None:
    """Of edgevec's settings that reach the target the one of the fewest bytes."""
    reaching = [
        size
        for size in sizes
        if size.ef is not None and size.engine.startswith("edgevec") and bool(size.build.get("mapped")) == mapped
    ]
    return min(reaching, key=lambda size: size.built.bytes_per_vector or 0.0, default=None)


def table_of(sizes: Sequence[Size], title: str) -> Table:
    table = Table(title=title)
    table.add_column("setting")
    for head in ("B/vector", "in a file", *(f"recall at ef={ef}" for ef in EFS), f"ef @{TARGET}", "P50 us", "build s"):
        table.add_column(head, justify="right")
    for size in sizes:
        at_target = ("-", "-") if size.ef is None else (str(size.ef), f"{size.p50_us:,.0f}")
        recalls = (f"{size.recalls[ef]:.4f}" for ef in EFS)
        table.add_row(
            size.name,
            f"{size.built.bytes_per_vector:,.0f}",
            f"{size.built.mapped_per_vector:,.0f}" if size.built.mapped_per_vector else "-",
            *recalls,
            *at_target,
            f"{size.built.seconds:.1f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=WORKLOADS, default="real")
    parser.add_argument("--n", type=int)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    if own_bytes() is None:
        raise SystemExit("memory is read from /proc/self/status, which this system does not have")
    settings = Settings(build_threads=min(2, cores()))
    workload = named(args.data, args.n, args.queries, settings.k)
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        save_workload(workload, Path(folder))
        for engine, build in SETTINGS:
            with engine_process(Path(folder), engine, build, settings) as index:
                sizes.append(measure(index, engine, build))
            print(f"measured {sizes[-1].name}", file=sys.stderr)
    Console(width=150).print(table_of(sizes, f"{workload.name}, k={settings.k}: memory of an index and its recall"))
    for mapped, where in ((False, "all in memory"), (True, "in place in a file")):
        best = smallest_of(sizes, mapped)
        if best is None:
            print(f"{where}: no setting reaches {TARGET}")
        else:
            verdict = "within" if (best.built.bytes_per_vector or 0.0) <= WANTED else "above"
            print(f"{where}: {TARGET} with {best.name}, {best.built.bytes_per_vector:,.0f} B, {verdict} {WANTED} B")
    if args.json:
        about = machine(("edgevec", "hnswlib", "numpy"))
        content = {"workload": workload.name, "machine": about, "sizes": [asdict(size) for size in sizes]}
        write_json(args.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
