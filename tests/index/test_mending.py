"""Whatever comes between additions of single rows, which share out the mending of the graph: all is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle import Rows

import edgevec
from edgevec import Metric

DIM, ROWS, CLUSTERS = 8, 2500, 50


def made(metric: Metric) -> edgevec.Index:
    return edgevec.Index(DIM, metric, M=3, ef_construction=16)


def clustered(rng: np.random.Generator, spread: bool) -> Rows:
    """Sorted by cluster where they are not spread, and every tenth one a copy."""
    of = rng.integers(0, CLUSTERS, ROWS)
    centers = 4 * rng.normal(size=(CLUSTERS, DIM))
    rows = centers[of if spread else np.sort(of)] + 0.3 * rng.normal(size=(ROWS, DIM))
    rows[1::10] = rows[::10]
    return rows.astype(np.float32)


def recall(index: edgevec.Index, queries: Rows) -> float:
    found, right = index.search(queries, 10, ef=40).ids, index.search(queries, 10, exact=True).ids
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), right.tolist(), strict=True)]))


def between(index: edgevec.Index, rng: np.random.Generator, rows: Rows, path: Path) -> edgevec.Index:
    """Something that may come while a pass is half done."""
    match int(rng.integers(0, 40)):
        case 0:
            index.remove(rng.choice(np.array(list(index)), min(60, len(index) // 4), replace=False))
        case 1:
            index.save(path)
        case 2:
            index.save(path)
            index = edgevec.Index.load(path)
        case 3 if rng.random() < 0.2:
            index.compact()
        case 4:
            index.add(rows[:20], threads=1)
        case 5:
            index.add(rows[0], [int(rng.choice(np.array(list(index))))], threads=1)
        case 6:
            with pytest.raises(edgevec.CancelledError):
                index.add(rows, progress=lambda done, total: False)
        case _:
            index.search(rows[:3], 5)
    return index


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize(("metric", "few", "worse"), [("l2", 0.005, 0.05), ("cosine", 0.005, 0.05), ("ip", 0.01, 0.12)])
def test_nothing_stays_lost(metric: Metric, few: float, worse: float, spread: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = clustered(rng, spread)
    index, lost = made(metric), []
    for i, row in enumerate(rows):
        index.add(row, threads=1)
        if i % 10 == 0:
            index = between(index, rng, rows, tmp_path / "index")
        if i % 50 == 0:
            report = index.check()
            assert report._replace(unreachable=0).ok, report
            lost.append(report.unreachable / report.live)
    assert np.mean(lost) < few
    index.add(rows[: len(index) // 32 + 1], threads=1)  # so many that they wait for the whole pass
    assert index.check().ok
    whole = made(metric)
    whole.add(index.get(list(index)), threads=1)
    assert recall(index, rows[::9]) > recall(whole, rows[::9]) - worse
