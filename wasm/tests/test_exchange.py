"""An index built in Pyodide and one built natively are the same file, and each side reads the other's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build import built_wheel
from hosts.node import Job
from numpy.typing import NDArray
from pyodide.exchange import KINDS, answers, build
from toolchain.runtime import wheel_folder

import edgevec

# Enough dimensions for 8-bit codes to be prefiltered.
DIM = 200
# Sums of so many products of numbers below 1 in another order, and with or without FMA.
FLOAT_BOUND = DIM * 2.0**-22


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    # Sixteenths, so that no rounding depends on the machine; a few twice, because duplicates share a node.
    rows: NDArray[np.float32] = np.random.default_rng(3).integers(-16, 17, (2000, DIM)).astype(np.float32) / np.float32(
        16
    )
    rows[500:520] = rows[:20]
    return rows


@pytest.fixture(scope="module")
def native(vectors: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("native")
    for kind in KINDS:
        build(kind, vectors).save(folder / kind)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="module")
def pyodide(native: dict[str, Path], vectors: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What pyodide/exchange.py says in Pyodide, which is given the natively built files."""
    table = tmp_path_factory.mktemp("input") / "vectors.npy"
    np.save(table, vectors)
    job = Job()
    job.add_wheels([*sorted(wheel_folder().glob("*.whl")), built_wheel()])
    job.add_file(table, "/tmp/vectors.npy")
    for kind, path in native.items():
        job.add_file(path, f"/tmp/{kind}")
    return job.run("exchange.py")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "none" not in kind])
def test_indexes_built_on_codes_are_the_same_file(pyodide: Any, native: dict[str, Path], kind: str) -> None:
    assert base64.b64decode(pyodide[kind]["file"]) == native[kind].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_pyodide_reads_native_files(
    pyodide: Any, native: dict[str, Path], vectors: NDArray[np.float32], kind: str
) -> None:
    assert_same_answers(pyodide[kind]["loaded"], answers(edgevec.Index.load(native[kind]), vectors))


@pytest.mark.parametrize("kind", KINDS)
def test_native_reads_files_of_pyodide(pyodide: Any, vectors: NDArray[np.float32], tmp_path: Path, kind: str) -> None:
    (tmp_path / "index").write_bytes(base64.b64decode(pyodide[kind]["file"]))
    index = edgevec.Index.load(tmp_path / "index")
    assert index.check().ok
    assert_same_answers(answers(index, vectors), pyodide[kind]["built"])


def assert_same_answers(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same distances within the bound; ids may swap only where distances tie."""
    distances = np.array(one["distances"]), np.array(other["distances"])
    np.testing.assert_allclose(distances[0], distances[1], rtol=0, atol=FLOAT_BOUND)
    differ = np.array(one["ids"]) != np.array(other["ids"])
    gaps = np.abs(np.diff(distances[0], axis=1, append=np.inf))
    close = (gaps <= 2 * FLOAT_BOUND) | (np.roll(gaps, 1, axis=1) <= 2 * FLOAT_BOUND)
    assert not (differ & ~close).any()
