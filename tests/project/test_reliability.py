"""Every test that docs/reliability.md names exists."""

from __future__ import annotations

import re

import pytest
from support import ROOT

PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.(?:py|c))(?:::(\w+))?`")


def test_every_promise_names_a_test_that_exists() -> None:
    if not PAGE.is_file():
        pytest.skip("the documentation is not beside the tests")
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Long runs")[0].splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) > 30
    for row in promises:
        named = NAMED.findall(row)
        assert named, f"no test shows: {row}"
        for file, name in named:
            source = (ROOT / file).read_text(encoding="utf-8")
            assert not name or f"def {name}(" in source, f"{file}::{name}"
