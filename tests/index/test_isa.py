"""Every instruction set of this machine ranks like brute force, and builds the same quantized index, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from oracle import METRICS, QUANTIZATIONS, Rows, assert_right, clustered, recall, step_of
from support import HELPERS

import edgevec

pytestmark = [pytest.mark.subprocess, pytest.mark.core]

AVAILABLE = edgevec.simd_info().available
# Less than a vector, whole vectors, and rests of every kind behind them.
DIMS = (3, 29, 64, 131, 515)
WORKER = HELPERS / "isa_worker.py"
each_isa = pytest.mark.parametrize("isa", AVAILABLE)


@pytest.fixture(scope="module")
def data() -> dict[int, Rows]:
    rng = np.random.default_rng(1)
    return {dim: clustered(rng, 710, dim, clusters=5) for dim in DIMS}


@pytest.fixture(scope="module")
def runs(data: dict[int, Rows], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder in which each instruction set left its files and results."""
    folders = {}
    source = tmp_path_factory.mktemp("isa") / "data.npz"
    np.savez(source, **{str(dim): rows for dim, rows in data.items()})
    for isa in AVAILABLE:
        folders[isa] = tmp_path_factory.mktemp(isa)
        done = subprocess.run(
            [sys.executable, WORKER, source, folders[isa]],
            env={**os.environ, "EDGEVEC_SIMD": isa},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == isa
    return folders


@pytest.fixture(scope="module")
def results(runs: dict[str, Path]) -> dict[str, dict[str, npt.NDArray[np.generic]]]:
    out = {}
    for isa, folder in runs.items():
        with np.load(folder / "results.npz") as arrays:
            out[isa] = {name: arrays[name] for name in arrays.files}
    return out


@each_isa
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_ranks_like_brute_force(
    isa: str,
    dim: int,
    quantization: str,
    metric: str,
    data: dict[int, Rows],
    runs: dict[str, Path],
    results: dict[str, dict[str, npt.NDArray[np.generic]]],
) -> None:
    rows, queries = data[dim][:-10], data[dim][-10:]
    name = f"{metric}-{quantization}-{dim}"
    step = step_of(edgevec.Index.load(runs[isa] / name), rows)
    exact_ids, exact_distances, graph_ids = (
        results[isa][f"{name}-{what}"] for what in ("exact-ids", "exact-distances", "graph-ids")
    )
    for query, ids, distances in zip(queries, exact_ids, exact_distances, strict=True):
        assert_right(edgevec.SearchResult(ids, distances), metric, (range(len(rows)), rows), query, 8, step)
    assert recall(metric, rows, queries, np.asarray(graph_ids, np.int64), 8) >= 0.85


@each_isa
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
@pytest.mark.parametrize("metric", METRICS)
def test_quantized_indexes_are_the_same_files(isa: str, quantization: str, metric: str, runs: dict[str, Path]) -> None:
    for dim in DIMS:
        name = f"{metric}-{quantization}-{dim}"
        assert (runs[isa] / name).read_bytes() == (runs["scalar"] / name).read_bytes()


@each_isa
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_quantized_graphs_answer_alike(
    isa: str, quantization: str, results: dict[str, dict[str, npt.NDArray[np.generic]]]
) -> None:
    """Walks on integers take the same steps; only the last bits of the exact distances may differ."""
    for metric in METRICS:
        for dim in DIMS:
            what = f"{metric}-{quantization}-{dim}-graph-distances"
            np.testing.assert_allclose(results[isa][what], results["scalar"][what], rtol=1e-5, atol=1e-5)
