"""The real program in a real terminal: started, typed into, read, left; the terminal is as it was."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pilot import PATIENCE
from support import need

SHELL_READY = "shell-is-ready"


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, folder: Path) -> None:
        self._tmux = [need("tmux"), "-S", str(folder / "socket"), "-f", os.devnull]
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.run("new-session", "-d", "-x", "100", "-y", "30", "sh", environment=environment)

    def run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        done = subprocess.run([*self._tmux, *command], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, text: str) -> None:
        self.run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def shown(self) -> str:
        return self.run("capture-pane", "-p")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.shown():
            if time.monotonic() > end:
                pytest.fail(f"{text!r} did not come; the terminal shows:\n{self.shown()}")
            time.sleep(0.1)

    def state(self) -> str:
        """Alternate screen, cursor and mouse as the terminal has them."""
        return self.run("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}").strip()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    try:
        terminal.type("PS1=shell-'is-ready> '")  # the quote keeps what is typed apart from what is waited for
        terminal.press("Enter")
        terminal.wait_for(SHELL_READY)
        yield terminal
    finally:
        terminal.run("kill-server")


def start(terminal: Terminal, *arguments: str) -> None:
    terminal.type(shlex.join([sys.executable, "-m", *arguments]) + "; echo code=$?=")
    terminal.press("Enter")


def test_it_starts_answers_and_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    before = terminal.state()
    start(terminal, "edgevec", "tui")
    terminal.wait_for("WordNet sample")
    terminal.press("Enter")
    terminal.wait_for("This query")
    terminal.type("device for measuring temperature")
    terminal.wait_for("thermometer")
    terminal.press("F4")
    terminal.wait_for("Latency of the last minute")
    terminal.press("Space")
    terminal.wait_for("running")
    terminal.press("C-q")
    terminal.wait_for("code=0=")
    assert terminal.state() == before
    assert "Traceback" not in terminal.shown()
    terminal.type("echo typed-again")
    terminal.press("Enter")
    terminal.wait_for("\ntyped-again")


def test_a_collection_is_made_opened_filtered_and_left(terminal: Terminal, folder: Path, animals: Path) -> None:
    start(terminal, "edgevec", "db", "zoo.edgevec", "import", str(animals))
    terminal.wait_for("code=0=")
    terminal.type("clear")
    terminal.press("Enter")
    start(terminal, "edgevec", "tui", "zoo.edgevec")
    terminal.wait_for("400 × 16")
    terminal.type("animal number 7")
    terminal.wait_for("by BM25")
    for _ in range(4):
        terminal.press("Tab")
    terminal.wait_for("takes the sugg")
    terminal.type("legs = 2 AND")
    terminal.wait_for("expected a condition, found the end ▲")
    terminal.type(" kind = 'sea horse'")
    terminal.wait_for("among 27 records")
    terminal.press("C-q")
    terminal.wait_for("code=0=")
    assert "Traceback" not in terminal.shown()


def test_it_quits_in_the_middle_of_a_build_of_a_named_file(terminal: Terminal, folder: Path) -> None:
    make = "import numpy as n; n.save('many.npy', n.random.default_rng(0).standard_normal((60000, 96), 'f4'))"
    subprocess.run([sys.executable, "-c", make], check=True, cwd=folder)
    start(terminal, "edgevec.tui", str(folder / "many.npy"))
    terminal.wait_for("no index yet")
    terminal.type("b")
    terminal.wait_for("left")
    terminal.press("C-q")
    terminal.wait_for("code=0=")
    assert "Traceback" not in terminal.shown()


def test_a_file_that_is_not_there_is_one_line(terminal: Terminal) -> None:
    start(terminal, "edgevec", "tui", "gone.npy")
    terminal.wait_for("edgevec: gone.npy: no such file")
    terminal.wait_for("code=2=")


def test_ctrl_z_gives_the_shell_and_fg_the_app(terminal: Terminal, animals: Path) -> None:
    before = terminal.state()
    terminal.type("set -m; unset HISTFILE")
    terminal.press("Enter")
    start(terminal, "edgevec", "tui", str(animals))
    terminal.wait_for("no index yet")
    terminal.press("C-z")
    terminal.wait_for("code=")  # the list of commands goes on when the job is stopped
    assert terminal.state() == before
    terminal.type("echo in-the-'shell'")
    terminal.press("Enter")
    terminal.wait_for("in-the-shell")
    terminal.type("fg")
    terminal.press("Enter")
    terminal.wait_for("no index yet")
    terminal.press("F1")
    terminal.wait_for("Start here")
    terminal.press("C-q")
    terminal.wait_for(SHELL_READY)
    assert terminal.state() == before
    assert "Traceback" not in terminal.shown()


def test_a_pasted_text_of_several_lines_is_one_query(terminal: Terminal, folder: Path, animals: Path) -> None:
    start(terminal, "edgevec", "db", "zoo.edgevec", "import", str(animals))
    terminal.wait_for("code=0=")
    start(terminal, "edgevec", "tui", "zoo.edgevec")
    terminal.wait_for("400 × 16")
    terminal.wait_for("This query")
    terminal.run("set-buffer", "animal\nnumber\n17\n")
    terminal.run("paste-buffer", "-p")
    terminal.wait_for("›  animal number 17")
    terminal.press("C-q")
    terminal.wait_for("code=0=")


def test_a_document_changes_neither_screen_nor_title(terminal: Terminal, folder: Path) -> None:
    text = "clear \x1b[2J\x1b]0;PWNED\x07 \x1b]2;PWNED\x1b\\ end"
    (folder / "evil.jsonl").write_text(json.dumps({"id": 1, "vector": [1, 2], "text": text}) + "\n")
    start(terminal, "edgevec", "db", "evil.edgevec", "import", "evil.jsonl")
    terminal.wait_for("1 records in")
    start(terminal, "edgevec", "db", "evil.edgevec", "search", "--text", "clear")
    terminal.wait_for(r"clear \x1b[2J")
    assert "1 records in" in terminal.shown()  # the screen was not cleared
    start(terminal, "edgevec", "tui", "evil.edgevec")
    terminal.wait_for("This query")
    terminal.type("clear")
    terminal.wait_for(r"\x1b[2J")
    terminal.press("Down", "Enter")
    terminal.wait_for("Record")
    assert "F3 Search" in terminal.shown()
    terminal.press("C-q")
    terminal.wait_for(SHELL_READY)
    assert "PWNED" not in terminal.run("display-message", "-p", "#{pane_title}")


def test_a_window_too_small_says_so_and_comes_back(terminal: Terminal, animals: Path) -> None:
    terminal.type("unset COLUMNS LINES")
    terminal.press("Enter")
    start(terminal, "edgevec", "tui", str(animals))
    terminal.wait_for("▸F2 Data")  # the last screen of the start: "no index yet" stands on the first one already
    terminal.run("resize-window", "-x", "40", "-y", "10")
    terminal.wait_for("This window is 40 × 10")
    terminal.run("resize-window", "-x", "100", "-y", "30")
    terminal.wait_for("▸F2 Data")
    terminal.press("C-q")
    terminal.wait_for("code=0=")
