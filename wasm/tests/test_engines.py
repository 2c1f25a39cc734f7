"""edgevec in Node, Deno and Bun, with a folder of the disk: later runs and the native library read the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from build import built_wheel
from hosts.node import Job
from toolchain import pages
from toolchain.runtime import wheel_folder

import edgevec

ROWS = np.random.default_rng(7).standard_normal((2000, 32), dtype=np.float32)
KEPT = [row for row in range(2000) if row % 120 > 100]
NEAREST = sorted(KEPT, key=lambda row: float(((ROWS[row] - ROWS[0]) ** 2).sum()))[:5]


@pytest.mark.parametrize("engine", ["node", *pages.ENGINES])
def test_what_is_kept_on_the_disk_is_read_by_later_runs(engine: str, tmp_path: Path) -> None:
    job = Job(pages.PYODIDE)
    if engine in pages.ENGINES:
        job.engine = pages.fetch_engine(engine)
    job.add_wheels([*sorted(wheel_folder(pages.PYODIDE).glob("*.whl")), built_wheel(pages.PYODIDE)])
    job.mount(tmp_path, "/disk")
    for kept_now in (True, False):
        answer = job.run("disk.py")
        assert answer == {"kept now": kept_now, "rows": list(range(50)), "hits": NEAREST, "whole": True}
    index = edgevec.Index.load(tmp_path / "rows.ev")
    assert index.check().ok
    assert index.search(ROWS[:50], k=1, ef=200).ids[:, 0].tolist() == list(range(50))
    with edgevec.open(tmp_path / "notes.edgevec") as notes:
        assert notes.check().ok
        assert len(notes) == sum(row % 120 >= 10 for row in range(2000))
        assert [hit.id for hit in notes.search(ROWS[0], 5, where="year > 2000")] == NEAREST
