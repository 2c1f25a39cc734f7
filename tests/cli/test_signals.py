"""Commands that Ctrl-C or SIGTERM ends, at any time: one line or none, nothing half done, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from foreign import write_faiss_flat
from support import HELPERS

import edgevec

pytestmark = [
    pytest.mark.core,
    pytest.mark.subprocess,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

SIGNALS = int(os.environ.get("EDGEVEC_SIGNALS", 3))
"""Signals for each command."""
ROWS, DIM = 1500, 8


def whole_index(path: Path) -> None:
    assert len(edgevec.Index.load(path)) == ROWS


def whole_graph_on_disk(path: Path) -> None:
    with edgevec.DiskIndex(path) as made:
        assert made.check()["live"] == ROWS


def whole_json(path: Path) -> None:
    assert json.loads(path.read_text())["points"]


def whole_lines(path: Path) -> None:
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == list(range(ROWS))


def whole_collection(path: Path) -> None:
    with edgevec.open(path) as made:
        assert len(made) in (0, ROWS)
        assert made.check().ok


def whole_shards(path: Path) -> None:
    """Of a build that was ended the folder may be there, without a manifest."""
    if (path / "manifest.json").exists():
        with edgevec.ShardedIndex.open(path) as index:
            assert sorted(index) == list(range(ROWS))


def whole_records(path: Path) -> None:
    if (path / "manifest.json").exists():
        with edgevec.ShardedCollection.open(path) as made:
            assert made.ids() == list(range(ROWS))


COMMANDS: dict[str, tuple[list[str], dict[str, Callable[[Path], None]]]] = {
    "info": (["info"], {}),
    "demo": (["demo", "--threads", "1", "--repeats", "1", "yellow fruit"], {}),
    "build": (["build", "data.npy", "-o", "new.ev"], {"new.ev": whole_index}),
    "build to disk": (["build", "data.npy", "-o", "new.evd"], {"new.evd": whole_graph_on_disk}),
    "search": (["search", "old.ev", "--query", "few.npy", "-k", "3"], {}),
    "bench": (
        ["bench", "data.npy", "--ef", "10,20", "--queries", "100", "--json", "new.json"],
        {"new.json": whole_json},
    ),
    "convert": (["convert", "faiss.index", "-o", "new.ev"], {"new.ev": whole_index}),
    "convert to disk": (["convert", "old.ev", "-o", "new.evd"], {"new.evd": whole_graph_on_disk}),
    "convert to a collection": (
        ["convert", "faiss.index", "-o", "new.edgevec"],
        {"new.edgevec": whole_collection},
    ),
    "db import": (["db", "new.edgevec", "import", "data.npy"], {"new.edgevec": whole_collection}),
    "db info": (["db", "old.edgevec", "info"], {}),
    "db search": (["db", "old.edgevec", "search", "--id", "7"], {}),
    "db check": (["db", "old.edgevec", "check", "--repair"], {}),
    "db compact": (["db", "old.edgevec", "compact"], {}),
    "db export": (["db", "old.edgevec", "export", "-o", "new.jsonl"], {"new.jsonl": whole_lines}),
    "shards build": (
        ["shards", "build", "data.npy", "-o", "new.shards", "--rows-per-shard", "400"],
        {"new.shards": whole_shards},
    ),
    "shards import": (
        ["shards", "import", "data.npy", "-o", "new.records", "--rows-per-shard", "400"],
        {"new.records": whole_records},
    ),
    "shards info": (["shards", "info", "old.shards"], {"old.shards": whole_shards}),
    "shards search": (["shards", "search", "old.shards", "--query", "few.npy"], {"old.shards": whole_shards}),
    "shards compact": (["shards", "compact", "old.shards"], {"old.shards": whole_shards}),
}
"""What each command is called with, and of each file that it writes a check that it is whole."""


REFUSE_TO_REPLACE = {"bench", "convert to a collection", "db export"}
"""Commands that need --force where their file exists already, since it can be anybody's."""


UNTIL_ENDED = {"mcp", "serve", "tui"}
"""Commands that a signal, or a person, ends and nothing else: tests/doors and tests/tui end them."""


def test_every_command_is_here() -> None:
    import click

    from edgevec.cli.app import edgevec as app

    context = click.Context(app)
    found = set(app.list_commands(context))
    for group in ("db", "shards"):
        inner = app.get_command(context, group)
        assert isinstance(inner, click.Group)
        found |= {f"{group} {name}" for name in inner.list_commands(context)}
    assert found == {*(name for name in COMMANDS if " to " not in name), "db", "shards", *UNTIL_ENDED}


