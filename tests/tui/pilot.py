"""How tests drive the app: start it, wait for what should come, read what is shown."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from edgevec.tui.app import EdgevecApp
from edgevec.tui.models import SAMPLE
from edgevec.tui.screens.dialogs import ErrorDialog
from edgevec.tui.settings import SettingsFile

JOBS = ("open", "build", "check", "info", "save", "search", "export", "queries", "sweep")

PATIENCE = 300.0
"""Seconds after which what should come is given up. Not a bound on speed, but an end for what hangs: on a loaded
machine a minute was not always enough to start the app."""


@asynccontextmanager
async def running(
    file: Path | None = None, size: tuple[int, int] = (120, 40), *, notifications: bool = False, **settings: Any
) -> AsyncIterator[tuple[EdgevecApp, Pilot[None]]]:
    app = EdgevecApp(file, **settings)
    async with app.run_test(size=size, notifications=notifications) as pilot:
        await until(pilot, lambda: app.current_mode == "open" or app.session.data is not None, "the first screen")
        yield app, pilot


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come; the screen shows:\n{shown(pilot.app)}")
        await pilot.pause(0.02)
    await pilot.pause()


def shown(app: Any) -> str:
    """The text on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def idle(app: EdgevecApp) -> bool:
    """Whether no job runs; the file tree's own worker never ends."""
    return all(worker.is_finished for worker in app.workers if worker.group in JOBS)


def error_of(app: EdgevecApp) -> str:
    """Title, reason and advice of the error that is shown; empty when there is none."""
    screen = app.screen
    if not isinstance(screen, ErrorDialog):
        return ""
    return "\n".join((screen.error.title, screen.error.reason, screen.error.advice))


async def is_refused(path: Path, reason: str) -> None:
    """Opening it tells what is wrong, why, and what to do; then the app goes on without data."""
    async with running(path) as (app, pilot):
        await until(pilot, lambda: error_of(app), "the message")
        assert f"{path.name} cannot be opened" in error_of(app)
        assert reason in error_of(app)
        assert error_of(app).splitlines()[2]
        await pilot.press("escape")
        assert app.session.data is None
        assert app.current_mode == "open"


def knows(index: Path, data: Path | None = None) -> SettingsFile:
    """Settings that know which data an index was built from: by default the sample."""
    file = SettingsFile()
    settings = file.read()
    settings.remember(index)
    settings.companions[str(index.absolute())] = SAMPLE if data is None else str(data.absolute())
    file.write(settings)
    return SettingsFile()


@asynccontextmanager
async def searching(index: Path, **settings: Any) -> AsyncIterator[tuple[EdgevecApp, Pilot[None]]]:
    """On the search screen, the sample open."""
    async with running(index, settings_file=knows(index), **settings) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        yield app, pilot
