"""Arrays as people have them: what is read, and what is refused with the true reason and before anything changes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import need_module

import edgevec
from edgevec import IdFilter, Index, NotFiniteError, ParameterError

ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0]], np.float32)


@pytest.fixture
def index() -> Index:
    made = Index(2, "l2", quantization="none")
    made.add(ROWS, [1, 2, 3])
    return made


def assert_refused(index: Index, attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        attempt()
    assert sorted(index) == [1, 2, 3]
    np.testing.assert_array_equal(index.get([1, 2, 3]), ROWS)


# ---- masks ---------------------------------------------------------------------------------------------------------


def masked(values: Any, mask: Any) -> Any:
    return np.ma.masked_array(values, mask)


MASKED = {
    "a matrix": (masked(ROWS, [[0, 0], [0, 0], [0, 1]]), 2),
    "a vector": (masked(ROWS[0], [0, 1]), 0),
    "integers": (masked([[1, 2], [3, 4]], [[0, 0], [1, 0]]), 1),
    "a list of vectors": ([ROWS[0], masked(ROWS[1], [0, 1])], 1),
    "a list of masked vectors": ([masked(ROWS[0], [0, 0]), masked(ROWS[1], [1, 0])], 1),
}


@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_element_is_refused_by_row(index: Index, kind: str) -> None:
    rows, row = MASKED[kind]
    message = f"have a masked element in row {row};"
    assert_refused(index, lambda: index.add(rows), f"vectors {message}")
    assert_refused(index, lambda: index.search(rows), f"queries {message}")
    with edgevec.open(":memory:", dim=2) as made:
        for collection in (made, edgevec.open(":memory:")):
            with pytest.raises(ParameterError, match=message):
                collection.upsert(list(range(len(np.atleast_2d(rows)))), rows)
            assert len(collection) == 0


def test_a_masked_id_is_refused(index: Index) -> None:
    ids = masked([7, 8, 1], [0, 1, 0])
    for attempt in (
        lambda: index.add(ROWS, ids),
        lambda: index.get(ids),
        lambda: index.remove(ids),
        lambda: edgevec.IdFilter(ids),
        lambda: index.search(ROWS, filter=ids),
    ):
        assert_refused(index, attempt, "ids have a masked element in row 1;")


def test_a_mask_that_hides_nothing_is_no_obstacle(index: Index) -> None:
    assert index.add(masked(ROWS, False), masked([1, 2, 3], False)).tolist() == [1, 2, 3]
    assert index.search(masked(ROWS[1], [0, 0]), 1).ids.tolist() == [2]


# ---- types of elements ---------------------------------------------------------------------------------------------

SMALL = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e3m4", "float6_e2m3fn", "int4", "uint4"]


@pytest.mark.parametrize("name", SMALL)
def test_every_real_type_of_ml_dtypes(name: str) -> None:
    ml_dtypes = need_module("ml_dtypes")
    if not hasattr(ml_dtypes, name):
        pytest.skip(f"this ml_dtypes has no {name}")
    rows = np.array([[1, 2], [3, 4], [0, 5]]).astype(getattr(ml_dtypes, name))
    exact = rows.astype(np.float32)
    index = Index(2, "l2", quantization="none")
    index.add(rows)
    np.testing.assert_array_equal(index.get([0, 1, 2]), exact)
    assert index.search(rows, 1).ids.ravel().tolist() == [0, 1, 2]
    with edgevec.open(":memory:", metric="l2") as made:
        made.upsert([0, 1, 2], rows)
        np.testing.assert_array_equal([record.vector for record in made], exact)
        assert made.search(rows[1], 1)[0].id == 1


def test_a_complex_type_of_ml_dtypes_is_refused(index: Index) -> None:
    ml_dtypes = need_module("ml_dtypes")
    if not hasattr(ml_dtypes, "complex32"):
        pytest.skip("this ml_dtypes has no complex32")
    assert_refused(
        index, lambda: index.add(np.zeros((2, 2), ml_dtypes.complex32)), "must be real numbers, not complex32"
    )


WRONG = {
    "structured": (np.zeros(3, [("x", "f4"), ("y", "f4")]), "a structured array of x, y; .*structured_to_unstructured"),
    "structured pairs": (np.zeros(2, [("x", "f4"), ("y", "f4")]), "a structured array of x, y; "),
    "raw bytes": (np.zeros((2, 2), "V4"), r"not \|V4|not void"),
    "objects": (np.array([[1.0, 2.0]] * 2, object), r"Python objects; convert them with astype\(float\)"),
    "none among objects": (np.array([[1.0, 2.0], [None, 2.0]], object), r"Python objects: None at \(1, 0\)"),
    "texts among objects": (np.array([[1.0, "a"]], object), r"Python objects: 'a' at \(0, 1\)"),
    "complex": (np.zeros((2, 2), complex), "not complex128"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_number_is_named(index: Index, kind: str) -> None:
    rows, message = WRONG[kind]
    assert_refused(index, lambda: index.add(rows), f"vectors must be real numbers, not .*{message}|{message}")
    assert_refused(index, lambda: index.search(rows), f"queries must be real numbers, not .*{message}|{message}")


COLUMNS = {
    "arrays": list(ROWS),
    "lists": ROWS.tolist(),
    "tuples": [tuple(row) for row in ROWS.tolist()],
    "several dtypes": [ROWS[0], ROWS[1].astype(np.float16), ROWS[2].tolist()],
}


def objects(rows: list[Any]) -> np.ndarray[Any, Any]:
    column = np.empty(len(rows), object)
    column[:] = rows
    return column


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_vectors_is_read(index: Index, kind: str) -> None:
    column = objects(COLUMNS[kind])
    index.remove([1, 2, 3])
    assert index.add(column, [1, 2, 3]).tolist() == [1, 2, 3]
    np.testing.assert_array_equal(index.get([1, 2, 3]), ROWS)
    assert index.search(column, k=1).ids.ravel().tolist() == [1, 2, 3]


def test_a_column_of_pandas_and_of_arrow_is_read(index: Index) -> None:
    pandas = need_module("pandas")
    index.remove([1, 2, 3])
    table = pandas.DataFrame({"id": [1, 2, 3], "v": list(ROWS)})
    assert index.add(table["v"], table["id"]).tolist() == [1, 2, 3]
    np.testing.assert_array_equal(index.get(table["id"]), ROWS)
    arrow = need_module("pyarrow")
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(ROWS.ravel()), 2)
    assert index.search(column, k=1).ids.ravel().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "2 numbers each, but row 1 is None"),
        (float("nan"), "2 numbers each, but row 1 is nan"),
        ([1.0], "2 numbers each, but row 1 is 1 numbers"),
        ([[1.0, 2.0]], "2 numbers each, but row 1 is 1x2 numbers"),
        ("text", "2 numbers each, but row 1 is 'text'"),
        (["a", "b"], "real numbers, but row 1 is <U1"),
        ([1.0, None], r"real numbers, but row 1 is Python objects: None at 1"),
        ([1.0, float("nan")], "NaN or infinity.*row 1"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), "masked element"),
    ],
)
def test_what_is_no_vector_in_a_column_is_named(index: Index, row: object, message: str) -> None:
    column = np.empty(3, object)
    column[0], column[1], column[2] = ROWS[0], row, ROWS[2]
    with pytest.raises((ParameterError, NotFiniteError), match=message):
        index.add(column)
    assert sorted(index) == [1, 2, 3]


def test_sets_and_iterators_of_ids(index: Index) -> None:
    """Where no order is answered they are read; where one is, a set would answer in an order that nobody chose."""
    for some in ({1, 3}, frozenset({1, 3}), {1: "a", 3: "b"}.keys(), iter([1, 3]), (number for number in (1, 3))):
        assert sorted(index.search(ROWS[0], k=3, filter=some).ids.tolist()) == [1, 3]
    assert sorted(index.search(ROWS[0], k=3, filter=IdFilter({2, 3})).ids.tolist()) == [2, 3]
    assert index.search(ROWS[0], k=3, filter=set()).ids.tolist() == []
    np.testing.assert_array_equal(index.get({3: "a", 1: "b"}.keys()), ROWS[[2, 0]])
    assert_refused(index, lambda: index.get({1, 3}), "ids are a set, which has no order")
    assert_refused(index, lambda: index.add(ROWS[:2], {7, 8}), "ids are a set, which has no order")
    assert_refused(index, lambda: index.remove({1, "a"}), "ids must be 64-bit integers")
    assert index.remove({1, 3, 99}) == 2
    assert list(index) == [2]


NOT_IDS = {
    "a text": (np.array([1, "a"], object), "not 'a' at 1"),
    "none": ([1, None], "not None at 1"),
    "too large": ([1, 2**64], f"not {2**64} at 1"),
    "a float": (np.array([1, 2.5], object), r"not 2\.5 at 1"),
    "a boolean": (np.array([True, 1], object), "not True at 0"),
    "objects": (np.array([1, 2], object), r"Python objects; convert them with astype\(int\)"),
    "structured": (np.zeros(2, [("id", "i8")]), "a structured array"),
}


@pytest.mark.parametrize("kind", NOT_IDS)
def test_what_is_no_id_is_named(index: Index, kind: str) -> None:
    ids, message = NOT_IDS[kind]
    for attempt in (
        lambda: index.add(ROWS[:2], ids),
        lambda: index.get(ids),
        lambda: index.remove(ids),
        lambda: edgevec.IdFilter(ids),
        lambda: index.search(ROWS, filter=ids),
    ):
        assert_refused(index, attempt, f"ids must be 64-bit integers, .*{message}")


# ---- -1 ------------------------------------------------------------------------------------------------------------


def test_minus_one_is_no_id_since_it_stands_for_nothing_in_results(index: Index) -> None:
    message = "ids hold -1 at 1; -1 is reserved, it marks missing results"
    assert_refused(index, lambda: index.add(ROWS[:2], [5, -1]), message)
    assert_refused(index, lambda: edgevec.IdFilter([5, -1]), message)
    assert_refused(index, lambda: index.search(ROWS, filter=[2, -1]), message)
    assert -1 not in index
    assert index.remove([-1]) == 0
    with pytest.raises(KeyError, match="-1"):
        index.get([-1])
    assert index.add(ROWS[:2], [-2, -(2**63)]).tolist() == [-2, -(2**63)]
    found = index.search(ROWS, 9, filter=[-2]).ids
    assert ((found == -1).sum(axis=1) == found.shape[1] - 1).all()


def test_minus_one_is_an_id_of_a_collection() -> None:
    with edgevec.open(":memory:", metric="l2") as made:
        made.upsert([-1, 0, "-1"], ROWS)
        assert [hit.id for hit in made.search(ROWS[0], 3)] == [-1, 0, "-1"] or made.search(ROWS[0], 1)[0].id == -1
        assert made.get(-1)[0].vector.tolist() == [1, 2]
        assert made.delete(-1) == 1
        assert made.ids() == [0, "-1"]


# ---- parameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "message"),
    [
        (0, r"dim must be in 1\.\.65535, not 0"),
        (-3, r"dim must be in 1\.\.65535, not -3"),
        (65_536, r"dim must be in 1\.\.65535, not 65536"),
        (2**70, r"dim must be in 1\.\.65535"),
        (1.5, r"dim must be an integer, not 1\.5"),
        ("3", "dim must be an integer, not '3'"),
        (True, "dim must be an integer, not True"),
        (np.True_, "dim must be an integer, not"),
    ],
)
def test_an_invalid_dim_is_refused(dim: Any, message: str) -> None:
    for make in (lambda: Index(dim), lambda: edgevec.open(":memory:", dim)):
        with pytest.raises(ParameterError, match=message):
            make()


def test_a_dim_of_numpy_is_one() -> None:
    assert Index(np.int16(3)).dim == 3
    assert Index(np.uint64(3)).dim == 3


def test_the_end_of_automatic_ids_is_named() -> None:
    index = Index(2)
    index.add(ROWS[0], [2**63 - 1])
    with pytest.raises(edgevec.EdgevecError, match=f"no ids are left after {2**63 - 1}"):
        index.add(ROWS[1])
    assert list(index) == [2**63 - 1]
    assert index.add(ROWS[1], [5]).tolist() == [5]


def test_a_star_import_shadows_no_builtin() -> None:
    assert not set(edgevec.__all__) & set(dir(builtins))
    names: dict[str, Any] = {}
    exec("from edgevec import *", names)
    assert names["Index"] is Index
    assert names.get("open", open) is open
    assert edgevec.open(":memory:").ids() == []
