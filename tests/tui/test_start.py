"""The start of the app."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pilot import running, until
from textual.widgets._footer import FooterKey

from edgevec.cli.tui import tui


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


async def test_garbage_is_collected_once_the_first_screen_is_there() -> None:
    gc.disable()
    async with running() as (_, pilot):
        await until(pilot, gc.isenabled, "the collection of garbage")
        assert gc.get_freeze_count()


def test_garbage_is_collected_where_the_app_does_not_start(tmp_path: Path) -> None:
    assert CliRunner().invoke(tui, [str(tmp_path / "missing.npy")]).exit_code
    assert gc.isenabled()


async def test_keys_in_the_footer_are_styled_as_they_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual's begin compact, and change."""
    compact: list[bool] = []
    monkeypatch.setattr(
        FooterKey, "_watch_compact", lambda self, value: self.has_class("-command-palette") or compact.append(value)
    )
    async with running() as (app, pilot):
        await until(pilot, lambda: len(app.screen.query(FooterKey)) > 3, "the footer")
    assert compact
    assert not any(compact)
