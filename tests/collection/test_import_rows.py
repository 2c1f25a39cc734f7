"""Importing tables of every kind: wherever the rows are cut into batches, none is lost or changed."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import need_module

import edgevec
from edgevec.collection import Collection, import_export
from edgevec.collection.numbering import Numbers


def imported(data: Any, **columns: Any) -> list[tuple[Any, list[float], dict[str, Any], str | None]]:
    with edgevec.open(":memory:", metric="l2") as made:
        count = made.import_from(data, **columns)
        found = [(record.id, record.vector.tolist(), record.metadata, record.document) for record in made]
    assert count == len(found)
    return found


def metadata(data: Any, **columns: Any) -> list[dict[str, Any]]:
    return [fields for _, _, fields, _ in imported(data, **columns)]


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SOURCES: dict[str, Callable[[Path, list[Any]], Any]] = {
    "list": lambda folder, rows: rows,
    "stream": lambda folder, rows: iter(rows),
    "jsonl": lambda folder, rows: write_jsonl(folder / "rows.jsonl", rows),
}
each_source = pytest.mark.parametrize("source", SOURCES)


# ---- the roles of columns ------------------------------------------------------------------------------------------


@each_source
def test_a_first_row_without_text_costs_no_document(tmp_path: Path, source: str) -> None:
    rows = [
        {"id": "a", "embedding": [1, 2]},
        *({"id": f"b{i}", "embedding": [1, i], "text": "hello"} for i in range(3)),
    ]
    with edgevec.open(":memory:") as made:
        made.import_from(SOURCES[source](tmp_path, rows))
        assert sorted(hit.id for hit in made.search(text="hello")) == ["b0", "b1", "b2"]
        assert [record.metadata for record in made] == [{}] * 4


@each_source
def test_a_first_row_without_id_costs_no_id(tmp_path: Path, source: str) -> None:
    rows = [{"embedding": [1, 2]}, {"id": "mine", "embedding": [2, 1]}, {"id": None, "embedding": [2, 2]}]
    assert [id for id, *_ in imported(SOURCES[source](tmp_path, rows))] == [0, "mine", 1]


@each_source
@given(
    kinds=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=12),
    at_once=st.integers(1, 5),
)
def test_where_a_table_is_cut_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, source: str, kinds: list[Any], at_once: int
) -> None:
    rows = []
    for at, (has_id, has_text, has_year) in enumerate(kinds):
        row: dict[str, Any] = {"vector": [at, 1]}
        row |= {"id": f"r{at}"} if has_id else {}
        row |= {"text": f"text {at}"} if has_text else {}
        row |= {"year": at} if has_year else {}
        rows.append(row)
    numbers = iter(range(len(rows)))
    expected = [
        (
            row.get("id", None) or next(numbers),
            row["vector"],
            {k: row[k] for k in ("year",) if k in row},
            row.get("text"),
        )
        for row in rows
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_export, "IMPORT_BATCH", at_once)
        assert imported(SOURCES[source](tmp_path_factory.mktemp("rows"), rows)) == expected


def test_a_row_takes_the_first_usual_name_that_it_has_with_a_fitting_value() -> None:
    rows = [
        {"vector": "a field", "embedding": [1, 2], "text": ["no", "text"], "content": "words"},
        {"vectors": [3, 4], "text": None, "content": "metadata"},
    ]
    assert imported(rows) == [
        (0, [1, 2], {"vector": "a field", "text": ["no", "text"]}, "words"),
        (1, [3, 4], {"content": "metadata"}, None),
    ]


@pytest.mark.parametrize("columns", [{"id": "key"}, {"document": "body"}, {"skip": ["key"]}])
def test_a_column_that_is_in_no_row_is_an_error_and_nothing_is_kept(columns: dict[str, Any]) -> None:
    with edgevec.open(":memory:") as made:
        with pytest.raises(ValueError, match=r"no column '(key|body)', only id, vector"):
            made.import_from(iter([{"id": 1, "vector": [1, 2]}]), **columns)
        assert len(made) == 0


def test_a_column_without_a_name_is_metadata() -> None:
    assert imported([{"": "x", "vector": [1]}]) == [(0, [1], {"": "x"}, None)]


# ---- ids -----------------------------------------------------------------------------------------------------------


@each_source
@pytest.mark.parametrize("at_once", [1, 2, 10_000])
@pytest.mark.parametrize("key", ["a", 7])
def test_an_id_that_comes_twice_is_an_error_wherever_the_table_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, at_once: int, key: Any
) -> None:
    monkeypatch.setattr(import_export, "IMPORT_BATCH", at_once)
    rows = [{"id": key, "vector": [1, 1]}, {"id": 1, "vector": [1, 2]}, {"id": key, "vector": [1, 3]}]
    with edgevec.open(":memory:") as made:
        made.upsert(["kept", key], np.ones((2, 2)))
        with pytest.raises(edgevec.DuplicateIdError, match=f"id {key!r} comes twice, the second time in row 2"):
            made.import_from(SOURCES[source](tmp_path, rows))
        assert made.ids() == ["kept", key]
        assert made.import_from(SOURCES[source](tmp_path, rows[:2])) == 2  # of an earlier call it is replaced
        assert made.get(key)[0].vector.tolist() == [1, 1]


def test_a_row_that_got_a_number_is_not_overwritten_by_a_later_one_of_that_id() -> None:
    with pytest.raises(edgevec.DuplicateIdError, match="id 0 comes twice"):
        imported([{"vector": [1]}, {"id": 0, "vector": [2]}])


@given(
    st.lists(
        st.lists(st.none() | st.integers(0, 12) | st.sampled_from([-(2**63), 2**63 - 1, 2**70, "a", "b"]), max_size=9),
        max_size=6,
    )
)
def test_ids_are_completed_as_a_set_would(parts: list[list[Any]]) -> None:
    numbers, seen, highest, start = Numbers(3), set(), 2, 0
    for part in parts:
        expected: list[Any] = []
        for id in part:
            highest = max(highest, highest + 1 if id is None else id) if not isinstance(id, str) else highest
            expected.append(highest if id is None else id)
        again = next((at for at, id in enumerate(expected) if id in seen or id in expected[:at]), None)
        lost = next(
            (at for at, (id, to) in enumerate(zip(part, expected, strict=True)) if id is None and to >= 2**63), None
        )
        if lost is not None:
            with pytest.raises(edgevec.ParameterError, match=f"row {start + lost}: no number is left"):
                numbers.complete(part, start)
            return
        if again is not None:
            with pytest.raises(
                edgevec.DuplicateIdError, match=f"id {expected[again]!r} comes twice.*row {start + again}$"
            ):
                numbers.complete(part, start)
            return
        assert numbers.complete(part, start) == expected
        seen.update(expected)
        start += len(part)


def test_numbers_end_where_64_bits_end() -> None:
    with pytest.raises(edgevec.ParameterError, match=rf"row 1: no number is left after {2**63 - 1}; give the rows ids"):
        imported([{"id": 2**63 - 1, "vector": [1]}, {"vector": [2]}])


def test_ids_of_a_column_that_gaps_made_floats() -> None:
    pandas = need_module("pandas")
    table = pandas.DataFrame({"id": [3, None, 5], "vector": [[1.0], [2.0], [3.0]]})
    assert [id for id, *_ in imported(table)] == [3, 4, 5]


@pytest.mark.parametrize("id", [1.5, True, 1e300, [1]])
def test_what_is_no_id_is_named(id: Any) -> None:
    with pytest.raises(edgevec.DataFormatError, match="row 1: an id must be an integer or a string, not"):
        imported([{"id": 1, "vector": [1]}, {"id": id, "vector": [2]}])


def tables_of(columns: dict[str, list[Any]], folder: Path) -> dict[str, Any]:
    """The same rows as a table, and in every file that has columns."""
    pa, parquet = need_module("pyarrow"), need_module("pyarrow.parquet")
    table = pa.table(columns)
    parquet.write_table(table, folder / "t.parquet")
    write_jsonl(folder / "t.jsonl", table.to_pylist())
    table.to_pandas().assign(vector=[json.dumps(row) for row in columns["vector"]]).to_csv(
        folder / "t.csv", index=False
    )
    np.savez(folder / "t.npz", **{name: np.array(column) for name, column in columns.items()})
    files = {name: folder / name for name in ("t.parquet", "t.jsonl", "t.csv", "t.npz")}
    return {"table": table, "pandas": table.to_pandas(), **files}


KEYED: dict[str, list[Any]] = {"id": [10, 20], "uuid": ["u1", "u2"], "vector": [[1.0, 2.0], [2.0, 1.0]]}


@pytest.mark.parametrize("kind", ["table", "pandas", "t.parquet", "t.jsonl", "t.csv", "t.npz"])
def test_a_column_called_id_stays_when_another_one_holds_the_ids(tmp_path: Path, kind: str) -> None:
    data = tables_of(KEYED, tmp_path)[kind]
    assert imported(data, id="uuid") == [("u1", [1, 2], {"id": 10}, None), ("u2", [2, 1], {"id": 20}, None)]
    assert imported(data, id="id") == [(10, [1, 2], {"uuid": "u1"}, None), (20, [2, 1], {"uuid": "u2"}, None)]
    assert imported(data) == imported(data, id="id")


def test_a_text_id_goes_before_numbers_called_ids(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"ids": 5, "id": "a", "vector": [1]}])
    assert imported(path) == [("a", [1], {"ids": 5}, None)]


# ---- DataFrames ----------------------------------------------------------------------------------------------------


def test_columns_of_a_frame_are_stored_and_a_frame_is_no_metadata() -> None:
    pandas = need_module("pandas")
    frame = pandas.DataFrame({"key": ["x", "y"], "vector": list(np.eye(2)), "year": [1, 2]})
    with edgevec.open(":memory:", metric="l2") as made:
        with pytest.raises(edgevec.ParameterError, match="metadata is a table, not dicts; import_from"):
            made.upsert(frame["key"], frame["vector"], frame[["year"]])
        assert made.upsert(frame["key"], frame["vector"], frame[["year"]].to_dict("records")) == 2
        assert [record.metadata for record in made.get(["x", "y"])] == [{"year": 1}, {"year": 2}]


def test_the_named_index_of_a_dataframe_is_a_column() -> None:
    pandas = need_module("pandas")
    frame = pandas.DataFrame({"vector": [[1.0], [2.0]], "year": [1, 2]}, index=pandas.Index(["x", "y"], name="key"))
    assert metadata(frame) == [{"year": 1, "key": "x"}, {"year": 2, "key": "y"}]
    assert [id for id, *_ in imported(frame, id="key")] == ["x", "y"]
    assert [id for id, *_ in imported(frame.rename_axis("id"))] == ["x", "y"]
    levels = frame.set_index("year", append=True)
    assert metadata(levels) == [{"key": "x", "year": 1}, {"key": "y", "year": 2}]
    assert metadata(frame.rename_axis(None)) == [{"year": 1}, {"year": 2}]
    assert "key" not in frame.columns


def test_an_index_and_a_column_of_one_name() -> None:
    pandas = need_module("pandas")
    frame = pandas.DataFrame({"id": ["x", "y"], "vector": [[1.0], [2.0]]}).set_index("id", drop=False)
    assert [id for id, *_ in imported(frame)] == ["x", "y"]
    with pytest.raises(edgevec.ParameterError, match="both called 'id', and differ"):
        imported(frame.assign(id=["y", "x"]))


def test_two_columns_of_one_name_are_refused() -> None:
    pandas, pa = need_module("pandas"), need_module("pyarrow")
    frame = pandas.DataFrame([[[1.0], 1, 2]], columns=["vector", "n", "n"])
    table = pa.Table.from_arrays([pa.array([[1.0]]), pa.array([1]), pa.array([2])], names=["vector", "n", "n"])
    for data in (frame, table):
        with pytest.raises(edgevec.ParameterError, match="two columns are called 'n'"):
            imported(data)


def test_a_column_that_is_in_the_metadata_too() -> None:
    row = {"vector": [1], "year": 1, "metadata": {"year": 2}}
    with pytest.raises(edgevec.DataFormatError, match="row 0: 'year' is a column and in the metadata too"):
        imported([row])
    assert metadata([row], skip=["year"]) == [{"year": 2}]


# ---- values --------------------------------------------------------------------------------------------------------

DAY = datetime.datetime(2020, 1, 2, 3, 4, 5, 600)
VALUES: dict[str, tuple[Any, Any]] = {
    "decimal": (decimal.Decimal("12.50"), 12.5),
    "whole decimal": (decimal.Decimal("12"), 12),
    "no decimal": (decimal.Decimal("nan"), None),
    "duration": (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    "bytes": ("é".encode(), "é"),
    "date": (DAY.date(), "2020-01-02"),
    "time": (DAY, DAY.isoformat()),
    "numpy date": (np.datetime64("2020-01-02"), "2020-01-02"),
    "numpy time": (np.datetime64("2020-01-02T03:04:05", "ns"), "2020-01-02T03:04:05"),
    "nanoseconds": (np.datetime64("2020-01-02T03:04:05.000000007", "ns"), "2020-01-02T03:04:05.000000007"),
    "no time": (np.datetime64("NaT", "s"), None),
    "numpy duration": (np.timedelta64(1500, "ms"), 1.5),
    "uuid": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "nan": (float("nan"), None),
    "array": (np.array([1, 2]), [1, 2]),
    "nested": ({"a": [decimal.Decimal("0.5"), float("nan")]}, {"a": [0.5, None]}),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_become_what_json_has(name: str) -> None:
    given, expected = VALUES[name]
    assert metadata([{"vector": [1], "x": given}]) == [{"x": expected}]


@pytest.mark.parametrize("value", [b"\xff", float("inf"), decimal.Decimal("-inf"), object(), 1j, [float("inf")]])
def test_what_json_lacks_is_named_and_can_be_left_out(value: Any) -> None:
    rows = [{"vector": [1], "ok": 1, "x": 1}, {"vector": [2], "ok": 2, "x": value}]
    with pytest.raises(edgevec.DataFormatError, match=r"row 1, column 'x': .*; skip=\['x'\] leaves it out"):
        imported(rows)
    assert metadata(rows, skip=["x"]) == metadata(rows, skip="x") == [{"ok": 1}, {"ok": 2}]


def arrow_columns() -> dict[str, Any]:
    pa = need_module("pyarrow")
    return {
        "text": pa.array([b"a plum", b"l\xc3\xadme", None], pa.binary()),
        "tag": pa.array([b"x", b"y", b"z"], pa.large_binary()),
        "price": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")], pa.decimal128(10, 2)),
        "took": pa.array([1500, 0, None], pa.duration("ms")),
        "day": pa.array([0, 18_262, None], pa.date32()),
    }


@pytest.mark.parametrize("kind", ["table", "t.parquet", "t.arrow"])
def test_arrow_types_that_json_lacks(tmp_path: Path, kind: str) -> None:
    pa, parquet = need_module("pyarrow"), need_module("pyarrow.parquet")
    table = pa.table({"vector": [[1.0], [2.0], [3.0]], **arrow_columns()})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_stream(str(tmp_path / "t.arrow"), table.schema) as stream:
        stream.write_table(table)
    found = imported(table if kind == "table" else tmp_path / kind)
    assert [document for *_, document in found] == ["a plum", "líme", None]
    assert [fields for _, _, fields, _ in found] == [
        {"tag": "x", "price": 1.25, "took": 1.5, "day": "1970-01-01"},
        {"tag": "y", "price": None, "took": 0, "day": "2020-01-01"},
        {"tag": "z", "price": -3, "took": None, "day": None},
    ]


def test_a_parquet_column_that_is_no_text_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    pa, parquet = need_module("pyarrow"), need_module("pyarrow.parquet")
    table = pa.table({"vector": [[1.0], [2.0]], "blob": [b"ok", b"\xff\xfe"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    for data in (table, tmp_path / "t.parquet"):
        with pytest.raises(edgevec.DataFormatError, match="row 1, column 'blob': bytes are not UTF-8 text"):
            imported(data)
        assert metadata(data, skip=["blob"]) == [{}, {}]
    assert len(edgevec.read_vectors(tmp_path / "t.parquet")) == 2


def test_a_vector_that_does_not_fit_names_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "IMPORT_BATCH", 2)
    good = [{"vector": [1, 2]}] * 3
    for bad, message in [
        ([1], "row 3: 1 elements where row 2 has 2"),
        ([1, "x"], "row 3: a vector holds something other than numbers"),
        (None, "row 3: vectors are missing"),
        ([1, float("nan")], r"row 1: NaN.* \(counted from row 2\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            imported([*good, {"vector": bad}])


def test_an_encoder_makes_the_vectors_that_are_missing() -> None:
    with edgevec.open(":memory:", metric="l2", encoder=lambda texts: [[len(text)] for text in texts]) as made:
        made.import_from(
            [{"id": 1, "text": "four"}, {"id": 2, "vector": [9], "text": "x"}, {"id": 3, "text": "seven.."}]
        )
        assert [record.vector.tolist() for record in made] == [[4], [9], [7]]
        with pytest.raises(ValueError, match="row 1 has neither a vector nor a document"):
            made.import_from([{"vector": [1]}, {"year": 1}])


# ---- files of arrays -----------------------------------------------------------------------------------------------


def test_npz_with_texts_as_bytes_dates_and_durations(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "v.npz",
        vectors=np.eye(2),
        text=np.array(["é".encode(), b"b"]),
        day=np.array(["2020-01-02", "NaT"], "datetime64[D]"),
        at=np.array(["2020-01-02T03:04:05", "1969-12-31"], "datetime64[ns]"),
        took=np.array([1500, 1], "timedelta64[ms]"),
    )
    found = imported(tmp_path / "v.npz")
    assert [document for *_, document in found] == ["é", "b"]
    assert [fields for _, _, fields, _ in found] == [
        {"day": "2020-01-02", "at": "2020-01-02T03:04:05", "took": 1.5},
        {"day": None, "at": "1969-12-31T00:00:00", "took": 0.001},
    ]


def test_npz_with_objects_says_so_and_can_leave_them_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.eye(2), text=np.array(["a", None], object), n=[1, 2], allow_pickle=True)
    assert list(edgevec.read_vectors(tmp_path / "v.npz").unread) == ["text"]
    with pytest.raises(edgevec.DataFormatError, match=r"column 'text' cannot be read: .*objects.*skip=\['text'\]"):
        imported(tmp_path / "v.npz")
    assert metadata(tmp_path / "v.npz", skip=["text"]) == [{"n": 1}, {"n": 2}]


def test_hdf5_texts_are_not_changed(tmp_path: Path) -> None:
    h5py = need_module("h5py")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["vectors"], file["text"], file["tag"] = np.eye(2), ["é", "b"], np.array([b"x", b"\xff"])
        file["point"] = np.zeros(2, [("x", "f4")])
    assert list(edgevec.read_vectors(tmp_path / "v.h5").unread) == ["point"]
    with pytest.raises(edgevec.DataFormatError, match="column 'point' cannot be read"):
        imported(tmp_path / "v.h5")
    with pytest.raises(edgevec.DataFormatError, match="row 1, column 'tag': bytes are not UTF-8"):
        imported(tmp_path / "v.h5", skip=["point"])
    assert [document for *_, document in imported(tmp_path / "v.h5", skip=["point", "tag"])] == ["é", "b"]


def test_safetensors_columns_beside_the_vectors(tmp_path: Path) -> None:
    save = need_module("safetensors.numpy").save_file
    save(
        {"v": np.eye(2, dtype="f4"), "year": np.array([1990, 2000]), "id": np.array([7, 8])}, tmp_path / "v.safetensors"
    )
    assert imported(tmp_path / "v.safetensors") == [
        (7, [1, 0], {"year": 1990}, None),
        (8, [0, 1], {"year": 2000}, None),
    ]


def test_texts_are_found_where_the_first_row_has_none(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"v": [1], "title": None}, {"v": [2], "title": "x"}])
    assert edgevec.read_vectors(path).texts == ["", "x"]


def test_what_was_exported_is_imported_wherever_it_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents(made: Collection) -> list[Any]:
        return [(record.id, record.vector.tolist(), record.metadata, record.document) for record in made]

    with edgevec.open(":memory:") as made:
        made.upsert(range(7), np.eye(7), [{"n": n} for n in range(7)], [f"{n}" if n % 2 else None for n in range(7)])
        made.export(tmp_path / "a.jsonl")
        before = contents(made)
    monkeypatch.setattr(import_export, "IMPORT_BATCH", 3)
    with edgevec.open(":memory:") as again:
        assert again.import_from(tmp_path / "a.jsonl") == 7
        assert contents(again) == before