class Commands:
    """Programs of `edgevec`, each in a copy of a folder with data."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._data.mkdir()
        rows = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
        np.save(self._data / "data.npy", rows)
        np.save(self._data / "few.npy", rows[:30])
        write_faiss_flat(self._data / "faiss.index", rows)
        index = edgevec.Index(DIM)
        index.add(rows)
        index.save(self._data / "old.ev")
        with edgevec.open(self._data / "old.edgevec", DIM) as made:
            made.upsert(range(ROWS), rows, documents=["some text"] * ROWS)
        with edgevec.ShardedIndex.build(rows, self._data / "old.shards", rows_per_shard=500) as shards:
            shards.remove(range(0, ROWS, 3))
            shards.add(rows[::3], ids=range(0, ROWS, 3))
        self.folder = folder / "here"
        self.seconds = 0.0
        """How long the last one ran."""
        self._texts = folder / "stdout", folder / "stderr"
        worker = [sys.executable, HELPERS / "command_worker.py"]
        self._process = subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def run(self, arguments: list[str], number: int = 0, seconds: float = 0, *, again: bool = False) -> int:
        """Its status, once it has ended by itself or by the signal that it got after a time."""
        if not again:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self._data, self.folder)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        names = dict(zip(("stdout", "stderr"), map(str, self._texts), strict=True))
        stdin.write(json.dumps({"arguments": arguments, "folder": str(self.folder), **names}) + "\n")
        word, pid = stdout.readline().split()
        assert word == "pid"
        begun = time.monotonic()
        if number:
            time.sleep(seconds)
            os.kill(int(pid), number)
        stdin.write("\n")
        word, status = stdout.readline().split()
        assert word == "end"
        self.seconds = time.monotonic() - begun
        return int(status)

    def said(self) -> list[str]:
        return self._texts[1].read_text().splitlines()

    def left(self) -> set[str]:
        """The files that were not there before, but for those of locks."""
        return {path.name for path in self.folder.iterdir() if not path.name.endswith("-lock")} - {
            path.name for path in self._data.iterdir()
        }

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    made = Commands(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_time(commands: Commands, name: str, number: int, rng: np.random.Generator) -> None:
    arguments, outputs = COMMANDS[name]
    assert commands.run(arguments) == 0
    longest, complete = commands.seconds, commands.left()
    ended: list[int] = []
    while len(ended) < (1 if name == "demo" else SIGNALS) or not any(ended):  # all of them may have come too late
        status = commands.run(arguments, number, rng.uniform(0, longest / (1 + len(ended))))
        ended.append(status)
        said, left = commands.said(), commands.left()
        assert not any("Traceback" in line or "Exception" in line for line in said), said
        if number == signal.SIGINT:
            assert status in (0, 130, -signal.SIGINT), said  # the last: what was to be done was done
            assert [line for line in said if "interrupted" in line] == ["edgevec: interrupted"] * (status == 130)
            assert said[-1:] == ["edgevec: interrupted"] or status != 130
            assert left <= complete
        else:
            assert status in (0, -signal.SIGTERM)
            assert not any("interrupted" in line for line in said)
        for output, check in outputs.items():
            if (commands.folder / output).exists():
                check(commands.folder / output)
        with edgevec.open(commands.folder / "old.edgevec") as made:
            assert len(made) == ROWS
            assert made.check().ok
        whole_index(commands.folder / "old.ev")
    if number == signal.SIGTERM:
        finished = any((commands.folder / output).is_file() for output in outputs)  # the signal came just after
        forced = ["--force"] if finished and name in REFUSE_TO_REPLACE else []
        assert commands.run([*arguments, *forced], again=True) == 0, commands.said()  # which also removes what is left
        assert commands.left() == complete
        assert not list(commands.folder.rglob(".building-*"))


IN_A_FINALIZER = """
import signal, sys, time
from edgevec.cli import main
from edgevec.cli.app import edgevec as app

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def callback(**settings):
    Finalized()
    time.sleep(20)

signal.signal(signal.SIGINT, signal.default_int_handler)
app.callback = callback
sys.argv = ["edgevec", "info"]
main()
"""


def test_ctrl_c_where_python_ignores_exceptions() -> None:
    ended = subprocess.run([sys.executable, "-c", IN_A_FINALIZER], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "edgevec: interrupted\n")


AFTER_THE_COMMAND = """
import signal, sys
from edgevec.cli import main
from edgevec.cli.app import edgevec as app

def interrupt(frame, event, argument):
    if event == "call" and frame.f_code is signal.signal.__code__ and frame.f_locals["handler"] is signal.SIG_DFL:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)

app.callback = lambda **settings: sys.setprofile(interrupt)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["edgevec"]
main()
"""


def test_ctrl_c_just_after_the_command() -> None:
    ended = subprocess.run([sys.executable, "-c", AFTER_THE_COMMAND], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "edgevec: interrupted\n")
