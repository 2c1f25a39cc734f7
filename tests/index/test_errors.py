"""Bad input is refused with the right error, which is also a builtin, and leaves the index exactly as it was."""

from __future__ import annotations

import array
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import METRICS, QUANTIZATIONS, each_metric, each_quantization
from support import examples

import edgevec
from edgevec import Metric, Quantization, errors, evaluation

DIM = 4
BUILTINS = {
    errors.ParameterError: ValueError,
    errors.NotFiniteError: ValueError,
    errors.ZeroVectorError: ValueError,
    errors.DuplicateIdError: ValueError,
    errors.UnknownIdError: KeyError,
    errors.BusyError: RuntimeError,
    errors.CancelledError: RuntimeError,
    errors.ForkedError: RuntimeError,
    errors.NoVectorsError: ValueError,
    errors.OutOfMemoryError: MemoryError,
    errors.SimdError: RuntimeError,
    errors.StorageError: OSError,
    errors.CorruptIndexError: ValueError,
    errors.FormatVersionError: ValueError,
    errors.IndexNotFoundError: FileNotFoundError,
    errors.MissingExtraError: ImportError,
    errors.DataFormatError: ValueError,
    errors.DataNotFoundError: FileNotFoundError,
}


@pytest.mark.parametrize(("error", "builtin"), BUILTINS.items())
def test_an_error_is_also_a_builtin_and_says_its_message(
    error: type[errors.EdgevecError], builtin: type[Exception]
) -> None:
    assert issubclass(error, errors.EdgevecError)
    assert issubclass(error, builtin)
    assert str(error("row 3: it's NaN")) == "row 3: it's NaN"


@pytest.mark.parametrize(
    "kind", [errors.StorageError, errors.LockedError, errors.IndexNotFoundError, errors.DataNotFoundError]
)
def test_an_error_of_files_survives_pickling_whole(kind: Any) -> None:
    error = pickle.loads(pickle.dumps(errors.about_file(kind("no room for it"), "/a/b", 28)))
    assert type(error) is kind
    assert (str(error), error.errno, error.strerror, error.filename) == ("no room for it", 28, os.strerror(28), "/a/b")
    assert kind("nobody knows why").filename is None


# Of more bytes than any process can address, made without any: what is converted, sorted or searched has to be copied.
HUGE = 2**45
OUT_OF_MEMORY: dict[str, Callable[[edgevec.Index], object]] = {
    "add": lambda index: index.add(np.broadcast_to(np.float64(1), (HUGE, DIM))),
    "add ids": lambda index: index.add(np.ones((1, DIM)), np.broadcast_to(np.int64(1), HUGE)),
    "remove": lambda index: index.remove(np.broadcast_to(np.int64(1), HUGE)),
    "get": lambda index: index.get(np.broadcast_to(np.int64(1), HUGE)),
    "search": lambda index: index.search(np.broadcast_to(np.float64(1), (HUGE, DIM))),
    "search a batch": lambda index: index.search(np.broadcast_to(np.float32(1), (HUGE, DIM)), 3),
    "search filter": lambda index: index.search(np.ones(DIM), filter=np.broadcast_to(np.int64(1), HUGE)),
    "filter": lambda index: edgevec.IdFilter(np.broadcast_to(np.int64(1), HUGE)),
    "calibrate": lambda index: index.calibrate(3, queries=np.broadcast_to(np.float64(1), (HUGE, DIM))),
    "exact_neighbors": lambda index: evaluation.exact_neighbors(
        np.broadcast_to(np.float32(1), (HUGE, DIM)), np.ones((1, DIM), np.float32), 1, "cosine"
    ),
}


