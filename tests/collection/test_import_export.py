"""Records from tables and files, and into files and back."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from support import examples, need_module

import edgevec
from edgevec.collection import Collection

VECTORS = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
COLUMNS: dict[str, list[Any]] = {
    "id": ["a", "b", "c"],
    "embedding": VECTORS.tolist(),
    "text": ["one", None, "three"],
    "year": [1990, 2000, None],
    "title": ["x", "y", "z"],
}


def contents(made: Collection) -> list[Any]:
    return [(record.id, record.vector.tolist(), record.metadata, record.document) for record in made]


def pandas_table() -> Any:
    return need_module("pandas").DataFrame(COLUMNS)


def polars_table() -> Any:
    return need_module("polars").DataFrame(COLUMNS)


def arrow_table() -> Any:
    return need_module("pyarrow").table(COLUMNS)


def rows() -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


@pytest.mark.parametrize("make", [pandas_table, polars_table, arrow_table, rows, lambda: iter(rows())])
def test_tables_become_records(make: Callable[[], Any]) -> None:
    with edgevec.open(":memory:") as made:
        assert made.import_from(make()) == 3
        found = contents(made)
    expected = [
        ("a", {"year": 1990, "title": "x"}, "one"),
        ("b", {"year": 2000, "title": "y"}, None),
        ("c", {"year": None, "title": "z"}, "three"),
    ]
    assert [(id, metadata, document) for id, _, metadata, document in found] == expected
    np.testing.assert_array_equal([vector for _, vector, _, _ in found], VECTORS)


def test_columns_are_named() -> None:
    table = [{"key": 7, "v": [1.0, 2.0], "vector": "a field", "title": "words", "id": 3}]
    with edgevec.open(":memory:") as made:
        made.import_from(table, id="key", vector="v", document="title")
        assert contents(made) == [(7, [1, 2], {"vector": "a field", "id": 3}, "words")]
        with pytest.raises(ValueError, match="no column 'w', only"):
            made.import_from(table, vector="w")


def test_rows_without_ids_are_numbered_on() -> None:
    with edgevec.open(":memory:") as made:
        made.upsert([-5, "9"], np.eye(2))
        made.import_from([{"vector": [1, 0]}, {"vector": [0, 1]}])
        made.upsert([10], [[1, 1]])
        made.import_from({"vector": [at, 1]} for at in range(10_001))
        assert [record.id for record in made] == [-5, "9", 0, 1, 10, *range(11, 10_012)]


def test_an_encoder_makes_the_vectors() -> None:
    with edgevec.open(":memory:", metric="l2", encoder=lambda texts: [[len(text)] for text in texts]) as made:
        made.import_from([{"id": "a", "text": "four"}, {"id": "b", "text": "seven.."}])
        assert [record.vector.tolist() for record in made] == [[4], [7]]


def test_an_import_is_all_or_nothing() -> None:
    def failing() -> Any:
        for at in range(25_000):
            yield {"id": at, "vector": [math.nan if at == 20_500 else 1.0, 1.0]}

    with edgevec.open(":memory:") as made:
        made.upsert(["kept"], np.eye(1, 2))
        with pytest.raises(ValueError, match="row 500: NaN"):
            made.import_from(failing())
        assert [record.id for record in made] == ["kept"]
        for data, message in [
            (5, "cannot import from int"),
            ({"id": 1}, "cannot import from dict"),
            ([1], "a row must be a dict"),
            ([{"id": 1, "vector": [1, 2]}, {"id": 2, "vector": [1]}], "vectors of one length"),
            ([{"id": 1}], "vectors are missing|neither a vector"),
        ]:
            with pytest.raises(ValueError, match=message):
                made.import_from(data)
        assert made.check().ok


RECORDS: list[Any] = [
    (
        "a",
        [1.5, -2.25],
        {"id": 5, "text": "t", "vector": [1], "metadata": {"x": None}, "a.b": {"c": [1, "é"]}},
        "ein Wort",
    ),
    ("b", [0.1, 3e-7], {}, None),
    ("ü\n", [1e10, 1.0], {"big": 2**60, "f": 0.1}, ""),
]


def store(made: Collection, records: list[Any]) -> None:
    ids, vectors, metadata, documents = zip(*records, strict=True)
    made.upsert(ids, vectors, metadata, documents)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("ids", ["str", "int", "both"])
def test_what_is_exported_can_be_imported(tmp_path: Path, ending: str, ids: str) -> None:
    if ending == ".parquet":
        need_module("pyarrow.parquet")
    keys: dict[str, list[Any]] = {"str": ["a", "b", "ü\n"], "int": [3, -1, 2**62], "both": ["3", 3, "x"]}
    records = [(key, *rest) for key, (_, *rest) in zip(keys[ids], RECORDS, strict=True)]
    path = tmp_path / f"out{ending}"
    with edgevec.open(":memory:", metric="ip") as made:
        store(made, records)
        if ending == ".parquet" and ids == "both":
            with pytest.raises(ValueError, match="ids of both"):
                made.export(path)
            assert list(tmp_path.iterdir()) == []
            return
        assert made.export(path) == 3
        before = contents(made)
    with edgevec.open(":memory:", metric="ip") as again:
        assert again.import_from(path) == 3
        assert contents(again) == before
        assert again.import_from(path) == 3
        assert contents(again) == before


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@settings(max_examples=examples(100), deadline=None)
@given(vectors=st.lists(st.tuples(finite, finite), min_size=1, max_size=5))
def test_every_float32_comes_back(tmp_path_factory: Any, ending: str, vectors: list[Any]) -> None:
    if ending == ".parquet":
        need_module("pyarrow.parquet")
    path = tmp_path_factory.mktemp("floats") / f"out{ending}"
    with edgevec.open(":memory:", metric="ip") as made, edgevec.open(":memory:", metric="ip") as again:
        try:
            made.upsert(range(len(vectors)), np.array(vectors, np.float32))
        except edgevec.EdgevecError:
            reject()  # products of such numbers are beyond float32
        made.export(path)
        again.import_from(path)
        for record, vector in zip(again, vectors, strict=True):
            assert record.vector.tobytes() == np.array(vector, np.float32).tobytes()
    path.unlink()


def test_what_a_condition_allows_is_exported(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl.gz"
    with edgevec.open(":memory:") as made:
        made.upsert(range(2500), np.ones((2500, 2)), [{"n": n} for n in range(2500)])
        assert made.export(path) == 2500
        assert made.export(path, "n >= ?", [1000]) == 1500
    with gzip.open(path, "rt") as file:
        assert [json.loads(line)["id"] for line in file] == list(range(1000, 2500))
    path.unlink()
    assert not path.exists()  # in Emscripten, what was replaced may come back


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with edgevec.open(":memory:") as made:
        made.upsert([1], np.eye(1, 2))
        with pytest.raises(ValueError, match="unknown ending"):
            made.export(tmp_path / "x.csv")
        with pytest.raises(OSError, match="No such file"):
            made.export(tmp_path / "no" / "x.jsonl")
        (tmp_path / "x.jsonl").write_text("precious")
        with pytest.raises(edgevec.WhereError):
            made.export(tmp_path / "x.jsonl", "n >")
        assert (tmp_path / "x.jsonl").read_text() == "precious"
        assert [file.name for file in tmp_path.iterdir()] == ["x.jsonl"]
