"""A method of Collection checks its arguments and makes one call: what it does stands in one place."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import pytest

from edgevec import Collection

PUBLIC = [
    node
    for node in ast.parse(textwrap.dedent(inspect.getsource(Collection))).body[0].body  # type: ignore[attr-defined]
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]
BELOW = re.compile(r"(operations|maintenance|import_export|self\._store|self\._searcher)(\.\w+)*\.[a-z_]\w*")


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.name)
def test_a_method_makes_one_call_of_a_module_below(method: ast.FunctionDef) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(method) if isinstance(node, ast.Call)]
    below = [call for call in calls if BELOW.fullmatch(call)]
    assert len(below) <= 1, below


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.name)
def test_a_method_does_not_reach_through_the_store(method: ast.FunctionDef) -> None:
    text = ast.unparse(method)
    assert not re.findall(r"self\._store\.\w+\.\w+", text)
