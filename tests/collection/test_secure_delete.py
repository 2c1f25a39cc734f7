"""With secure_delete nothing of what was deleted or replaced is left in the bytes of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgevec
from edgevec import Quantization

DIM, N = 32, 400
GONE = range(100, 300)
WORD = "zanzibarquux"


def bytes_of(path: Path) -> bytes:
    """Of every file of a collection."""
    return b"".join(found.read_bytes() for found in path.parent.iterdir() if found.name.startswith(path.name))


def traces(path: Path, vectors: np.ndarray) -> int:
    """How often a part of a removed vector, a removed text or metadata are found."""
    data = bytes_of(path)
    count = sum(data.count(vector[:4].tobytes()) for vector in vectors)
    return count + data.count(WORD.encode()) + data.count(b"secretkey")


@pytest.mark.parametrize("end", ["checkpoint", "close"])
@pytest.mark.parametrize("quantization", ["none", "sq8"])
@pytest.mark.parametrize("how", ["delete", "replace"])
def test_nothing_of_what_was_removed_is_left(tmp_path: Path, end: str, quantization: Quantization, how: str) -> None:
    path, rng = tmp_path / "c.edgevec", np.random.default_rng(0)
    vectors = rng.standard_normal((N, DIM)).astype(np.float32)
    made = edgevec.open(path, DIM, "l2", quantization=quantization, secure_delete=True)
    made.upsert(
        range(N),
        vectors,
        [{"secretkey" if n in GONE else "plain": n} for n in range(N)],
        [f"{WORD}{n}" if n in GONE else f"plain{n}" for n in range(N)],
    )
    made.checkpoint()
    gone = vectors[GONE.start : GONE.stop]
    assert traces(path, gone) >= 3 * len(gone)
    if how == "delete":
        made.delete(GONE)
    else:
        made.upsert(GONE, rng.standard_normal((len(GONE), DIM)), documents=["plain"] * len(GONE))
    getattr(made, end)()
    assert traces(path, gone) == 0
    assert bytes_of(path).count(b"plain7") > 0  # the bytes of others are seen in this way
    made.close()
    with edgevec.open(path) as made:
        assert made.check().ok
        assert len(made) == (N if how == "replace" else N - len(GONE))


def test_without_it_removed_records_stay_readable_until_compaction(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    vectors = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    with edgevec.open(path, DIM, "l2", quantization="none") as made:
        made.upsert(range(N), vectors, documents=[f"{WORD}{n}" for n in range(N)])
        made.delete(range(N - 50, N))
        made.checkpoint()
        removed = vectors[-50:]
        data = bytes_of(path)
        assert any(vector[:4].tobytes() in data for vector in removed)
        made.compact()
        data = bytes_of(path)
        assert not any(vector[:4].tobytes() in data for vector in removed)
