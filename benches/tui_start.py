"""The first paint of the terminal app, beside an app of Textual's with one line of text.

    python benches/tui_start.py              (Linux)

Each starts in a terminal of 120 x 40 characters of its own, in turns. Until each of its marks has come out of the
terminal: seconds by the clock, and of processor time of all threads, the start of Python included. Medians.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from timing import in_turns, machine

ALONE = """
from textual.app import App
from textual.widgets import Static
class Alone(App):
    def compose(self):
        yield Static("one line")
Alone().run()
"""
RUNS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "edgevec tui": (["-m", "edgevec", "tui"], ["Start here", "Quit"]),
    "Textual alone": (["-c", ALONE], ["one line"]),
}
"""Arguments of Python, and what is looked for on the screen: the first screen, and the keys below it."""
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


def processor_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def start(arguments: Sequence[str], home: Path) -> tuple[int, int]:
    """The process, and its terminal."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(home)
        os.execve(
            sys.executable, [sys.executable, *arguments], {**os.environ, "HOME": str(home), "TERM": "xterm-256color"}
        )
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    return pid, terminal


def measure(arguments: Sequence[str], marks: Sequence[str]) -> list[tuple[float, float]]:
    """For each mark: seconds by the clock, and of processor time."""
    with tempfile.TemporaryDirectory() as home:
        begun, seen, found = time.perf_counter(), b"", []
        pid, terminal = start(arguments, Path(home))
        try:
            while len(found) < len(marks):
                seen += os.read(terminal, 65536)
                now = time.perf_counter() - begun, processor_seconds(pid)
                text = _ESCAPES.sub(b"", seen).decode(errors="replace")
                found += [now for mark in marks[len(found) :] if mark in text]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(machine(["textual"]))
    turns = in_turns({name: partial(measure, *run) for name, run in RUNS.items()}, args.rounds)
    for name, (_, marks) in RUNS.items():
        for place, mark in enumerate(marks):
            clock, processor = (statistics.median(round[place][kind] for round in turns[name]) for kind in (0, 1))
            print(f"{name}, until {mark!r}: {clock:.3f} s, {processor:.3f} of processor time")


if __name__ == "__main__":
    main()
