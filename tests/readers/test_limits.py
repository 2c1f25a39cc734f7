"""The limits of readers, which the guide of files of vectors states: at them all is well, beyond is an error."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import ROWS, write_texmex
from support import ROOT, need_module

from edgevec import DataFormatError, Dataset, EdgevecError, read_vectors
from edgevec.readers import Request, cells, csv_table, fvecs, npy, text_lines
from edgevec.readers.request import MAX_EXPANSION


def read(tmp_path: Path, name: str, data: bytes | str) -> Dataset:
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return read_vectors(tmp_path / name)


def peak(tmp_path: Path, name: str, data: bytes) -> int:
    """How much memory Python takes to refuse a file."""
    (tmp_path / name).write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataFormatError, match=name):
            read_vectors(tmp_path / name)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "limit",
    [
        text_lines.MAX_LINE,
        text_lines._MAX_DEPTH,
        csv_table._MAX_COLUMNS,
        fvecs._MAX_DIM,
        npy._MAX_HEADER,
        MAX_EXPANSION,
    ],
)
def test_a_limit_is_stated(limit: int) -> None:
    guide = ROOT / "docs" / "guides" / "files-of-vectors.md"
    if not guide.is_file():
        pytest.skip("the documentation is not beside the tests")
    assert f"{limit:,}" in guide.read_text(encoding="utf-8")


# ---- lines of text


@pytest.mark.parametrize("name", ["v.jsonl", "v.jsonl.gz", "v.csv"])
def test_the_length_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE", 1000)
    line = {"v.csv": "1,2," + "x" * 994, "v.jsonl": "[1, 2" + " " * 992 + "]"}[name.removesuffix(".gz")] + "\n"
    assert len(line) == 999
    pack = gzip.compress if name.endswith(".gz") else bytes
    assert len(read(tmp_path, name, pack((line * 3).encode()))) == 3
    longer = line[:-2] + " " + line[-2:]
    with pytest.raises(DataFormatError, match="a line is longer than 1,000 characters"):
        read(tmp_path, name, pack((line + longer).encode()))


def test_a_few_bytes_of_gzip_cannot_hold_an_endless_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE", 1 << 16)
    bomb = gzip.compress(b"[" + b" " * (64 << 20))
    assert len(bomb) < 100_000
    assert peak(tmp_path, "v.jsonl.gz", bomb) < 8 << 20


def test_the_depth_of_json(tmp_path: Path) -> None:
    levels = text_lines._MAX_DEPTH
    brackets = "[], " * levels  # so many that they are counted
    for deep in (levels - 1, levels):
        line = f'{{"vector": [1], "a": [{brackets} {"[" * (deep - 2)}{"]" * (deep - 2)}]}}'
        assert len(read(tmp_path, "v.jsonl", line)) == 1
    with pytest.raises(DataFormatError, match="line 1: nested more than 256 levels deep"):
        read(tmp_path, "v.jsonl", f'{{"vector": [1], "a": [{brackets} {"[" * (levels - 1)}{"]" * (levels - 1)}]}}')


def test_brackets_in_texts_do_not_count(tmp_path: Path) -> None:
    """As of a log whose lines are colored: each color begins with one."""
    text = 'a "b" \\ \x1b[31m' * 1000
    found = read(tmp_path, "v.jsonl", json.dumps({"vector": [1], "text": text}))
    assert found.texts == [text]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 4300, "1" + "0" * 4300, "123" * 10_000])
def test_numbers_of_any_size_are_read_or_refused(tmp_path: Path, number: str) -> None:
    for name, text in (
        ("v.jsonl", f"[1, {number}]"),
        ("w.jsonl", f'{{"vector": [1], "id": {number}}}'),
        ("v.csv", f"x0,x1,n\n1,{number},2\n"),
        ("w.csv", f"x0,x1,n\n1,2,{number}\n"),
        ("x.csv", f"x0,x{number},n\n1,2,3\n"),
        ("y.csv", f'id,v\n{number},"[1, {number}]"\n'),
    ):
        try:
            assert len(read(tmp_path, name, text)) == 1
        except DataFormatError as error:
            refused = str(error)
            assert len(refused) < 300


@pytest.mark.parametrize(("id", "fits"), [(2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)])
def test_ids_have_64_bits(tmp_path: Path, id: int, fits: bool) -> None:
    text = json.dumps({"id": id, "vector": [1]})
    if not fits:
        with pytest.raises(DataFormatError, match="does not fit in int64"):
            read(tmp_path, "v.jsonl", text)
        return
    ids = read(tmp_path, "v.jsonl", text).ids
    assert ids is not None
    assert ids.tolist() == [id]


def test_the_columns_of_a_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_MAX_COLUMNS", 9)
    assert read(tmp_path, "v.csv", "1,2,3,4,5,6,7,8,9\n").dim == 9
    with pytest.raises(DataFormatError, match="has 10 columns; the limit is 9"):
        read(tmp_path, "v.csv", "1,2,3,4,5,6,7,8,9,10\n")


def test_a_name_of_many_digits_takes_no_longer_than_another(tmp_path: Path) -> None:
    """A regular expression that tries each digit as the first of a number takes hours for a million of them."""
    digits = "1" * 1_000_000
    assert read(tmp_path, "v.csv", f"x0,x1,{digits}x\n1,2,3\n").metadata == [{f"{digits}x": 3}]
    assert cells._numbered("x" + "1" * 18) == ("x", int("1" * 18))
    assert cells._numbered("x" + "1" * 19) is None


# ---- binary files


def test_the_dimensions_of_fvecs(tmp_path: Path) -> None:
    most = fvecs._MAX_DIM
    write_texmex(tmp_path / "v.bvecs", np.ones((2, most)), "u1")
    assert read_vectors(tmp_path / "v.bvecs").dim == most
    write_texmex(tmp_path / "v.bvecs", np.ones((2, most + 1)), "u1")
    with pytest.raises(DataFormatError, match="declares 65,536 elements"):
        read_vectors(tmp_path / "v.bvecs")


def npy_of(header: bytes, data: bytes, size: int | None = None) -> bytes:
    return b"\x93NUMPY\x02\0" + struct.pack("<I", len(header) if size is None else size) + header + data


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)}"


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_what_a_shape_claims_is_there(tmp_path: Path) -> None:
    assert len(read(tmp_path, "v.npy", npy_of(HEADER, bytes(24)))) == 3
    with pytest.raises(DataFormatError, match="truncated: 23 of 24 bytes"):
        read(tmp_path, "v.npy", npy_of(HEADER, bytes(23)))
    assert len(read(tmp_path, "v.npz", zip_of({"v.npy": npy_of(HEADER, bytes(24))}))) == 3
    with pytest.raises(DataFormatError, match="truncated"):
        read(tmp_path, "v.npz", zip_of({"v.npy": npy_of(HEADER, bytes(23))}))


def test_the_header_of_an_array(tmp_path: Path) -> None:
    """NumPy would read the 4 GB that a header declares before it refuses one of more than 10,000 characters."""
    assert len(read(tmp_path, "v.npy", npy_of(HEADER.ljust(10_000), bytes(24)))) == 3
    for size in (npy._MAX_HEADER + 1, 2**32 - 1):
        bomb = npy_of(HEADER, bytes(64 << 20), size)
        assert peak(tmp_path, "v.npz", zip_of({"v.npy": bomb})) < 8 << 20
        with pytest.raises(DataFormatError, match=f"header has {size:,} bytes; the limit is 65,536"):
            read(tmp_path, "v.npy", bomb[: 1 << 20])


def test_what_an_archive_can_hold(tmp_path: Path) -> None:
    request = Request(tmp_path / "v.npz")
    request.check_claim(10 * MAX_EXPANSION, 10)
    with pytest.raises(DataFormatError, match="declares 10,321 bytes of data but contains 10"):
        request.check_claim(10 * MAX_EXPANSION + 1, 10)


@pytest.mark.filterwarnings("ignore:Overlapped entries:UserWarning")  # zipfile's own, of Python 3.14
def test_members_of_an_archive_share_no_bytes(tmp_path: Path) -> None:
    """A file of 200 KB whose 200 names lead to one array of 20 MB: 4 GB in all."""
    rows = 5_000_000
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 1)}}".encode()
    column = header.replace(f"({rows}, 1)".encode(), f"({rows},)  ".encode())
    whole = zip_of({"vectors.npy": npy_of(header, bytes(4 * rows)), "x000.npy": npy_of(column, bytes(4 * rows))})
    begin = whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 1)
    end = whole.index(b"PK\5\6")
    first, entry = whole[whole.index(b"PK\1\2") : begin], whole[begin:end]
    entries = first + b"".join(entry.replace(b"x000", f"x{at:03}".encode()) for at in range(200))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 201, 201, len(entries), whole.index(b"PK\1\2"), 0)
    bomb = whole[: whole.index(b"PK\1\2")] + entries + tail
    assert len(bomb) < 300_000
    assert peak(tmp_path, "v.npz", bomb) < 8 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_of_other_compressions_are_read_or_refused(tmp_path: Path, method: int) -> None:
    pytest.importorskip("bz2" if method == zipfile.ZIP_BZIP2 else "lzma", reason="this Python has none")
    data = npy_of(HEADER, np.arange(6, dtype="<f4").tobytes())
    whole = zip_of({"v.npy": data}, method)
    assert read(tmp_path, "v.npz", whole).vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    for at in range(30, whole.index(b"PK\1\2")):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        try:
            read(tmp_path, "v.npz", bytes(damaged))
        except EdgevecError as error:
            refused = str(error)
            assert len(refused.splitlines()) == 1


def test_pickled_objects_are_named_and_never_loaded(tmp_path: Path) -> None:
    objects = npy_of(HEADER.replace(b"<f4", b"|O").replace(b"(3, 2)", b"(3,)  "), b"\x80\x04N.")
    found = read(tmp_path, "v.npz", zip_of({"v.npy": npy_of(HEADER, bytes(24)), "o.npy": objects}))
    assert list(found.unread) == ["o"]
    with pytest.raises(DataFormatError):
        read(tmp_path, "v.npz", zip_of({"o.npy": objects}))


# ---- what other libraries parse


def test_links_of_hdf5_are_not_followed(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["secret"] = ROWS
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file["vectors"] = ROWS
        file["same"] = file["vectors"]  # another name of one dataset, which is visited once
        file["soft"] = h5py.SoftLink("/vectors")
        file["gone"] = h5py.SoftLink("/nothing")
        file["out"] = h5py.ExternalLink("other.hdf5", "secret")
        file["group/self"] = file["/"]
    found = read_vectors(tmp_path / "v.hdf5")
    np.testing.assert_array_equal(found.vectors, ROWS)
    with pytest.raises(DataFormatError, match="no dataset of vectors is called 'out'"):
        read_vectors(tmp_path / "v.hdf5", column="out")


def test_data_of_hdf5_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    layout = h5py.VirtualLayout(ROWS.shape, ROWS.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "secret", ROWS.shape)
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file.create_virtual_dataset("vectors", layout)
    with pytest.raises(DataFormatError, match="stores its data in other files"):
        read_vectors(tmp_path / "v.hdf5")


def test_a_dataset_of_hdf5_that_is_not_stored_is_refused(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file.create_dataset("vectors", (1 << 30, 1 << 10), "f4", chunks=(1, 1 << 10))
    assert peak(tmp_path, "w.hdf5", (tmp_path / "v.hdf5").read_bytes()) < 8 << 20


def test_types_of_hdf5_that_numpy_has_not_are_named(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file["train"], file["test"] = ROWS, ROWS
        space = h5py.h5s.create_simple((len(ROWS),))
        h5py.h5d.create(file.id, b"when", h5py.h5t.UNIX_D32LE, space)
    assert "when" in read_vectors(tmp_path / "v.hdf5").unread
    with h5py.File(tmp_path / "v.hdf5", "a") as file:
        h5py.h5d.create(file.id, b"neighbors", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((4, 2)))
    with pytest.raises(DataFormatError, match="'neighbors' does not hold integers"):
        read_vectors(tmp_path / "v.hdf5")
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        h5py.h5d.create(file.id, b"train", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((4, 2)))
    with pytest.raises(DataFormatError, match="no dataset of vectors"):
        read_vectors(tmp_path / "w.hdf5")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 1 << 20, 1 << 40, 2**64 - 1])
def test_the_header_of_safetensors(tmp_path: Path, size: int) -> None:
    need_module("safetensors")
    assert peak(tmp_path, "v.safetensors", struct.pack("<Q", size) + b"{}") < 8 << 20


def test_names_of_a_file_are_shown_in_one_line_and_few_of_them(tmp_path: Path) -> None:
    record: dict[str, Any] = {f"a\nb\x1b[2J{at}": [1.0] for at in range(1000)}
    with pytest.raises(DataFormatError, match="and 988 more") as caught:
        read(tmp_path, "v.jsonl", json.dumps(record))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
