"""Every screen, cell by cell and color by color, as an SVG beside this file.

A picture that differs is written to the folder `artifacts` (or where EDGEVEC_TUI_ARTIFACTS says) and the test fails.
Look at both; where the new one is meant, run `pytest tests/tui/test_snapshots.py --accept`, or copy it over.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, fake_services
from pilot import running, shown, until
from textual.widgets import Input

import edgevec
from edgevec import SimdInfo
from edgevec.tui.errors import ErrorMessage
from edgevec.tui.screens.dialogs import ErrorDialog, PathDialog, UnsavedDialog
from edgevec.tui.screens.record import RecordScreen
from edgevec.tui.settings import Settings, SettingsFile

HERE = Path(__file__).resolve().parent
KEPT = HERE / "snapshots"
ARTIFACTS = Path(os.environ.get("EDGEVEC_TUI_ARTIFACTS", HERE / "artifacts"))

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
at_each_size = pytest.mark.parametrize("size", list(SIZES))


def normal(svg: str) -> str:
    """Without what says nothing about the picture: ids made from a hash, and where the fonts come from."""
    svg = re.sub(r"terminal-?\d+", "terminal", svg)
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


async def settled(stage: Stage, wanted: str | None) -> str:
    """The picture once it is the wanted one or stands still: on a busy machine the last widgets come late."""
    picture, still = "", 0
    for _ in range(100):
        stage.app.clear_notifications()
        await stage.pilot.pause(0.05)
        last, picture = picture, normal(stage.app.export_screenshot(title="edgevec", simplify=True))
        still = still + 1 if picture == last else 0
        if picture == wanted or still == 20:
            break
    return picture


async def compare(stage: Stage, name: str, accept: bool) -> None:
    path = KEPT / f"{name}.svg"
    kept = path.read_text(encoding="utf-8") if path.exists() and not accept else None
    new = await settled(stage, kept)
    if accept:
        path.write_text(new, encoding="utf-8")
    if accept or new == kept:
        return
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / path.name).write_text(new, encoding="utf-8")
    pytest.fail(
        f"{path.name} {'differs' if path.exists() else 'is not kept yet'}: the new one is {ARTIFACTS / path.name}; "
        "to accept it, look at it and run the test with --accept"
    )


class Stage:
    """The app on the stage, and how to get to its screens."""

    def __init__(self, size: str, theme: str = "edgevec-dark", **replaced: Any) -> None:
        file = SettingsFile()
        file.write(Settings(theme=theme, recent=["/data/glove-100.hdf5", "/data/wordnet.ev"]))
        services = dataclasses.replace(fake_services(FakeClock()), **replaced)
        self.running = running(size=SIZES[size], services=services, settings_file=SettingsFile())

    async def __aenter__(self):
        self.app, self.pilot = await self.running.__aenter__()
        return self

    async def __aexit__(self, *error) -> None:
        await self.running.__aexit__(*error)

    async def sample(self) -> None:
        await self.pilot.press("enter")
        await until(self.pilot, lambda: self.app.current_mode == "search", "the search screen")
        for field in self.app.screen.query(Input):
            field.cursor_blink = False

    async def go(self, key: str, place: str) -> None:
        await self.pilot.press(key)
        await until(self.pilot, lambda: self.app.current_mode == place, place)
        await self.pilot.pause(0.1)

    async def collection(self, folder: Path) -> None:
        """The staged sample as a collection, whose ids are numbers and texts."""
        path, data = folder / "words.edgevec", self.app.services.read_sample()
        ids = [f"wn-{at}" if at % 3 == 0 else at for at in range(len(data))]
        metadata = [
            {"topic": topic, "pos": pos, "at": {"row": row}}
            for row, (topic, pos) in enumerate(zip(*data.columns.values(), strict=True))
        ]
        with edgevec.open(path) as made:
            made.upsert(ids, data.vectors, metadata, data.texts)
            made.create_index("topic")
        self.app.open_file(path)
        self.app.screen.on_screen_resume()
        await until(self.pilot, lambda: self.app.current_mode == "search", "the search screen")
        for field in self.app.screen.query(Input):
            field.cursor_blink = False

    async def search(self) -> None:
        self.app.screen.query_one("#query", Input).value = "yellow fruit"
        await until(self.pilot, lambda: self.app.screen._recall is not None, "an answer")
        self.app.screen._remember("yellow fruit")
        await self.pilot.pause(0.1)

    async def latency(self) -> None:
        await self.go("f4", "latency")
        screen = self.app.screen
        screen.ticker.stop()
        await self.pilot.pause(0.1)
        await self.pilot.press("space")
        await until(self.pilot, lambda: screen.generator.state == "running", "the load")
        for _ in range(60):
            screen.tick()
        await self.pilot.press("right_square_bracket", "right_square_bracket")
        await until(self.pilot, lambda: screen.generator.load.ef == 128, "the other ef")
        for _ in range(50):
            screen.tick()
        await self.pilot.pause(0.1)

    async def compare(self) -> None:
        await self.go("f5", "compare")
        await self.pilot.press("r")
        await until(self.pilot, lambda: len(self.app.screen.curves) == 3, "the variants")
        await until(self.pilot, lambda: not self.app.screen.running, "the end of the comparison")
        await self.pilot.pause(0.1)


@at_each_size
async def test_open(size: str, folder: Path, animals: Path, accept: bool) -> None:
    (folder / "more").mkdir()
    async with Stage(size) as stage:
        await stage.pilot.pause(0.3)
        await compare(stage, f"open-{size}", accept)


@at_each_size
async def test_data(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.sample()
        await stage.go("f2", "data")
        await until(stage.pilot, lambda: "sound" in stage.app.screen._health, "the check")
        await stage.pilot.pause(0.1)
        await compare(stage, f"data-{size}", accept)


@at_each_size
async def test_search(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.sample()
        await stage.search()
        await compare(stage, f"search-{size}", accept)


@at_each_size
async def test_collection(size: str, folder: Path, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.collection(folder)
        stage.app.screen.query_one("#filter", Input).value = "topic = 'noun.food'"
        await stage.search()
        await until(stage.pilot, lambda: "among" in shown(stage.app), "the filtered answer")
        await compare(stage, f"collection-{size}", accept)
        box = stage.app.screen.query_one("#filter", Input)
        box.focus()
        box.value = "topic = noun"
        await until(stage.pilot, lambda: "needs quotes" in shown(stage.app), "the fault")
        await compare(stage, f"fault-{size}", accept)
        await stage.go("f2", "data")
        await until(stage.pilot, lambda: "sound" in stage.app.screen._health, "the check")
        await compare(stage, f"collection-data-{size}", accept)


@at_each_size
async def test_latency(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.sample()
        await stage.latency()
        await compare(stage, f"latency-{size}", accept)


@at_each_size
async def test_compare(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.sample()
        await stage.compare()
        await compare(stage, f"compare-{size}", accept)


@at_each_size
async def test_help(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.sample()
        await stage.go("f2", "data")
        await stage.pilot.press("question_mark")
        await stage.pilot.pause(0.1)
        await compare(stage, f"help-{size}", accept)


@at_each_size
async def test_error(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        reason = "/data/wordnet.ev: damaged index file: section 'blocks': checksum"
        await stage.app.push_screen(ErrorDialog(ErrorMessage("wordnet.ev cannot be opened", reason, "Build it again.")))
        await stage.pilot.pause(0.1)
        await compare(stage, f"error-{size}", accept)


@at_each_size
async def test_record(size: str, folder: Path, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.collection(folder)
        await stage.search()
        await stage.pilot.press("escape", "enter")
        await until(stage.pilot, lambda: isinstance(stage.app.screen, RecordScreen), "the record")
        await compare(stage, f"record-{size}", accept)


@at_each_size
async def test_leaving(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        await stage.sample()
        stage.app.session.current.unsaved = True
        await stage.pilot.press("ctrl+q")
        await until(stage.pilot, lambda: isinstance(stage.app.screen, UnsavedDialog), "the question")
        await compare(stage, f"leaving-{size}", accept)


@at_each_size
async def test_path(size: str, accept: bool) -> None:
    async with Stage(size) as stage:
        dialog = PathDialog("Save the index", Path("/data/wordnet.ev"), (".ev",))
        await stage.app.push_screen(dialog)
        dialog.query_one(Input).cursor_blink = False
        await stage.pilot.pause(0.1)
        await compare(stage, f"path-{size}", accept)


@pytest.mark.parametrize("theme", ["light", "contrast"])
async def test_themes(theme: str, accept: bool) -> None:
    async with Stage("80x24", f"edgevec-{theme}") as stage:
        await stage.sample()
        await stage.search()
        await compare(stage, f"search-80x24-{theme}", accept)


async def test_a_machine_without_simd_sees_a_warning() -> None:
    scalar = SimdInfo("scalar", ("scalar",), ("scalar", "avx2"), None)
    async with Stage("80x24", simd_info=lambda: scalar) as stage:
        await stage.sample()
        assert "⚠ no SIMD: slow" in shown(stage.app)
