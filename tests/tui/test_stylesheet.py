"""Styles are parsed once, and mean what Textual's own stylesheet makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from textual.css import stylesheet as textuals
from textual.css.stylesheet import Stylesheet

from edgevec.tui.stylesheet import CachedStylesheet

SOURCES = [f"#w{number} {{ width: {number}; color: $c; }}" for number in range(100)]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that were parsed."""
    seen: list[str] = []

    def parse(scope: str, css: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(css)
        return original(scope, css, *args, **kwargs)

    original = textuals.parse
    monkeypatch.setattr(textuals, "parse", parse)
    return seen


def css_of(kind: type[Stylesheet], variables: dict[str, str]) -> str:
    sheet = kind(variables={"c": "red"})
    for css in SOURCES:
        sheet.add_source(css, ("", css))
    sheet.reparse()
    sheet.set_variables(variables)
    sheet.reparse()
    return sheet.css


def test_what_is_new_is_parsed_alone(parsed: list[str]) -> None:
    sheet = CachedStylesheet(variables={"c": "red"})
    for css in SOURCES:
        sheet.add_source(css, ("", css))
    sheet.reparse()
    assert parsed == SOURCES
    sheet.add_source("#new { width: 1; }", ("", "new"))
    sheet.reparse()
    sheet.set_variables({"c": "red"})
    sheet.reparse()
    assert parsed == [*SOURCES, "#new { width: 1; }"]
    assert "#new" in sheet.css


@pytest.mark.parametrize("color", ["red", "blue"])
def test_rules_are_those_of_textual(color: str) -> None:
    assert css_of(CachedStylesheet, {"c": color}) == css_of(Stylesheet, {"c": color})
