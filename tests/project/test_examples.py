"""The README's example of collections runs as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support import ROOT

import edgevec

README = ROOT / "README.md"


@pytest.mark.skipif(sys.platform == "emscripten", reason="25,000 vectors take long there")
def test_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not README.is_file():
        pytest.skip("the README is not beside the tests")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "edgevec.open(" in block)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(README), "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 5
    with edgevec.open("words.edgevec") as words:
        assert words.count({"year": {"$gte": 2000}}) == 1
        assert words.count("topic LIKE 'verb.%'") == 0
        assert "mine" in words
