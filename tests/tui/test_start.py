"""The start of the app."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pilot import running, until

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
