"""edgevec bench: recall and latency over ef, on the vectors of a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

import edgevec

from .. import Metric, evaluation, plot
from ..errors import ParameterError
from ..evaluation import Point
from ..files import replacing
from ..readers import Dataset
from .common import (
    INPUT,
    build_index,
    bytes_per_vector,
    example,
    force_option,
    index_options,
    note,
    output_option,
    progress_bar,
    protect,
    read,
    reading_options,
    show,
)

__all__ = ["bench"]


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        numbers = [int(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value!r} is not a list of positive numbers such as 10,20,40", context, parameter)
    return numbers


@click.command(epilog=example("edgevec bench vectors.npy --ef 10,40 --queries 100 --json bench.json"))
@click.argument("file", type=INPUT)
@click.option("--ef", "efs", callback=_numbers, metavar="N,N,...", default="10,20,40,80,160,320", show_default=True)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Neighbors per query.")
@click.option(
    "--queries", "count", type=click.IntRange(1), default=1000, show_default=True, help="Use at most this many queries."
)
@click.option(
    "--search-threads",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Threads that answer the batch behind QPS.",
)
@output_option("--json", "json_path", help="Write everything measured to this file.")
@output_option("--plot", "plot_path", help="Draw recall against latency to this PNG or SVG.")
@force_option
@index_options
@reading_options
def bench(
    file: Path,
    efs: list[int],
    k: int,
    count: int,
    search_threads: int,
    json_path: Path | None,
    plot_path: Path | None,
    force: bool,
    metric: Metric | None,
    column: str | None,
    limit: int | None,
    **parameters: Any,
) -> None:
    """Measure recall, latency and throughput on the vectors in FILE.

    Queries are the file's own test set (HDF5), else rows held out of the index. Latencies are of single calls on one
    thread, QPS is of one call with all queries; the true neighbors come from a brute-force scan. Recall counts what
    is not farther than the last of them, so any of several equally near rows counts.
    """
    for path in (json_path, plot_path):
        if path is not None:
            protect(path, file, force=force)
    if json_path is not None and json_path == plot_path:
        raise ParameterError(f"{json_path}: cannot be both, --json and --plot")
    if plot_path is not None:
        plot.new_figure(plot_path)  # so that a missing library or a wrong ending is told before the work
    dataset = read(file, column=column, limit=limit)
    metric = metric or dataset.metric or "cosine"
    task = _make_task(dataset, count, parameters["seed"])
    index, seconds = build_index(task.vectors, task.ids, metric=metric, **parameters)
    note(f"built in {seconds:.2f} s; finding the true neighbors of {len(task.queries):,} queries")
    truth = _true_rows(dataset, task, k, metric)
    true_distances = task.distances(truth, metric)
    points = []
    with progress_bar("measuring") as report:
        for point in evaluation.recall_curve(
            index,
            task.queries,
            task.ids[truth],
            k=k,
            efs=efs,
            threads=search_threads,
            true_distances=true_distances,
            distances_of=lambda found: task.distances(task.rows(found.ids), metric),
            metric=metric,
        ):
            points.append(point)
            report(len(points), len(efs))
    document = {
        "data": {"file": file.name, "rows": len(task.vectors), "dim": dataset.dim, "queries": len(task.queries)},
        "index": {"metric": metric, **parameters},
        "k": k,
        "search_threads": search_threads,
        "simd": edgevec.simd_info().active,
        "machine": evaluation.machine(),
        "edgevec": edgevec.__version__,
        "build_seconds": seconds,
        "bytes_per_vector": bytes_per_vector(index),
        "points": [point._asdict() for point in points],
    }
    if json_path is not None:
        with replacing(json_path) as new:
            new.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if plot_path is not None:
        plot.save(plot_path, _title(document), {parameters["quantization"]: points}, k)
    _show(document, points)


@dataclass(frozen=True)
class _Task:
    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    queries: NDArray[np.float32]

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which rows these ids stand for; -1 stays."""
        return np.where(ids == -1, -1, np.searchsorted(self.ids, ids))

    def distances(self, rows: NDArray[np.int64], metric: Metric) -> NDArray[np.float64]:
        return evaluation.distances(self.vectors, self.queries, rows, metric)


def _make_task(dataset: Dataset, count: int, seed: int) -> _Task:
    """What to index and what to ask; ids are the file's row numbers."""
    ids = np.arange(len(dataset), dtype=np.int64)
    if dataset.queries is not None:
        return _Task(dataset.vectors, ids, dataset.queries[:count])
    if len(dataset) < 2:
        raise ParameterError("too few rows: one is needed to search and one to ask")
    held = min(count, max(1, len(dataset) // 10))
    order = np.random.default_rng(seed).permutation(ids)
    base = np.sort(order[held:])
    return _Task(dataset.vectors[base], base, dataset.vectors[order[:held]])


def _true_rows(dataset: Dataset, task: _Task, k: int, metric: Metric) -> NDArray[np.int64]:
    """Rows of the task's vectors. Neighbors in a file are rows of it, all of which are then searched."""
    given = dataset.neighbors
    if given is not None and metric == dataset.metric and len(given) >= len(task.queries) and given.shape[1] >= k:
        return given[: len(task.queries), :k]
    true: NDArray[np.int64] = evaluation.exact_neighbors(task.vectors, task.queries, k, metric)
    return true


def _title(document: dict[str, Any]) -> str:
    data, index = document["data"], document["index"]
    return f"{data['file']}: {data['rows']:,} x {data['dim']}, {index['quantization']}, SIMD {document['simd']}"


def _show(document: dict[str, Any], points: list[Point]) -> None:
    data, index = document["data"], document["index"]
    show(
        f"{data['file']}: {data['rows']:,} x {data['dim']}, {index['metric']}, {index['quantization']}, "
        f"M={index['M']}, ef_construction={index['ef_construction']}"
    )
    table = Table()
    for header in ("ef", f"recall@{document['k']}", "P50 µs", "P95 µs", "P99 µs", "QPS"):
        table.add_column(header, justify="right")
    for point in points:
        latencies = (f"{value:,.0f}" for value in (point.p50, point.p95, point.p99, point.qps))
        table.add_row(str(point.ef), f"{point.recall:.4f}", *latencies)
    show(
        table,
        f"{data['queries']:,} queries; QPS on {document['search_threads'] or 'all'} thread(s); "
        f"built in {document['build_seconds']:.2f} s; {document['bytes_per_vector']:,} bytes per vector\n"
        f"SIMD {document['simd']}; {document['machine']}",
    )
