"""Vectors in JSON are read by the core; a float32 must be the one that the json module and NumPy make of the text."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgevec import DataFormatError, read_vectors
from edgevec._native import read_numbers


def by_json(text: str) -> bytes | None:
    """The bytes of the float32; None for what is no JSON number, or too large."""
    try:
        value = json.loads(text)
        return array("f", [value]).tobytes() if type(value) in (int, float) else None
    except (ValueError, OverflowError):
        return None


def by_core(text: str) -> bytes | None:
    made = np.empty(2, np.float32)
    read = read_numbers(f"[ {text} ,\n{text}]tail".encode(), made)
    if not read:
        return None
    assert read == 2 * len(text) + 6
    assert made[0].tobytes() == made[1].tobytes()
    return made[0].tobytes()


halves = st.floats(width=32, min_value=2**-40, max_value=2**40).map(
    lambda x: (float(x) + float(np.nextafter(np.float32(x), np.float32(np.inf)))) / 2
)
numbers = (
    st.floats().map(repr)
    | st.floats(width=32).map(lambda x: f"{x:.9g}")
    | halves.map(lambda x: f"{x:.60f}")
    | halves.map(repr)
    | st.integers().map(str)
    | st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?\Z")
    | st.text("-+.eE0123456789 ", max_size=8)
)


@given(numbers)
@example("-0")
@example("-0.0")
@example("1e999999999999999999999")
@example("3.4028235677973366e38")
def test_a_number_is_the_one_that_json_reads_or_left_to_it(text: str) -> None:
    text = text.strip()
    core, known = by_core(text), by_json(text)
    assert core in (None, known)
    if known is not None and len(text) <= 12 and "e" not in text.lower():
        assert core == known


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "[1", "[1,", "[1,2", "[1,2,3]", "[1]", "1,2]", "[1 2]", "[,1]", "[1,2,]"]
)
def test_arrays_that_are_left_to_json(text: str) -> None:
    assert not read_numbers(text.encode(), np.empty(2, np.float32))


@pytest.mark.parametrize(
    "line",
    [
        '{"m": {"vector": [7, 8]}, "vector": [1, 2]}',
        '{"vector": [7, 8], "vector": [1, 2]}',
        '{"vector" : [1.0,2e0], "m": "\\"vector\\": [7, 8]"}',
        '{"x\\"vector": [7, 8], "vector": [1, 2]}',
        '{"\\u0076ector": [1, 2], "m": {"vector": [7, 8]}}',
        '{"vector":\n[1, 2]}'.replace("\n", "\t"),
        '{"m": "é", "vector": [1, 2], "n": "日本"}',
    ],
)
def test_the_vector_is_the_one_of_the_outermost_object(tmp_path: Path, line: str) -> None:
    (tmp_path / "v.jsonl").write_text('{"vector": [3, 4]}\n' + line, encoding="utf-8")
    dataset = read_vectors(tmp_path / "v.jsonl")
    assert dataset.vectors.tolist() == [[3, 4], [1, 2]]
    fields: dict[str, Any] = json.loads(line)
    del fields["vector"]
    assert (dataset.metadata or [{}, {}])[1] == fields


def test_a_nested_vector_alone_is_none(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"vector": [3, 4]}\n{"m": {"vector": [1, 2]}, "vector": null}')
    with pytest.raises(DataFormatError, match="line 2: field 'vector' is not a list of numbers"):
        read_vectors(tmp_path / "v.jsonl")
