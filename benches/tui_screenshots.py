"""The pictures of the terminal app in the README: the real app on the sample, drawn to SVG.

    python benches/tui_screenshots.py [FOLDER]       default: benches/figures

What they show was measured while they were made, on the machine that made them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from edgevec.tui.app import EdgevecApp
from edgevec.tui.screens.compare import CompareScreen
from edgevec.tui.screens.latency import LatencyScreen
from edgevec.tui.screens.search import SearchScreen
from edgevec.tui.settings import SettingsFile

SIZE = (112, 32)


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    while not condition():
        await pilot.pause(0.05)
    await pilot.pause(0.3)


async def draw(folder: Path, settings: Path) -> None:
    app = EdgevecApp(settings_file=SettingsFile(settings))
    async with app.run_test(size=SIZE) as pilot:

        def keep(name: str) -> None:
            app.clear_notifications()
            (folder / f"tui-{name}.svg").write_text(app.export_screenshot(title="edgevec tui", simplify=True))

        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SearchScreen) and app.screen.query("#query"))
        app.screen.query_one("#query", Input).value = "yellow fruit that monkeys like"
        await pilot.pause(2)
        keep("search")
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, LatencyScreen) and app.screen.query("#toggle"))
        await pilot.press("space")
        await pilot.pause(5)
        app.screen.query_one("#ef").focus()
        await pilot.press("2", "5", "6", "enter")
        await pilot.pause(4)
        keep("latency")
        await pilot.press("s", "f5")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.query("#run"))
        await pilot.press("r")
        screen = app.screen
        await until(pilot, lambda: isinstance(screen, CompareScreen) and not screen.running)
        keep("compare")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "figures"
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(draw(folder, Path(scratch, "tui.json")))


if __name__ == "__main__":
    main()
