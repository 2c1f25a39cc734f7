"""CSV: which line is the header, which columns are the vector, which type the others have."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import need_module

import edgevec
from edgevec import DataFormatError, read_vectors


def dataset_of(text: str, **options: Any) -> edgevec.Dataset:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "v.csv")
        path.write_bytes(text.encode())
        return read_vectors(path, **options)


def columns_of(text: str) -> dict[str, list[Any]]:
    rows = dataset_of(text).metadata
    assert rows is not None
    return {name: [row[name] for row in rows] for name in rows[0]}


# ---- the header ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "dim"),
    [
        ("id,00,01,02", "7,0.1,0.2,0.3", 3),
        ("id,00,01,02", "k7,0.1,0.2,0.3", 3),
        ("00,01,02", "0.1,0.2,0.3", 3),
        ("0,1,2", "3,4,5", 3),
        ("1,2,3", "0.1,0.2,0.3", 3),
        (",0,1", "0,0.5,0.25", 2),
        ("id,2019,2020", "7,1,2", 2),
        ("key,5,7", "7,1,2", 2),
        ("inf,embedding", '1,"[0.5, 0.25]"', 2),
        ("nan,embedding", 'x,"[0.5, 0.25]"', 2),
        ("infinity,x0,x1", "a,0.5,0.25", 2),
        ("nan,inf,x", "1,2,3", 3),
    ],
)
def test_a_header_of_numbers_is_no_vector(header: str, row: str, dim: int) -> None:
    for delimiter in ",;\t":
        if delimiter == "," or '"' not in row:
            text = f"{header}\n{row}\n{row}\n".replace(",", delimiter)
            found = dataset_of(text)
            assert (len(found), found.dim) == (2, dim), text


@pytest.mark.parametrize(
    ("text", "vectors"),
    [
        ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]]),
        ("0.5,1\n2,3\n", [[0.5, 1], [2, 3]]),
        ("-1,2\n3,4\n", [[-1, 2], [3, 4]]),
        ("nan,1\n2,3\n", [[math.nan, 1], [2, 3]]),
        ("a,0.5,1\nb,2,3\n", [[0.5, 1], [2, 3]]),
        ("a,0.5,1\n7,2,3\n", [[0.5, 1], [2, 3]]),
        ("a,1,2\nb,3,4\n", [[1, 2], [3, 4]]),
        ("5\n6\n", [[5], [6]]),
    ],
)
def test_a_first_line_of_data_is_a_vector(text: str, vectors: list[list[float]]) -> None:
    np.testing.assert_array_equal(dataset_of(text).vectors, vectors)


# ---- the vector ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,x0,x1\n1,0.1,\n2,0.2,0.3\n", "line 2, column 'x1': not a number: ''"),
        ("id,x0,x1\n1,,0.1\n2,0.2,0.3\n", "line 2, column 'x0': not a number: ''"),
        ("x,y,z\n1,,3\n4,5,6\n", "line 2, column 'y': an element of the vector is missing"),
        ("1,,3\n4,5,6\n", "line 1, column '1': an element of the vector is missing"),
        ('id,year,embedding\n1,1999,\n2,2000,"[1, 2]"\n', "line 2, column 'embedding': not JSON|not a list"),
        (
            'id,year,far,vec\n1,1999,1.5,\n2,2000,1.5,"[1, 2]"\n',
            "line 2, column 'vec': an element of the vector",
        ),
        ("id,x0,x1\n1,0.1,0.2\n2,0.2,\n", "line 3, column 'x1': not a number: ''"),
    ],
)
def test_an_empty_cell_drops_no_dimension(text: str, message: str) -> None:
    with pytest.raises(DataFormatError, match=message):
        dataset_of(text)


def test_an_empty_first_cell_of_another_column_is_no_error() -> None:
    assert columns_of("x0,x1,year,note\n1,2,,\n3,4,1990,a\n") == {"year": [None, 1990], "note": [None, "a"]}


@given(order=st.permutations(range(12)), form=st.sampled_from(["x{}", "x_{}", "x{:03}", "dim {}", "{}"]))
def test_numbered_columns_are_in_the_order_of_their_numbers(order: list[int], form: str) -> None:
    header = ",".join(["id", *(form.format(at) for at in order)])
    row = ",".join(["5", *(f"{at}.5" for at in order)])
    np.testing.assert_array_equal(dataset_of(f"{header}\n{row}\n").vectors, [np.arange(12) + 0.5])


def test_columns_of_other_names_stay_in_their_order() -> None:
    assert dataset_of("z,x,y\n3,1,2\n").vectors.tolist() == [[3, 1, 2]]


def test_two_columns_of_one_name_are_refused_and_empty_ones_without_a_name_are_none() -> None:
    with pytest.raises(DataFormatError, match="duplicate column 'n'"):
        dataset_of('n,n,embedding\n1,2,"[1]"\n')
    assert columns_of('n,embedding,,\n1,"[1]",,\n') == {"n": [1]}


# ---- types ---------------------------------------------------------------------------------------------------------

CELLS: dict[str, tuple[list[str], list[Any]]] = {
    "integers": (["1999", "-5", "0"], [1999, -5, 0]),
    "spaces": ([" 1999", "2 ", ""], [1999, 2, None]),
    "separators": (["1\x1d", "\x1c2"], [1, 2]),
    "floats of separators": (["1.5\x1f", "2"], [1.5, 2.0]),
    "floats": (["1.5", "2", "1e3"], [1.5, 2.0, 1000.0]),
    "missing": (["1", "", "3"], [1, None, 3]),
    "nan": (["1.5", "nan", "NaN"], [1.5, None, None]),
    "booleans": (["true", "False", "TRUE"], [True, False, True]),
    "no boolean": (["true", "1", ""], ["true", "1", None]),
    "leading zeros": (["007", "12", "100"], ["007", "12", "100"]),
    "zip codes of floats": (["01.5", "2", "3"], ["01.5", "2", "3"]),
    "telephone": (["+49", "+1", "7"], ["+49", "+1", "7"]),
    "mixed": (["1", "two", "3"], ["1", "two", "3"]),
    "too large": ([f"{2**63}", "1", "2"], [f"{2**63}", "1", "2"]),
    "large among floats": ([f"{2**53 + 1}", "1.5", "2"], [f"{2**53 + 1}", "1.5", "2"]),
    "largest": ([f"{2**63 - 1}", f"{-(2**63)}", "2"], [2**63 - 1, -(2**63), 2]),
    "infinity": (["inf", "1", "2"], ["inf", "1", "2"]),
    "empty": (["", "", ""], [None, None, None]),
    "underscores": (["1_000", "2", "3"], ["1_000", "2", "3"]),
    "spaced text": ([" a", "b ", " "], [" a", "b ", " "]),
}


@pytest.mark.parametrize("kind", CELLS)
def test_a_column_has_the_type_that_all_its_cells_have(kind: str) -> None:
    cells, expected = CELLS[kind]
    found = columns_of("x0,x1,c\n" + "".join(f"1,2,{cell}\n" for cell in cells))["c"]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize("name", ["text", "title", "name", "document"])
def test_a_text_of_digits_stays_a_text(tmp_path: Path, name: str) -> None:
    assert columns_of(f"x0,x1,{name}\n1,2,1984\n1,2,1.50\n")[name] == ["1984", "1.50"]
    (tmp_path / "v.csv").write_text("x0,x1,body\n1,2,1984\n1,2,1.50\n")
    with edgevec.open(":memory:") as made:
        made.import_from(tmp_path / "v.csv", document="body")
        assert [record.document for record in made] == ["1984", "1.50"]


def test_conditions_find_what_is_typed(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text('id,year,active,embedding\n1,1999,true,"[0.1, 0.2]"\n2,2005,false,"[0.3, 0.1]"\n')
    with edgevec.open(":memory:") as made:
        made.import_from(tmp_path / "v.csv")
        assert made.ids("year >= 2000") == [2]
        assert made.ids("active") == [1]


@pytest.mark.parametrize(
    ("cells", "ids"),
    [(["7", "-3"], [7, -3]), (["007", "12"], ["007", "12"]), (["a", "2"], ["a", "2"]), (["5", ""], [5, 6])],
)
def test_ids_have_a_type_too(tmp_path: Path, cells: list[str], ids: list[Any]) -> None:
    (tmp_path / "v.csv").write_text("id,x0,x1\n" + "".join(f"{cell},1,2\n" for cell in cells))
    with edgevec.open(":memory:") as made:
        made.import_from(tmp_path / "v.csv")
        assert made.ids() == ids


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6)
ROWS = st.fixed_dictionaries(
    {
        "word": TEXT,
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.none() | st.booleans(),
    }
)


@given(
    rows=st.lists(ROWS, min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    start=st.sampled_from(["", "\ufeff", "\n", "\n\r\n"]),
)
def test_what_csv_writes_comes_back(rows: list[dict[str, Any]], delimiter: str, quoting: Any, start: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
    writer.writerow(["id", "word", "count", "share", "flag", "embedding"])
    for at, row in enumerate(rows):
        writer.writerow([f"r{at}", "w" + row["word"], row["count"], row["share"], row["flag"], json.dumps([at, 0.5])])
    found = dataset_of(start + out.getvalue())
    np.testing.assert_array_equal(found.vectors, [[at, 0.5] for at in range(len(rows))])
    assert found.metadata == [{"id": f"r{at}", **row, "word": "w" + row["word"]} for at, row in enumerate(rows)]


@given(
    st.lists(
        st.one_of(
            st.integers(-(10**6), 10**6).map(str),
            st.floats(-1e6, 1e6).map(repr),
            st.sampled_from(["true", "false", ""]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_types_are_those_of_pandas(cells: list[str]) -> None:
    pandas = need_module("pandas")
    text = "x0,x1,c\n" + "".join(f"1,2,{cell}\n" for cell in cells)
    expected = pandas.read_csv(io.StringIO(text))["c"]
    if {"true", "false"} & set(cells) and not set(cells) <= {"true", "false", ""}:
        expected = pandas.read_csv(io.StringIO(text), dtype=str)["c"]  # pandas makes 1 of true among floats
    found = columns_of(text)["c"]
    values = [None if pandas.isna(value) else value for value in expected]
    assert len(values) == len(found)
    for value, ours in zip(values, found, strict=True):
        # Older ones of pandas may read the last digit of a float wrong.
        assert ours == (pytest.approx(value, rel=1e-15, abs=0) if isinstance(value, float) else value)


# ---- the file ------------------------------------------------------------------------------------------------------


def test_a_text_may_be_long_and_the_limit_of_csv_stays() -> None:
    before = csv.field_size_limit()
    long = "x" * 1_000_000
    assert columns_of(f"x0,x1,note\n1,2,{long}\n") == {"note": [long]}
    assert csv.field_size_limit() == before
    with pytest.raises(DataFormatError):
        dataset_of("x0,x1\n1,\n")
    assert csv.field_size_limit() == before


def test_a_quote_that_is_never_closed_swallows_no_rows() -> None:
    with pytest.raises(DataFormatError, match=r"v\.csv: damaged: line 4: unexpected end of data"):
        dataset_of('x0,x1,note\n1,2,"open\n3,4,b\n5,6,c\n')
    with pytest.raises(DataFormatError, match="damaged: line 2: ',' expected"):
        dataset_of('x0,x1,note\n1,2,"a"b\n')


def test_lines_within_quotes_count() -> None:
    text = 'note,x0,x1\n"one\ntwo",1,2\nb,3,z\n'
    with pytest.raises(DataFormatError, match="line 4, column 'x1': not a number: 'z'"):
        dataset_of(text)
    assert columns_of(text.replace("z", "4"))["note"] == ["one\ntwo", "b"]


def test_a_delimiter_within_quotes_is_none() -> None:
    assert columns_of('"a,b,c,d";x0;x1\nq;1;2\n') == {"a,b,c,d": ["q"]}
