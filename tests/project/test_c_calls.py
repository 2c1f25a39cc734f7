"""The table of calls in tests/c/test_threads.c, which are made beside each other, names every one of edgevec.h's."""

from __future__ import annotations

import re
import runpy

import pytest
from support import ROOT

TABLE = re.compile(r'\{"(ev_[\w ]+)", (call_\w+), EV_\w+\}')


def test_every_public_call_is_made_beside_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    header, source = ROOT / "csrc" / "edgevec.h", ROOT / "tests" / "c" / "test_threads.c"
    if not (header.is_file() and source.is_file()):
        pytest.skip("the header is not beside the tests")
    declarations = runpy.run_path(str(header.with_name("binding.py")))["declarations"](header.read_text())
    code = re.sub(r"/\*.*?\*/", "", declarations, flags=re.DOTALL)
    public = set(re.findall(r"\b(ev_\w+)\(", code))  # without ev_set_allocator, which comes before all others
    assert len(public) > 30
    text = source.read_text()
    named: set[str] = set()
    for names, maker in TABLE.findall(text):
        body = re.search(rf"^static int {maker}\(scene \*s\) {{(.*?}})$", text, re.DOTALL | re.MULTILINE)
        assert body, maker
        for name in names.split():
            assert f"{name}(" in body[1], f"{maker} is listed for {name} and does not call it"
            named.add(name)
    assert named == public
