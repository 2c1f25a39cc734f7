"""What is checked of vectors before they are written is what the index checks when it takes them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevec import EdgevecError, Index
from edgevec.collection.validation import are_valid

EDGES = (0.0, 1e-45, 1e-30, 1.0, 1e18, 1.5e18, 1.6e18, 3.1e18, 3.17e18, 1e30, np.inf, -np.inf, np.nan)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("value", EDGES)
@pytest.mark.parametrize("filled", [1, 4])
def test_an_index_takes_the_vectors_that_are_valid(metric: Any, value: float, filled: int) -> None:
    vectors = np.ones((3, 4), np.float32)
    vectors[1] = 0
    vectors[1, :filled] = value
    valid = are_valid(vectors, metric)
    assert valid[[0, 2]].all()
    index = Index(4, metric)
    try:
        index.add(vectors[1])
    except EdgevecError:
        assert not valid[1]
    else:
        assert valid[1]


def test_no_vectors_are_valid_of_none() -> None:
    assert are_valid(np.empty((0, 4), np.float32), "cosine").shape == (0,)
