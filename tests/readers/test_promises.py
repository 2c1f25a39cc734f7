"""What read_vectors promises for every format alike, damaged files included."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from datafiles import BINARY, IDS, NAMES, OWN, ROWS, WRITERS, assert_is_rows
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import need_module

import edgevec
from edgevec import DataFormatError, DataNotFoundError, EdgevecError, MissingExtraError, ParameterError, read_vectors


def read_or_error(path: Path) -> edgevec.Dataset | str:
    """What a damaged file gives: vectors, or a message of one line that names the file, and never anything else."""
    try:
        dataset = read_vectors(path)
    except EdgevecError as error:
        message = str(error)
    else:
        assert dataset.vectors.ndim == 2
        assert min(dataset.vectors.shape) >= 1
        return dataset
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_back_the_vectors(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    dataset = read_vectors(tmp_path / name)
    assert_is_rows(dataset)
    assert dataset.name == "v"
    assert (len(dataset), dataset.dim) == ROWS.shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 99])
def test_limit_gives_the_first_rows(tmp_path: Path, name: str, limit: int) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    dataset = read_vectors(tmp_path / name, limit=limit)
    assert_is_rows(dataset, ROWS[:limit])
    assert dataset.ids is None or dataset.ids.tolist() == IDS[:limit]
    assert dataset.metadata is None or len(dataset.metadata) == min(limit, 4)


@pytest.mark.parametrize("name", NAMES)
def test_progress_counts_up_to_the_total(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    calls: list[tuple[int, int]] = []
    read_vectors(tmp_path / name, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (4, 4)
    assert all(done <= total for done, total in calls)
    assert calls == sorted(calls, key=lambda call: call[0])


@pytest.mark.parametrize("name", ["v.npy", "v.fvecs", "v.hdf5", "v.jsonl", "v.safetensors", "v.parquet"])
def test_a_large_file_is_read_in_pieces(tmp_path: Path, name: str) -> None:
    rows = np.arange(9000 * 300, dtype=np.float32).reshape(9000, 300) % 1000
    if name == "v.parquet":
        rows = rows[:, :2]
        pyarrow = need_module("pyarrow")
        need_module("pyarrow.parquet").write_table(pyarrow.table({"v": rows.tolist()}), tmp_path / name)
    else:
        WRITERS[name](tmp_path / name, rows)
    calls: list[int] = []
    assert_is_rows(read_vectors(tmp_path / name, progress=lambda done, total: calls.append(done)), rows)
    assert len(set(calls)) > 2
    assert calls[-1] == 9000


@pytest.mark.parametrize("name", NAMES)
def test_an_exception_of_progress_stops_the_reading(tmp_path: Path, name: str) -> None:
    class StopReadingError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopReadingError

    WRITERS[name](tmp_path / name, ROWS)
    with pytest.raises(StopReadingError):
        read_vectors(tmp_path / name, progress=stop)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_passed_on(tmp_path: Path, name: str) -> None:
    rows = ROWS.copy()
    rows[2, 1] = np.nan
    rows[3, 0] = np.inf
    WRITERS[name](tmp_path / name, rows)
    assert_is_rows(read_vectors(tmp_path / name), rows)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("v.fvecs", "v.safetensors")])
def test_too_large_for_float32_becomes_infinity(tmp_path: Path, name: str) -> None:
    rows = ROWS.astype(np.float64)
    rows[0, 0] = 1e300
    WRITERS[name](tmp_path / name, rows)
    assert np.isinf(read_vectors(tmp_path / name).vectors[0, 0])


@pytest.mark.parametrize("name", BINARY)
def test_a_truncated_file_is_an_error_at_every_length(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        if name == "v.fvecs" and length and length % 16 == 0:
            continue  # a whole number of rows
        (tmp_path / name).write_bytes(whole[:length])
        outcome = read_or_error(tmp_path / name)
        if isinstance(outcome, edgevec.Dataset):  # what is missing may be padding, or a stream's mark of its end
            assert_is_rows(outcome, ROWS[: len(outcome)])


# The C++ parsers of HDF5 and Arrow are fuzzed by their own projects: one that crashed would end this run.
@pytest.mark.parametrize("name", [*OWN, "v.safetensors"])
def test_no_damage_causes_anything_but_a_clear_error(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(1000):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / name).write_bytes(damaged)
        read_or_error(tmp_path / name)


@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 20)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    name=st.sampled_from(OWN),
)
def test_any_matrix_survives(rows: np.ndarray, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[name](Path(folder) / name, rows)
        assert_is_rows(read_vectors(Path(folder) / name), rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataNotFoundError, match="no such file") as caught:
        read_vectors(tmp_path / name)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "v.npy").mkdir()
    with pytest.raises(edgevec.StorageError, match=r"v\.npy"):
        read_vectors(tmp_path / "v.npy")


def test_an_unknown_ending_names_those_known(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"\.npy .*\.safetensors"):
        read_vectors(tmp_path / "v.xlsx")


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_must_be_positive(tmp_path: Path, limit: int) -> None:
    with pytest.raises(ParameterError, match="limit"):
        read_vectors(tmp_path / "v.npy", limit=limit)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("v.hdf5", "h5py", "hdf5"),
        ("v.parquet", "pyarrow.parquet", "arrow"),
        ("v.arrow", "pyarrow.ipc", "arrow"),
        ("v.safetensors", "safetensors", "safetensors"),
    ],
)
def test_a_missing_library_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'edgevec\[{extra}\]'") as caught:
        read_vectors(tmp_path / name)
    assert isinstance(caught.value, ImportError)
