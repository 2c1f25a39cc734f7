"""Each format that read_vectors knows: its number types, its ids and metadata, and what it must refuse."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import IDS, OWN, ROWS, TEXTS, WRITERS, assert_is_rows, write_csv, write_jsonl, write_texmex
from support import need_module

from edgevec import DataFormatError, read_vectors
from edgevec.readers import Request, read_pieces

# ---- NumPy


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", "<i2", ">i4", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_every_number_type(tmp_path: Path, dtype: str, order: Any) -> None:
    rows = np.asarray(np.arange(35).reshape(7, 5), dtype, order=order)
    np.save(tmp_path / "v.npy", rows)
    assert_is_rows(read_vectors(tmp_path / "v.npy"), rows)
    assert_is_rows(read_vectors(tmp_path / "v.npy", limit=3), rows[:3])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3.0),
        np.zeros((2, 3, 4)),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.float32(1),
        np.zeros((2, 2), complex),
        np.ones((2, 2), bool),
        np.array([["a", "b"]]),
        np.zeros((2, 2), [("x", "f4")]),
        np.array([[object()]]),
    ],
)
def test_npy_of_something_else_is_refused(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "v.npy", array, allow_pickle=True) if array.dtype != object else (
        tmp_path / "v.npy"
    ).write_bytes(npy_bytes("(1, 1)", b"\x80\x04N.", descr="'|O'"))
    with pytest.raises(DataFormatError, match=r"v\.npy"):
        read_vectors(tmp_path / "v.npy")


def npy_bytes(shape: str, data: bytes, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def peak_of_refusal(path: Path) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataFormatError):
            read_vectors(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_file_cannot_make_the_reader_take_memory_that_it_does_not_hold(tmp_path: Path) -> None:
    hostile = {
        "huge.npy": npy_bytes("(1000000000, 1000)", bytes(64)),
        "negative.npy": npy_bytes("(-1, -4)", bytes(64)),
        "wide.fvecs": struct.pack("<i", 0x7FFFFFFF) + bytes(64),
        "negative.fvecs": struct.pack("<i", -4) + bytes(64),
        "zero.bvecs": bytes(64),
        "huge.npz": zip_of("vectors.npy", npy_bytes("(1000000000, 1000)", bytes(64))),
        "column.npz": zip_of("vectors.npy", npy_bytes("(4000000000,)", bytes(64), "'<U4'")),
        "huge.safetensors": struct.pack("<Q", 1 << 62) + b"{}",
    }
    need_module("safetensors")
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
        assert peak_of_refusal(tmp_path / name) < 4 << 20, name


def zip_of(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def test_limit_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((40_000, 128), np.float32))
    tracemalloc.start()
    read_vectors(tmp_path / "v.npy", limit=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_npz_with_ids_and_metadata(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "v.npz", emb=ROWS, ids=np.array(IDS), text=np.array(TEXTS), year=np.arange(4), other=np.ones((2, 2))
    )
    dataset = read_vectors(tmp_path / "v.npz")
    assert_is_rows(dataset)
    assert dataset.ids is not None
    assert dataset.ids.tolist() == IDS
    assert dataset.texts == TEXTS
    assert dataset.metadata is not None
    assert dataset.metadata[3] == {"text": "oak", "year": 3}
    assert_is_rows(read_vectors(tmp_path / "v.npz", column="other"), np.ones((2, 2)))


def test_npz_asks_when_it_cannot_tell(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", left=ROWS, right=ROWS)
    with pytest.raises(DataFormatError, match="could hold the vectors: left, right; name one with column="):
        read_vectors(tmp_path / "v.npz")
    with pytest.raises(DataFormatError, match="'middle'; found left, right"):
        read_vectors(tmp_path / "v.npz", column="middle")


def test_npz_never_loads_pickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(DataFormatError):
        read_vectors(tmp_path / "v.npz")


def test_an_id_of_more_than_63_bits_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=ROWS[:1], ids=np.array([2**63], np.uint64))
    with pytest.raises(DataFormatError, match="does not fit in int64"):
        read_vectors(tmp_path / "v.npz")


# ---- TEXMEX


@pytest.mark.parametrize(("suffix", "element"), [(".fvecs", "<f4"), (".bvecs", "u1"), (".ivecs", "<i4")])
def test_files_of_texmex_are_read(tmp_path: Path, suffix: str, element: str) -> None:
    rows = np.arange(50).reshape(10, 5)
    write_texmex(tmp_path / f"v{suffix}", rows, element)
    assert_is_rows(read_vectors(tmp_path / f"v{suffix}"), rows)


def test_texmex_of_uneven_rows_names_the_row(tmp_path: Path) -> None:
    write_texmex(tmp_path / "v.fvecs", ROWS, "<f4")
    data = bytearray((tmp_path / "v.fvecs").read_bytes())
    data[2 * 16 : 2 * 16 + 4] = struct.pack("<i", 2)
    (tmp_path / "v.fvecs").write_bytes(data)
    with pytest.raises(DataFormatError, match="row 2: expected 3 elements, found 2"):
        read_vectors(tmp_path / "v.fvecs")
    assert_is_rows(read_vectors(tmp_path / "v.fvecs", limit=2), ROWS[:2])


# ---- HDF5


def test_hdf5_as_ann_benchmarks_writes_it(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    for distance, metric in (("angular", "cosine"), ("euclidean", "l2"), ("dot", "ip")):
        with h5py.File(tmp_path / "set.hdf5", "w") as file:
            file["train"], file["test"] = ROWS, ROWS[:2] + 1
            file["neighbors"], file["distances"] = np.array([[0, 1], [1, 0]], np.int32), np.zeros((2, 2))
            file.attrs["distance"] = distance
        dataset = read_vectors(tmp_path / "set.hdf5")
        assert_is_rows(dataset)
        assert dataset.metric == metric
        assert dataset.queries is not None
        assert np.array_equal(dataset.queries, ROWS[:2] + 1)
        assert dataset.neighbors is not None
        assert dataset.neighbors.tolist() == [[0, 1], [1, 0]]
        assert read_vectors(tmp_path / "set.hdf5", limit=2).neighbors is None  # they speak of all rows


def test_hdf5_with_columns_groups_and_other_distances(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["group/vectors"], file["group/other"] = ROWS, ROWS * 2
        file["id"], file["text"] = IDS, TEXTS
    with pytest.raises(DataFormatError, match="group/other, group/vectors"):
        read_vectors(tmp_path / "v.h5")
    dataset = read_vectors(tmp_path / "v.h5", column="group/other")
    assert_is_rows(dataset, ROWS * 2)
    assert dataset.ids is not None
    assert (dataset.ids.tolist(), dataset.texts) == (IDS, TEXTS)
    with h5py.File(tmp_path / "v.h5", "a") as file:
        file.attrs["distance"] = "jaccard"
    with pytest.raises(DataFormatError, match="jaccard"):
        read_vectors(tmp_path / "v.h5", column="group/other")


def test_hdf5_that_claims_rows_which_it_never_stored(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("train", (1_000_000_000, 100), "f4", chunks=(100, 100))
    assert peak_of_refusal(tmp_path / "v.h5") < 4 << 20


def test_hdf5_that_points_to_other_files(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    (tmp_path / "secret").write_bytes(bytes(48))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("train", (4, 3), "f4", external=[(str(tmp_path / "secret"), 0, 48)])
    with pytest.raises(DataFormatError, match="other files"):
        read_vectors(tmp_path / "v.h5")


# ---- Arrow


@pytest.mark.parametrize("name", ["v.parquet", "v.feather", "v.arrow"])
def test_arrow_with_ids_and_metadata(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    dataset = read_vectors(tmp_path / name)
    assert dataset.ids is not None
    assert dataset.ids.tolist() == IDS
    assert dataset.texts == TEXTS
    assert dataset.metadata == [{"text": text} for text in TEXTS]


@pytest.mark.parametrize("element", ["float16", "float32", "float64", "int8", "uint16"])
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
def test_arrow_lists_of_every_kind(tmp_path: Path, kind: str, element: str) -> None:
    pa = need_module("pyarrow")
    item = getattr(pa, element)()
    rows = np.arange(60).reshape(20, 3) % 100
    type_ = {"list": pa.list_(item), "large_list": pa.large_list(item), "fixed": pa.list_(item, 3)}[kind]
    column = pa.array([np.asarray(row, element) for row in rows], type_)
    need_module("pyarrow.feather").write_feather(pa.table({"v": column}), str(tmp_path / "v.feather"), chunksize=7)
    assert_is_rows(read_vectors(tmp_path / "v.feather"), rows)
    assert_is_rows(read_vectors(tmp_path / "v.feather", limit=9), rows[:9])


@pytest.mark.parametrize("name", ["v.parquet", "v.arrow"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], [3.0]], "row 1: expected 2 elements, found 1"),
        ([[1.0, 2.0], None], "row 1: the vector is missing"),
        ([[1.0, 2.0], [3.0, None]], "row 1: an element of the vector is missing"),
        ([[]], "row 0: the vector is empty"),
        ([], "contains no vectors"),
    ],
)
def test_arrow_names_the_bad_row(tmp_path: Path, name: str, rows: list[Any], message: str) -> None:
    pa = need_module("pyarrow")
    table = pa.table({"v": pa.array(rows, pa.list_(pa.float32()))})
    if name == "v.parquet":
        need_module("pyarrow.parquet").write_table(table, tmp_path / name)
    else:
        with pa.ipc.new_stream(str(tmp_path / name), table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(DataFormatError, match=message):
        read_vectors(tmp_path / name)


def test_arrow_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    WRITERS["v.arrow"](tmp_path / "v.arrow", ROWS)
    data = (tmp_path / "v.arrow").read_bytes()
    (tmp_path / "v.arrow").write_bytes(data.replace(b"embedding", b"\xff" * 9))
    with pytest.raises(DataFormatError, match=r"v\.arrow: damaged"):
        read_vectors(tmp_path / "v.arrow")


def test_parquet_without_vectors(tmp_path: Path) -> None:
    pa = need_module("pyarrow")
    need_module("pyarrow.parquet").write_table(pa.table({"text": ["a"], "tags": [["b"]]}), tmp_path / "v.parquet")
    with pytest.raises(DataFormatError, match="no column of vectors"):
        read_vectors(tmp_path / "v.parquet")


# ---- safetensors


def test_safetensors_with_ids_and_metric(tmp_path: Path) -> None:
    tensors = {"weights": ROWS.astype(np.float16), "ids": np.array(IDS)}
    need_module("safetensors.numpy").save_file(tensors, tmp_path / "v.safetensors", metadata={"metric": "ip"})
    dataset = read_vectors(tmp_path / "v.safetensors", limit=3)
    assert_is_rows(dataset, ROWS[:3])
    assert dataset.ids is not None
    assert dataset.ids.tolist() == IDS[:3]
    assert dataset.metric == "ip"


def safetensors_bytes(dtype: str, shape: list[int], data: bytes) -> bytes:
    header = json.dumps({"v": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_safetensors_of_bfloat16(tmp_path: Path) -> None:
    need_module("safetensors")
    upper_halves = ROWS.view(np.uint16)[:, 1::2]  # exact: the values have few bits
    (tmp_path / "v.safetensors").write_bytes(safetensors_bytes("BF16", [4, 3], upper_halves.tobytes()))
    assert_is_rows(read_vectors(tmp_path / "v.safetensors"))


def test_safetensors_of_other_types_is_refused(tmp_path: Path) -> None:
    need_module("safetensors")
    for dtype, size in (("F8_E4M3", 1), ("BOOL", 1), ("C64", 8)):
        (tmp_path / "v.safetensors").write_bytes(safetensors_bytes(dtype, [2, 2], bytes(4 * size)))
        with pytest.raises(DataFormatError, match=dtype):
            read_vectors(tmp_path / "v.safetensors")


# ---- JSON lines


def test_jsonl_with_ids_and_metadata(tmp_path: Path) -> None:
    records = [
        {"id": id, "title": text, "vector": row, "tags": [1, 2]}
        for id, text, row in zip(IDS, TEXTS, ROWS.tolist(), strict=True)
    ]
    write_jsonl(tmp_path / "v.jsonl.gz", records)
    dataset = read_vectors(tmp_path / "v.jsonl.gz")
    assert_is_rows(dataset)
    assert dataset.ids is not None
    assert dataset.ids.tolist() == IDS
    assert dataset.texts == TEXTS
    assert dataset.metadata is not None
    assert dataset.metadata[1] == {"title": "líme", "tags": [1, 2]}
    assert_is_rows(read_vectors(tmp_path / "v.jsonl.gz", column="tags"), np.array([[1, 2]] * 4))


def test_jsonl_of_bare_lists_blank_lines_and_text_ids(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text("[1, 2.5]\n\n  \n[3, 4]\n")
    dataset = read_vectors(tmp_path / "v.jsonl")
    assert dataset.vectors.tolist() == [[1, 2.5], [3, 4]]
    assert dataset.metadata is None
    write_jsonl(tmp_path / "v.jsonl", [{"id": "x", "v": [1]}, {"id": 2, "v": [1]}])
    dataset = read_vectors(tmp_path / "v.jsonl")
    assert dataset.ids is None
    assert dataset.metadata == [{"id": "x"}, {"id": 2}]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"v": [1, 2, 3]}', "line 2: expected 2 elements, found 3"),
        ('{"v": [1, "x"]}', "line 2: unexpected 'x' in the vector"),
        ('{"v": [1, true]}', "line 2: unexpected True in the vector"),
        ('{"v": [1, null]}', "line 2: unexpected None in the vector"),
        ('{"v": []}', "line 2: the vector is empty"),
        ('{"v": {}}', "line 2: field 'v' is not a list of numbers"),
        ('{"w": [1, 2]}', "line 2: field 'v' is not a list of numbers"),
        ("{", "line 2: not JSON"),
        ("7", "line 2: expected a JSON object or list, found 7"),
        ("[" * 100_000, "line 2: nested more than 256 levels deep"),
        (f'{{"v": [1, {10**400}]}}', "line 2: a number is too large"),
        (f'{{"v": [1, 1{"0" * 5000}]}}', "line 2: "),
    ],
)
def test_jsonl_names_the_bad_line(tmp_path: Path, second: str, message: str) -> None:
    (tmp_path / "v.jsonl").write_text('{"v": [1, 2]}\n' + second)
    with pytest.raises(DataFormatError, match=message):
        read_vectors(tmp_path / "v.jsonl")
    assert len(read_vectors(tmp_path / "v.jsonl", limit=1)) == 1


def test_jsonl_nested_too_deep(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"vector": [1, 2], "note": ' + "[" * 30_000 + "]" * 30_000 + "}\n")
    with pytest.raises(DataFormatError, match=r"line 1: .*nested"):
        read_vectors(tmp_path / "v.jsonl")
    flat = {"vector": [1, 2], "many": [[]] * 1000, "text": "]["}  # many brackets, none deep
    (tmp_path / "w.jsonl").write_text(json.dumps(flat) + "\n")
    assert read_vectors(tmp_path / "w.jsonl").metadata == [{"many": [[]] * 1000, "text": "]["}]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"{}", b'{"v": "x"}', b'{"a": [1], "b": [2]}', b"\xff\xfe[1]"])
def test_jsonl_without_vectors(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "v.jsonl").write_bytes(data)
    with pytest.raises(DataFormatError):
        read_vectors(tmp_path / "v.jsonl")


# ---- CSV


def test_csv_of_numbered_columns_with_ids_and_metadata(tmp_path: Path) -> None:
    table = [["id", "text", "year", "e0", "e1", "e2"]]
    table += [[id, text, 1990, *row] for id, text, row in zip(IDS, TEXTS, ROWS.tolist(), strict=True)]
    write_csv(tmp_path / "v.csv", table)
    dataset = read_vectors(tmp_path / "v.csv")
    assert_is_rows(dataset)
    assert dataset.ids is not None
    assert dataset.ids.tolist() == IDS
    assert dataset.texts == TEXTS
    assert dataset.metadata is not None
    assert dataset.metadata[0] == {"text": "a plum", "year": 1990}


def test_csv_of_lists_in_a_column(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "v.csv",
        [["name", "vec"], *([text, json.dumps(row)] for text, row in zip("abcd", ROWS.tolist(), strict=True))],
    )
    dataset = read_vectors(tmp_path / "v.csv")
    assert_is_rows(dataset)
    assert dataset.texts == list("abcd")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_without_a_header(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "v.csv").write_text("\n".join(delimiter.join(map(str, row)) for row in ROWS.tolist()))
    assert_is_rows(read_vectors(tmp_path / "v.csv"))


def test_csv_whose_header_counts(tmp_path: Path) -> None:
    write_csv(tmp_path / "v.csv", [["", "0", "1", "2"], *([f"word{at}", *row] for at, row in enumerate(ROWS.tolist()))])
    dataset = read_vectors(tmp_path / "v.csv")
    assert_is_rows(dataset)
    assert dataset.metadata is not None
    assert dataset.metadata[2] == {"": "word2"}


def test_csv_column_names_a_series(tmp_path: Path) -> None:
    write_csv(tmp_path / "v.csv", [["a_0", "a_1", "b_0", "b_1", "b_2"], [1, 2, 3, 4, 5]])
    assert read_vectors(tmp_path / "v.csv").vectors.tolist() == [[3, 4, 5]]
    assert read_vectors(tmp_path / "v.csv", column="a").vectors.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("4,5", "line 3: expected 3 cells, found 2"),
        ("4,5,6,7", "line 3: expected 3 cells, found 4"),
        ("4,abc,6", "line 3, column 'y': not a number: 'abc'"),
        ("4,,6", "line 3, column 'y': not a number: ''"),
    ],
)
def test_csv_names_the_bad_cell(tmp_path: Path, second: str, message: str) -> None:
    (tmp_path / "v.csv").write_text("x,y,z\n1,2,3\n" + second)
    with pytest.raises(DataFormatError, match=message):
        read_vectors(tmp_path / "v.csv")


@pytest.mark.parametrize("text", ["", "\n", "x,y\n", "a,b\nc,d\n", "v\n[1,\n", 'v\n"[1,x]"\n'])
def test_csv_without_vectors(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(DataFormatError):
        read_vectors(tmp_path / "v.csv")


# ---- in pieces


@pytest.mark.parametrize("name", sorted(WRITERS))
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_pieces_together_are_the_whole(tmp_path: Path, name: str, size: int) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    whole = read_vectors(tmp_path / name)
    pieces = list(read_pieces(Request(tmp_path / name), size))
    assert all(0 < len(piece) <= size for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece.vectors for piece in pieces]), whole.vectors)
    found = [row for piece in pieces for row in piece.metadata or []]
    assert found == (whole.metadata or [])
    assert [id for piece in pieces if piece.ids is not None for id in piece.ids.tolist()] == (
        [] if whole.ids is None else whole.ids.tolist()
    )


def test_a_column_has_one_type_in_all_pieces(tmp_path: Path) -> None:
    cells = [("1", "true", "", "7"), ("2", "false", "", ""), ("3.5", "true", "", "8"), ("4", "perhaps", "", "007")]
    lines = [f"{at},{at + 1},{','.join(row)}" for at, row in enumerate(cells)]
    (tmp_path / "v.csv").write_text("x0,x1,year,sure,,code\n" + "\n".join(lines))
    found = [piece.metadata for piece in read_pieces(Request(tmp_path / "v.csv"), 1)]
    assert found == [
        [{"year": year, "sure": sure, "code": code or None}]
        for year, (_, sure, _, code) in zip([1.0, 2.0, 3.5, 4.0], cells, strict=True)
    ]


def test_what_is_wrong_with_a_column_is_told_before_the_first_piece(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("x0,x1,x2\n1,2,\n" + "3,4,5\n" * 3000)
    with pytest.raises(DataFormatError, match="line 2, column 'x2'"):
        next(read_pieces(Request(tmp_path / "v.csv"), 10))
    (tmp_path / "w.csv").write_text("x0,x1,a,a\n" + "3,4,5,6\n" * 3000)
    with pytest.raises(DataFormatError, match="duplicate column 'a'"):
        next(read_pieces(Request(tmp_path / "w.csv"), 10))


@pytest.mark.parametrize("name", ["v.npz", "v.hdf5", "v.safetensors"])
def test_pieces_have_their_part_of_each_column(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = {
        "vectors": np.eye(7, 3, dtype=np.float32),
        "id": np.arange(7)[::-1],
        "year": np.arange(7) * 2,
    }
    if name == "v.npz":
        np.savez_compressed(tmp_path / name, **arrays)
    elif name == "v.hdf5":
        with need_module("h5py").File(tmp_path / name, "w") as file:
            file.update(arrays)
    else:
        arrays["id"] = np.ascontiguousarray(arrays["id"])
        need_module("safetensors.numpy").save_file(arrays, tmp_path / name)
    pieces = list(read_pieces(Request(tmp_path / name), 3))
    assert [piece.ids is not None and piece.ids.tolist() for piece in pieces] == [[6, 5, 4], [3, 2, 1], [0]]
    assert [piece.metadata for piece in pieces] == [
        [{"year": 0}, {"year": 2}, {"year": 4}],
        [{"year": 6}, {"year": 8}, {"year": 10}],
        [{"year": 12}],
    ]


@pytest.mark.parametrize("name", ["v.parquet", "v.hdf5", "v.safetensors", *OWN])
def test_pieces_hold_no_more_than_they_need(tmp_path: Path, name: str) -> None:
    rows = np.random.default_rng(0).standard_normal((4000, 384)).astype(np.float32)
    if name == "v.parquet":
        need_module("pyarrow.parquet").write_table(need_module("pyarrow").table({"v": list(rows)}), tmp_path / name)
    elif name == "v.csv":
        header = ",".join(f"x{at}" for at in range(rows.shape[1]))
        np.savetxt(tmp_path / name, rows, fmt="%.6g", delimiter=",", header=header, comments="")
    else:
        WRITERS[name](tmp_path / name, rows)
    for _ in read_pieces(Request(tmp_path / name), 1):  # what is imported on the way stays
        break
    tracemalloc.start()
    count = sum(len(piece) for piece in read_pieces(Request(tmp_path / name), 200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < rows.nbytes / 3


@pytest.mark.parametrize("name", ["v.parquet", "v.jsonl"])
def test_a_piece_in_order_comes_before_a_damaged_one(tmp_path: Path, name: str) -> None:
    rows: list[Any] = [[1.0, 2.0], [3.0, 4.0], [5.0]]
    if name == "v.jsonl":
        write_jsonl(tmp_path / name, rows)
    else:
        pa = need_module("pyarrow")
        table = pa.table({"v": pa.array(rows, pa.list_(pa.float32()))})
        need_module("pyarrow.parquet").write_table(table, tmp_path / name)
    pieces = read_pieces(Request(tmp_path / name), 2)
    assert next(pieces).vectors.tolist() == rows[:2]
    with pytest.raises(DataFormatError, match=r"(row 2|line 3): expected 2 elements, found 1"):
        next(pieces)
