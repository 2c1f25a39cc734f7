"""What readers give is what the libraries that own the formats read: of generated files, and of damaged ones."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import OWN, ROWS, WRITERS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import need_module

from edgevec import DataFormatError, Dataset, read_vectors

DTYPES = ["<f4", ">f4", "<f8", "<f2", "i1", "u1", "<i2", ">i4", "<u8", "<i8"]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


def matrices(dtypes: list[str]) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 5))
    return st.sampled_from(dtypes).flatmap(lambda dtype: arrays(dtype, shapes))


def as_float32(rows: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(rows).astype(np.float32)


def reads(name: str, write: Callable[[Path], object], oracle: Callable[[Path], Any], **options: Any) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        found = read_vectors(path, **options)
        np.testing.assert_array_equal(found.vectors, as_float32(oracle(path)))
        return found


@given(rows=matrices(DTYPES), fortran=st.booleans())
def test_npy_is_what_numpy_loads(rows: np.ndarray, fortran: bool) -> None:
    reads("v.npy", lambda path: np.save(path, np.asarray(rows, order="F" if fortran else "C")), np.load)


@given(
    rows=matrices(DTYPES),
    data=st.data(),
    kinds=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["<i8", "<f8", "?", "<U3", "<M8[s]"]), max_size=3),
)
def test_npz_is_what_numpy_loads(rows: np.ndarray, data: st.DataObject, kinds: dict[str, str]) -> None:
    columns = {name: data.draw(arrays(kind, len(rows), elements=elements(kind))) for name, kind in kinds.items()}
    found = reads(
        "v.npz", lambda path: np.savez_compressed(path, vectors=rows, **columns), lambda path: np.load(path)["vectors"]
    )
    for name, column in columns.items():
        assert found.metadata is not None
        held = [record[name] for record in found.metadata]
        if column.dtype.kind == "M":
            held = [np.datetime64(value, "s") for value in held]
        assert held == list(column)


def elements(kind: str) -> Any:
    if kind == "<f8":
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind == "<M8[s]":
        return st.integers(0, 2**32).map(lambda seconds: np.datetime64(seconds, "s"))
    return st.text("abé", max_size=3) if kind == "<U3" else None


@given(rows=matrices(DTYPES), numbers=st.data())
def test_hdf5_is_what_h5py_reads(rows: np.ndarray, numbers: st.DataObject) -> None:
    h5py = need_module("h5py")
    years = numbers.draw(st.lists(st.integers(0, 3000), min_size=len(rows), max_size=len(rows)))
    words = numbers.draw(st.lists(TEXT, min_size=len(rows), max_size=len(rows)))

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("group/vectors", data=rows, chunks=(1, rows.shape[1]), compression="gzip")
            file["years"] = years
            file["words"] = np.array(words, h5py.string_dtype())

    def oracle(path: Path) -> Any:
        with h5py.File(path) as file:
            return file["group/vectors"][:]

    found = reads("v.hdf5", write, oracle)
    assert found.metadata == [{"years": year, "words": word} for year, word in zip(years, words, strict=True)]


RECORD = st.fixed_dictionaries(
    {
        "word": st.none() | TEXT,
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.none() | st.booleans(),
        "tags": st.none() | st.lists(TEXT, max_size=2),
    }
)


@given(rows=matrices(["<f4", "<f8", "<i4", "u1"]), records=st.data(), suffix=st.sampled_from(["parquet", "arrow"]))
def test_tables_are_what_pyarrow_reads(rows: np.ndarray, records: st.DataObject, suffix: str) -> None:
    pyarrow = need_module("pyarrow")
    parquet, feather = need_module("pyarrow.parquet"), need_module("pyarrow.feather")
    held = records.draw(st.lists(RECORD, min_size=len(rows), max_size=len(rows)))
    types = {
        "word": pyarrow.string(),
        "count": pyarrow.int64(),
        "share": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "tags": pyarrow.list_(pyarrow.string()),
    }
    columns = {name: pyarrow.array([record[name] for record in held], kind) for name, kind in types.items()}
    table = pyarrow.table(
        {**columns, "v": pyarrow.array(list(rows), pyarrow.list_(pyarrow.from_numpy_dtype(rows.dtype)))}
    )
    if suffix == "parquet":
        write: Any = lambda path: parquet.write_table(table, path, row_group_size=2)  # noqa: E731
        read: Any = parquet.read_table
    else:
        write, read = lambda path: feather.write_feather(table, str(path)), lambda path: feather.read_table(str(path))
    found = reads(f"v.{suffix}", write, lambda path: read(path)["v"].to_pylist())
    assert found.metadata == held


@given(rows=matrices(["<f4", "<f8", "<f2", "<i4", "u1"]), column=st.data())
def test_safetensors_are_what_the_library_loads(rows: np.ndarray, column: st.DataObject) -> None:
    safetensors = need_module("safetensors.numpy")
    years = column.draw(arrays("<i8", len(rows)))
    tensors = {"v": np.ascontiguousarray(rows), "year": years}
    found = reads(
        "v.safetensors",
        lambda path: safetensors.save_file(tensors, path),
        lambda path: safetensors.load_file(path)["v"],
    )
    assert found.metadata == [{"year": int(year)} for year in years]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@given(
    rows=matrices(["<f8", "<i4"]),
    fields=st.data(),
    packed=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_lines_of_json_are_what_json_loads(rows: np.ndarray, fields: st.DataObject, packed: bool, ends: str) -> None:
    names = st.text("xyzé[{", min_size=1, max_size=3)
    records = [fields.draw(st.dictionaries(names, JSON.filter(is_no_vector), max_size=3)) for _ in rows]
    lines = [json.dumps({**record, "vector": row.tolist()}) for record, row in zip(records, rows, strict=True)]
    text = ends.join(lines).encode()
    found = reads(
        "v.jsonl.gz" if packed else "v.jsonl",
        lambda path: path.write_bytes(gzip.compress(text) if packed else text),
        lambda path: [json.loads(line)["vector"] for line in lines],
    )
    assert (found.metadata or [{}] * len(rows)) == records


def is_no_vector(value: Any) -> bool:
    return not (isinstance(value, list) and value and {type(one) for one in value} <= {int, float})


@given(rows=matrices(["<f8", "<i4"]), delimiter=st.sampled_from(",;\t"))
def test_csv_is_what_pandas_reads(rows: np.ndarray, delimiter: str) -> None:
    pandas = need_module("pandas")
    finite = np.nan_to_num(rows, nan=0, posinf=1e300, neginf=-1e300) if rows.dtype.kind == "f" else rows
    frame = pandas.DataFrame(finite, columns=[f"x{at}" for at in range(rows.shape[1])])
    reads(
        "v.csv",
        lambda path: frame.to_csv(path, index=False, sep=delimiter, float_format="%.17g"),
        lambda path: pandas.read_csv(path, sep=delimiter, dtype=str).to_numpy().astype(np.float64),
    )


# ---- damaged files


def texmex(data: bytes) -> np.ndarray:
    dim = int.from_bytes(data[:4], "little", signed=True)
    rows = [data[at : at + 4 + 4 * dim] for at in range(0, len(data), 4 + 4 * dim)]
    assert all(row[:4] == data[:4] for row in rows)
    return np.array([np.frombuffer(row[4:], "<f4") for row in rows])


def lines_of_json(data: bytes) -> list[Any]:
    records = [json.loads(line) for line in data.decode("utf-8-sig").split("\n") if line.strip()]
    (field,) = {
        name
        for record in records[:1]
        for name in (record if isinstance(record, dict) else [])
        if not is_no_vector(record[name])
    } or {None}
    return [record if field is None else record[field] for record in records]


READ_BY_OTHERS: dict[str, Callable[[bytes], Any]] = {
    "v.npy": lambda data: np.load(io.BytesIO(data)),
    "v.npz": lambda data: next(iter(np.load(io.BytesIO(data)).values())),
    "v.fvecs": texmex,
    "v.jsonl": lines_of_json,
    "v.jsonl.gz": lambda data: lines_of_json(gzip.decompress(data)),
    "v.safetensors": lambda data: next(iter(need_module("safetensors.numpy").load(data).values())),
}


@pytest.mark.parametrize("name", READ_BY_OTHERS)
def test_what_is_read_of_a_damaged_file_is_what_is_there(tmp_path: Path, name: str) -> None:
    """A changed byte is refused, or gives what another reader reads; some of them give vectors."""
    WRITERS[name](tmp_path / name, ROWS)
    whole = (tmp_path / name).read_bytes()
    rng, read = np.random.default_rng(2), 0
    for at in range(400):
        damaged = bytearray(whole)
        damaged[at if at < len(whole) else rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            found = read_vectors(tmp_path / name)
        except DataFormatError:
            continue
        read += 1
        np.testing.assert_array_equal(found.vectors, as_float32(READ_BY_OTHERS[name](bytes(damaged))))
    assert read > 0
    assert name in OWN or name == "v.safetensors"