@pytest.mark.skipif(sys.maxsize < 2**32, reason="no such shapes in 32 bits")
@pytest.mark.parametrize("call", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_what_numpy_has_no_memory_for_is_an_error_of_ours(call: Callable[[edgevec.Index], object]) -> None:
    index = edgevec.Index(DIM)
    index.add(np.eye(DIM))
    with pytest.raises(edgevec.OutOfMemoryError) as raised:
        call(index)
    assert isinstance(raised.value, MemoryError)
    assert list(index) == [0, 1, 2, 3]


def test_every_error_is_public() -> None:
    public = {getattr(edgevec, name) for name in edgevec.__all__}
    assert {*BUILTINS, edgevec.EdgevecError, edgevec.SimdWarning} <= public
    assert issubclass(edgevec.SimdWarning, RuntimeWarning)


# ---- nothing changes -----------------------------------------------------------------------------------------------


def state(index: edgevec.Index, path: Path) -> tuple[Any, ...]:
    """All that can be seen of an index, its file included."""
    index.save(path)
    found = index.search(np.eye(DIM, dtype=np.float32), 6)
    return len(index), list(index), index.ef, found.ids.tolist(), found.distances.tolist(), path.read_bytes()


def an_index(metric: Metric = "cosine", quantization: Quantization = "sq8") -> edgevec.Index:
    """With live, replaced and removed vectors, and a duplicate."""
    index = edgevec.Index(DIM, metric, quantization=quantization, M=2, ef_construction=10)
    rows = np.random.default_rng(3).standard_normal((30, DIM))
    index.add(rows, np.arange(30) * 10)
    index.add(rows[:5] + 1, np.arange(5) * 10)
    index.add(rows[9], 1000)
    index.remove([0, 110, 120])
    return index


@pytest.fixture
def unchanged(tmp_path: Path) -> Iterator[Callable[..., edgevec.Index]]:
    """Makes indexes, and checks when the test is over that they are as they were made."""
    made = []

    def make(metric: Metric = "cosine", quantization: Quantization = "sq8") -> edgevec.Index:
        index = an_index(metric, quantization)
        made.append((index, state(index, tmp_path / "index")))
        return index

    yield make
    for index, before in made:
        assert state(index, tmp_path / "index") == before
        assert index.check().ok


def good(n: int = 7) -> Any:
    return np.random.default_rng(5).standard_normal((n, DIM)).astype(np.float32)


# ---- vectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e19, -3e38])
@pytest.mark.parametrize("row", [0, 3, 6])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_what_is_not_finite_is_refused_by_row(
    metric: Metric, quantization: Quantization, row: int, bad: float, unchanged: Callable[..., edgevec.Index]
) -> None:
    index = unchanged(metric, quantization)
    rows = good()
    rows[row, row % DIM] = bad
    with pytest.raises(edgevec.NotFiniteError, match=rf"\brow {row}\b"):
        index.add(rows)
    with pytest.raises(edgevec.NotFiniteError, match=rf"\brow {row}\b"):
        index.add(rows, np.arange(7) * 10)  # an upsert
    with pytest.raises(edgevec.NotFiniteError, match=rf"\brow {row}\b"):
        index.search(rows)
    with pytest.raises(edgevec.NotFiniteError, match=r"\brow 0\b"):
        index.search(rows[row], exact=True)


@given(dim=st.integers(1, 300), row=st.integers(0, 40), data=st.data())
@settings(max_examples=examples(60))
def test_one_bad_number_anywhere(dim: int, row: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, dim - 1))
    rows = np.ones((41, dim), np.float32)
    rows[row, at] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    index = edgevec.Index(dim, "l2")
    with pytest.raises(edgevec.NotFiniteError, match=rf"\brow {row}\b"):
        index.add(rows)
    assert len(index) == 0
    assert index.search(np.ones(dim)).ids.size == 0


