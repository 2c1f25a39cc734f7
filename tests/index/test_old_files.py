"""Index files that earlier releases wrote are read, searched and changed as those of this one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from oracle import Rows, recall
from support import ROOT

import edgevec

FILES = ROOT / "tests" / "files"
ROWS, DIM = 120, 196


def rows() -> Rows:
    """What the files hold under ids 0.. : the same numbers from every NumPy."""
    numbers = np.random.RandomState(8).randint(-16, 17, (ROWS, DIM))
    return numbers.astype(np.float32) / 16


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.glob("*.ev")))
def test_files_of_earlier_releases(name: str, tmp_path: Path) -> None:
    """Each was made by: Index(196, "l2", quantization=..., M=4, ef_construction=20), add(rows(), threads=1), save.

    Those of format version 1 hold float32 vectors, "refined" is of version 2.
    """
    held = rows()
    index = edgevec.Index.load(shutil.copy(FILES / name, tmp_path))
    index.save(tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == (FILES / name).read_bytes()
    assert index.keep_vectors == ("float32" if name.endswith("-sq8.ev") else True)
    assert index.check().ok
    assert (len(index), index.dim, index.metric, index.M) == (ROWS, DIM, "l2", 4)
    np.testing.assert_array_equal(index.get(range(ROWS)), held)
    queries = held[:40] + np.float32(0.01)
    assert recall("l2", held, queries, index.search(queries, 5, ef=12).ids, 1) >= 0.95
    index.remove(range(20))
    index.add(held[:20], np.arange(1000, 1020))
    index.save(tmp_path / "again")
    again = edgevec.Index.load(tmp_path / "again")
    assert again.check().ok
    assert set(again.search(held[:20], 1, ef=60).ids[:, 0].tolist()) == set(range(1000, 1020))
