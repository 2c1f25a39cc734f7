"""Arrays as people have them: what is read, and what is refused with the true reason and before anything changes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import need_module

import edgevec
from edgevec import Index, ParameterError

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


def test_an_array_of_arrays_is_told_to_be_stacked(index: Index) -> None:
    series = np.empty(2, object)
    series[:] = [ROWS[0], ROWS[1]]
    assert_refused(index, lambda: index.add(series), r"an array of arrays; combine .* numpy\.stack\(\)")
    pandas = need_module("pandas")
    column = pandas.DataFrame({"v": list(ROWS)})["v"]
    assert_refused(index, lambda: index.add(column), r"numpy\.stack")
    assert index.add(np.stack(column), [1, 2, 3]).tolist() == [1, 2, 3]


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
