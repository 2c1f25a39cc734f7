"""Small files of vectors in every format, written by the libraries that own the formats."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support import need_module

import edgevec

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3) / 4
TEXTS = ["a plum", "líme", "", "oak"]
IDS = [7, -3, 2**62, 0]


def assert_is_rows(dataset: edgevec.Dataset, expected: np.ndarray = ROWS) -> None:
    assert dataset.vectors.dtype == np.float32
    assert dataset.vectors.flags.c_contiguous
    assert np.array_equal(dataset.vectors, expected.astype(np.float32), equal_nan=True)


def write_texmex(path: Path, rows: np.ndarray, element: str) -> None:
    with path.open("wb") as file:
        for row in rows:
            file.write(struct.pack("<i", len(row)) + row.astype(element).tobytes())


def write_jsonl(path: Path, records: list[Any]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_hdf5(path: Path, rows: np.ndarray) -> None:
    with need_module("h5py").File(path, "w") as file:
        file["train"] = rows


def table_with(rows: np.ndarray) -> Any:
    pyarrow = need_module("pyarrow")
    return pyarrow.table({"id": IDS[: len(rows)], "text": TEXTS[: len(rows)], "embedding": rows.tolist()})


def write_parquet(path: Path, rows: np.ndarray) -> None:
    need_module("pyarrow.parquet").write_table(table_with(rows), path, row_group_size=3)


def write_feather(path: Path, rows: np.ndarray) -> None:
    need_module("pyarrow.feather").write_feather(table_with(rows), str(path), chunksize=3)


def write_arrow_stream(path: Path, rows: np.ndarray) -> None:
    table = table_with(rows)
    with need_module("pyarrow").ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=3)


def write_safetensors(path: Path, rows: np.ndarray) -> None:
    need_module("safetensors.numpy").save_file({"embedding": np.ascontiguousarray(rows, np.float32)}, path)


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "v.npy": lambda path, rows: np.save(path, rows),
    "v.npz": lambda path, rows: np.savez_compressed(path, vectors=rows),
    "v.fvecs": lambda path, rows: write_texmex(path, rows, "<f4"),
    "v.hdf5": write_hdf5,
    "v.h5": write_hdf5,
    "v.parquet": write_parquet,
    "v.feather": write_feather,
    "v.arrow": write_arrow_stream,
    "v.jsonl": lambda path, rows: write_jsonl(path, [{"embedding": row} for row in rows.tolist()]),
    "v.jsonl.gz": lambda path, rows: write_jsonl(path, [{"embedding": row} for row in rows.tolist()]),
    "v.csv": lambda path, rows: write_csv(path, [[f"x{at}" for at in range(rows.shape[1])], *rows.tolist()]),
    "v.safetensors": write_safetensors,
}
NAMES = list(WRITERS)
BINARY = [name for name in NAMES if ".jsonl" not in name and ".csv" not in name]
OWN = ["v.npy", "v.npz", "v.fvecs", "v.jsonl", "v.jsonl.gz", "v.csv"]  # read without an optional library
