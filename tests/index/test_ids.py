"""Ids: the caller's own, any int64, stable whatever happens to the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_held, clustered, each_quantization

import edgevec
from edgevec import Quantization

EXTREMES = [2**63 - 1, -(2**63), -2, 0, 2**62, -(2**31), 2**32 - 1, 2**32]


@each_quantization
def test_any_int64_is_an_id(quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, len(EXTREMES), 5)
    index = edgevec.Index(5, "l2", quantization=quantization)
    assert index.add(rows, EXTREMES).tolist() == EXTREMES
    assert sorted(index) == sorted(EXTREMES)
    for id, row in zip(EXTREMES, rows, strict=True):
        assert id in index
        assert index.search(row, 1).ids.tolist() == [id]
        assert_held(index, id, [row])
        assert index.search(-row, 3, filter=[id]).ids.tolist() == [id]
    assert index.remove(EXTREMES[:3]) == 3
    index.compact()
    assert sorted(index) == sorted(EXTREMES[3:])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int32, np.uint64, ">i8"])
def test_ids_of_any_integer_dtype(dtype: str, rng: np.random.Generator) -> None:
    index = edgevec.Index(3, "l2")
    ids = np.array([100, 3, 7], dtype)
    assert index.add(clustered(rng, 3, 3), ids).tolist() == [100, 3, 7]
    assert index.get(ids[::-1]).shape == (3, 3)
    assert len(edgevec.IdFilter(ids)) == 3
    assert index.remove(ids[:2]) == 2
    assert list(index) == [7]


def test_numbers_go_on_from_the_highest_ever_held(rng: np.random.Generator) -> None:
    index = edgevec.Index(3, "l2")

    def add(n: int, ids: list[int] | None = None) -> list[int]:
        return index.add(clustered(rng, n, 3), ids).tolist()

    assert add(2) == [0, 1]
    add(1, [-50])
    assert add(1) == [2]
    add(2, [1000, 7])
    assert add(2) == [1001, 1002]
    index.remove([1001, 1002, 1000])
    index.compact()
    assert add(1) == [1003]
    index.remove(list(index))
    assert add(1) == [1004]


@given(ids=st.lists(st.integers(-(2**63), -2) | st.integers(0, 2**63 - 1), unique=True, max_size=60), data=st.data())
def test_contains_len_and_iter_are_those_of_a_set(ids: list[int], data: st.DataObject) -> None:
    index = edgevec.Index(2, "l2", M=2, ef_construction=4)
    index.add(np.ones((len(ids), 2)) * np.arange(len(ids))[:, None], ids)
    gone = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    assert index.remove(gone) == len(gone)
    assert index.remove(gone) == 0
    left = set(ids) - set(gone)
    assert len(index) == len(left)
    assert sorted(index) == sorted(left)
    assert all((id in index) == (id in left) for id in ids)


def test_ids_that_share_their_low_bits(rng: np.random.Generator) -> None:
    """Multiples of a large power of two, as made by packing fields into an id, do not confuse the table."""
    ids = np.arange(-2000, 2000, dtype=np.int64) << 48
    index = edgevec.Index(4, "l2", M=2, ef_construction=4)
    rows = clustered(rng, 4000, 4)
    index.add(rows, ids)
    assert_held(index, ids, rows)
    assert all(int(id) in index for id in ids)
    assert all(int(id) + 1 not in index for id in ids)


def test_removing_an_id_twice_in_one_call_counts_once(rng: np.random.Generator) -> None:
    index = edgevec.Index(4)
    index.add(clustered(rng, 5, 4))
    assert index.remove([1, 1, 2, 99]) == 2
    assert sorted(index) == [0, 3, 4]


@each_quantization
def test_an_upsert_moves_an_id(quantization: Quantization, rng: np.random.Generator) -> None:
    old, new = clustered(rng, 2, 6) + np.float32([[20], [-20]])
    index = edgevec.Index(6, "l2", quantization=quantization)
    index.add(clustered(rng, 30, 6))
    index.add(old, 500)
    index.add(new, 500)
    assert len(index) == 31
    assert 500 not in index.search(old, 1).ids
    assert index.search(new, 1).ids.tolist() == [500]
    assert_held(index, [500, 500], [new, new])


def test_what_is_public_is_there() -> None:
    assert all(hasattr(edgevec, name) for name in edgevec.__all__)
    assert len(set(edgevec.__all__)) == len(edgevec.__all__)
    assert {"Index", "SearchContext", "IdFilter", "SearchResult", "simd_info", "recall", "read_vectors"} <= set(
        edgevec.__all__
    )
    assert edgevec.__version__.count(".") == 2