def test_what_float32_cannot_hold(unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged("l2", "none")
    for huge in (1e39, 1e300, -1e300):
        with pytest.raises(edgevec.NotFiniteError, match=r"\brow 1\b"):
            index.add([[1.0] * DIM, [huge] * DIM])
    with pytest.raises(edgevec.EdgevecError):
        index.add([[10**400] * DIM])


@each_quantization
def test_a_zero_vector_has_no_cosine(quantization: Quantization, unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged("cosine", quantization)
    rows = good()
    rows[4] = 0
    with pytest.raises(edgevec.ZeroVectorError, match=r"\brow 4\b"):
        index.add(rows)
    with pytest.raises(edgevec.ZeroVectorError, match=r"\brow 4\b"):
        index.search(rows)
    with pytest.raises(edgevec.ZeroVectorError, match=r"\brow 0\b"):
        index.search([0] * DIM)


@each_quantization
@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_a_zero_vector_is_fine_otherwise(metric: Metric, quantization: Quantization) -> None:
    index = an_index(metric, quantization)
    index.add([[0] * DIM], 7777)
    np.testing.assert_array_equal(index.get(7777), np.zeros((1, DIM)))
    found = index.search([0] * DIM, 50)
    assert found.ids.size == len(index)
    assert metric == "ip" or found.ids[0] == 7777
    assert metric == "l2" or (found.distances == 1).all()


SHAPES = {
    "a dimension too few": np.ones((2, DIM - 1)),
    "a dimension too many": np.ones((2, DIM + 1)),
    "one vector too short": np.ones(DIM - 1),
    "one vector too long": np.ones(DIM + 1),
    "a flat array of several": np.ones(2 * DIM),
    "a number": 3.0,
    "three axes": np.ones((1, 2, DIM)),
    "no dimensions": np.empty((0, 0)),
    "empty rows": np.empty((3, 0)),
    "ragged lists": [[1.0] * DIM, [1.0] * (DIM + 1)],
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")
def test_vectors_of_the_wrong_shape_are_refused(kind: str, unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    with pytest.raises(edgevec.ParameterError):
        index.add(SHAPES[kind])
    with pytest.raises(edgevec.ParameterError):
        index.search(SHAPES[kind])


def test_the_message_names_both_dimensions(unchanged: Callable[..., edgevec.Index]) -> None:
    with pytest.raises(edgevec.ParameterError, match=r"vectors .*\b5\b.*\b4\b"):
        unchanged().add(np.ones((2, 5)))
    with pytest.raises(edgevec.ParameterError, match=r"queries .*\b5\b.*\b4\b"):
        unchanged().search(np.ones(5))


DTYPES = {
    "complex": np.zeros((2, DIM), np.complex64),
    "object": np.array([[1.0] * DIM] * 2, object),
    "strings": np.array([["1"] * DIM] * 2),
    "list of strings": [["1"] * DIM] * 2,
    "bytes": b"1234",
    "a string": "1234",
    "dates": np.zeros((2, DIM), "datetime64[s]"),
    "records": np.zeros((2, DIM), [("x", "f4")]),
    "none": None,
    "list of none": [[None] * DIM],
    "dict": {"a": 1},
    "set": {1.0, 2.0},
    "generator": (row for row in [[1.0] * DIM]),
}


@pytest.mark.parametrize("kind", DTYPES)
def test_vectors_of_the_wrong_type_are_refused(kind: str, unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    with pytest.raises(edgevec.ParameterError):
        index.add(DTYPES[kind])
    with pytest.raises(edgevec.ParameterError):
        index.search(DTYPES[kind])


# ---- ids -----------------------------------------------------------------------------------------------------------

NOT_IDS = {
    "floats": [1.0, 2.0],
    "a float array": np.arange(2, dtype=np.float32),
    "strings": ["1", "2"],
    "a mask": np.array([True, False]),
    "objects": np.array([1, 2], object),
    "complex": [1j, 2j],
    "none": [None, 1],
    "two axes": [[1, 2]],
    "beyond int64": [2**63, 1],
    "below int64": [-(2**63) - 1, 1],
    "far beyond": [10**30, 1],
    "unsigned beyond int64": np.array([2**63, 1], np.uint64),
    "dates": np.zeros(2, "datetime64[s]"),
}


@pytest.mark.parametrize("kind", NOT_IDS)
def test_ids_of_the_wrong_kind(kind: str, unchanged: Callable[..., edgevec.Index]) -> None:
    index, bad = unchanged(), NOT_IDS[kind]
    calls: list[Callable[[], object]] = [
        lambda: index.add(good(2), bad),
        lambda: index.get(bad),
        lambda: index.remove(bad),
        lambda: edgevec.IdFilter(bad),
        lambda: index.search(good(1)[0], filter=bad),
    ]
    for call in calls:
        with pytest.raises(edgevec.ParameterError):
            call()


def test_a_mask_is_told_to_be_one(unchanged: Callable[..., edgevec.Index]) -> None:
    with pytest.raises(edgevec.ParameterError, match="mask"):
        unchanged().search(good(1)[0], filter=np.ones(28, bool))


def test_the_same_id_twice_in_a_call(unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    for ids in ([1, 2, 1], [10, 10, 20], [-5, -7, -5]):
        with pytest.raises(edgevec.DuplicateIdError, match=rf"\bid {ids[0]}\b"):
            index.add(good(3), ids)
    many = np.arange(5000)
    many[4321] = 1234
    with pytest.raises(edgevec.DuplicateIdError, match=r"\bid 1234\b.*\brow 4321\b"):
        index.add(good(5000), many)


@pytest.mark.parametrize("ids", [[], [1], [1, 2, 3, 4], 5])
def test_not_an_id_a_vector(ids: Any, unchanged: Callable[..., edgevec.Index]) -> None:
    with pytest.raises(edgevec.ParameterError, match=r"\b3 vectors\b"):
        unchanged().add(good(3), ids)


@pytest.mark.parametrize("id", [7, 0, 110, -1, 2**63 - 1, -(2**63)])
def test_an_id_that_is_not_held(id: int, unchanged: Callable[..., edgevec.Index]) -> None:
    """Never held, removed, or at the ends of what an id can be."""
    index = unchanged()
    with pytest.raises(KeyError, match=rf"(?<![-\d]){id}\b") as raised:
        index.get([10, id])
    assert isinstance(raised.value, edgevec.UnknownIdError)
    assert index.remove([id]) == 0
    assert id not in index


@pytest.mark.parametrize("id", ["10", 10.0, None, (10,), [10], 2**63, 2**200, True, np.float32(10)])
def test_what_cannot_be_an_id_is_not_in_the_index(id: Any) -> None:
    index = edgevec.Index(DIM)
    index.add(good(2), [10, 1])
    assert id not in index
    assert 10 in index
    assert np.int8(10) in index


def test_running_out_of_ids_is_an_error(unchanged: Callable[..., edgevec.Index]) -> None:
    index = edgevec.Index(DIM)
    index.add(good(1), 2**63 - 2)
    assert index.add(good(0)).size == 0
    with pytest.raises(edgevec.OutOfMemoryError):
        index.add(good(2))
    assert list(index) == [2**63 - 2]


# ---- numbers -------------------------------------------------------------------------------------------------------

NOT_COUNTS = [0, -1, -(2**31), 2**31, 2**64, 1.0, 1.5, np.nan, "3", None, [3], True, np.float64(3)]


@pytest.mark.parametrize("k", NOT_COUNTS)
def test_k_must_be_a_positive_integer(k: Any, unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    for queries in (good(1)[0], good(2), good(0)):
        with pytest.raises(edgevec.ParameterError, match=r"\bk\b"):
            index.search(queries, k)


@pytest.mark.parametrize("ef", [number for number in NOT_COUNTS if number is not None] + [1_000_001])
def test_ef_must_be_a_positive_integer(ef: Any, unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    with pytest.raises(edgevec.ParameterError, match=r"\bef\b"):
        index.search(good(2), ef=ef)
    with pytest.raises(edgevec.ParameterError, match=r"\bef\b"):
        index.ef = ef


@pytest.mark.parametrize("threads", [-1, 2**31, 1.0, "2", None])
def test_threads_must_be_a_count(threads: Any, unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    with pytest.raises(edgevec.ParameterError, match="threads"):
        index.search(good(2), threads=threads)
    with pytest.raises(edgevec.ParameterError, match="threads"):
        index.add(good(2), threads=threads)


def test_counts_may_be_numpy_integers() -> None:
    index = an_index()
    assert index.search(good(1)[0], np.int8(3), ef=np.uint64(9)).ids.shape == (3,)


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "dim": [0, -1, 65536, 2.0, "2", None, True],
        "metric": ["dot", "COSINE", "", None, 0, "l2 ", b"l2"],
        "quantization": ["int8", "SQ8", "", None, 1],
        "M": [0, 1, -2, 257, 16.0, None],
        "ef_construction": [0, -1, 65536, 10.5, None],
        "seed": [-1, 2**64, 0.5, None, "0"],
    }.items(),
)
def test_parameters_of_an_index(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(edgevec.ParameterError, match=rf"\b{name}\b"):
            edgevec.Index(**{"dim": DIM, name: value})


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 1},
        {"dim": 65535},
        {"M": 2},
        {"M": 256},
        {"ef_construction": 1},
        {"ef_construction": 65535},
        {"seed": 2**64 - 1},
    ],
)
@each_metric
@each_quantization
def test_parameters_at_their_ends_work(metric: Metric, quantization: Quantization, options: dict[str, int]) -> None:
    index = edgevec.Index(**{"dim": DIM, **options}, metric=metric, quantization=quantization)
    rows = np.random.default_rng(0).standard_normal((12, index.dim)).astype(np.float32)
    index.add(rows)
    assert index.check().ok
    assert set(index.search(rows[3], 12).ids.tolist()) == set(range(12))
    for name, value in options.items():
        assert getattr(index, name) == value


# ---- the wrong thing -----------------------------------------------------------------------------------------------


def test_a_context_of_another_index(unchanged: Callable[..., edgevec.Index]) -> None:
    index, other = unchanged(), unchanged()
    with pytest.raises(edgevec.ParameterError, match="context"):
        index.search(good(1)[0], context=edgevec.SearchContext(other))


def test_a_failed_call_leaves_a_context_usable(unchanged: Callable[..., edgevec.Index]) -> None:
    index = unchanged()
    context = edgevec.SearchContext(index)
    before = index.search(good(1)[0], 5, context=context)
    with pytest.raises(edgevec.NotFiniteError):
        index.search([np.nan] * DIM, 5, context=context)
    after = index.search(good(1)[0], 5, context=context)
    np.testing.assert_array_equal(before.ids, after.ids)


def test_refused_buffers_are_released(unchanged: Callable[..., edgevec.Index]) -> None:
    """A buffer that an error kept exported could not be resized any more."""
    numbers = array.array("f", [np.nan] * DIM)
    with pytest.raises(edgevec.NotFiniteError):
        unchanged().add(numbers)
    numbers.append(1.0)
