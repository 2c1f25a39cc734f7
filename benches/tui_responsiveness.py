"""Is the terminal app quick to the touch while it builds? Keys are sent at a steady pace, and their handling is timed.

    python benches/tui_responsiveness.py                 100,000 x 384
    python benches/tui_responsiveness.py --rows 20000    smaller

The app runs without a terminal. A thread of its own plays the keyboard, so that a stuck event loop shows; a key counts
as handled when the control that has the focus has changed. Exit code 1 when one in a hundred waits more than 100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from data import clustered
from textual import events
from timing import machine

from edgevec.tui.app import EdgevecApp
from edgevec.tui.screens.data import DataScreen
from edgevec.tui.settings import SettingsFile
from edgevec.tui.widgets.controls import Choice

PACE = 0.05
"""Seconds between two keys: quick typing."""
LIMIT_MS = 100.0


class Keyboard(threading.Thread):
    """Presses the right arrow until it is told to stop; waits[i] is the seconds until key i was handled."""

    def __init__(self, app: EdgevecApp, control: Choice) -> None:
        super().__init__(daemon=True)
        self.waits: list[float] = []
        self._app, self._ended = app, threading.Event()
        self._pressed: list[float] = []
        control.changed = self._handled  # type: ignore[method-assign]

    def _handled(self) -> None:
        self.waits.append(time.perf_counter() - self._pressed[len(self.waits)])

    def run(self) -> None:
        while not self._ended.wait(PACE):
            self._pressed.append(time.perf_counter())
            self._app.post_message(events.Key("right", None))

    def stop(self) -> None:
        self._ended.set()
        self.join()


async def measure(path: Path, folder: Path) -> tuple[list[float], list[float], float]:
    """Waits while nothing else happens, waits during the build, and the build's seconds."""
    app = EdgevecApp(path, settings_file=SettingsFile(folder / "tui.json"))
    async with app.run_test(size=(120, 40)) as pilot:
        while not (isinstance(app.screen, DataScreen) and app.screen.query("#metric")):
            await pilot.pause(0.05)
        screen = app.screen
        control = screen.query_one("#metric", Choice)
        control.focus()
        await pilot.pause()
        idle = Keyboard(app, control)
        idle.start()
        await asyncio.sleep(3)
        idle.stop()
        await asyncio.sleep(0.5)
        control.value = "cosine"
        busy = Keyboard(app, control)
        screen.action_build()
        start = time.perf_counter()
        busy.start()
        while screen.building:
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - start
        busy.stop()
        await asyncio.sleep(0.5)
        return idle.waits, busy.waits, seconds


def report(name: str, waits: list[float]) -> float:
    """Print percentiles in milliseconds and give the 99th."""
    p50, p95, p99 = np.percentile(waits, (50, 95, 99)) * 1e3
    print(
        f"{name:15} {len(waits):6,} keys   P50 {p50:6.2f} ms   P95 {p95:6.2f} ms   P99 {p99:6.2f} ms   "
        f"max {max(waits) * 1e3:6.2f} ms"
    )
    return float(p99)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.npy")
        np.save(path, clustered(arguments.rows, 1, 1, dim=arguments.dim).base)
        idle, busy, seconds = asyncio.run(measure(path, Path(folder)))
    about = machine(("textual", "numpy"))
    print(f"{arguments.rows:,} x {arguments.dim} built in {seconds:.1f} s; {about['cpu']}, {about['cores']} cores")
    report("at rest", idle)
    return 0 if report("while building", busy) <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
