"""docs/architecture.md names files that exist, and every module of the package and of its collections."""

from __future__ import annotations

import re

import pytest
from support import ROOT

PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = ("", "csrc", "edgevec", "edgevec/collection", "edgevec/collection/where", "tui", "tui/widgets")
"""Which its paths start from."""

pytestmark = pytest.mark.skipif(
    not PAGE.is_file() or not (ROOT / "edgevec").is_dir(), reason="the page and the source are not beside the tests"
)


def modules(folder: str) -> set[str]:
    return {path.stem for path in (ROOT / folder).glob("*.py") if not path.stem.startswith("__")}


def test_every_file_that_it_names_exists() -> None:
    named = set(re.findall(r"`([\w/.]+\.(?:c|h|py|tcss|mjs))`", PAGE.read_text(encoding="utf-8")))
    named -= {"stddef.h", "stdint.h"}
    assert "index/search.c" in named
    assert not [name for name in named if not any((ROOT / folder / name).is_file() for folder in FOLDERS)]


def test_every_module_has_its_place() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert not {name for name in modules("edgevec") if f"`edgevec.{name}`" not in text}
    picture = re.search(r"^    factory .*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert picture
    assert not modules("edgevec/collection") - set(re.findall(r"\w+", picture[0]))
