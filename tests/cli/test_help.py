"""The help of every command ends in an example, which runs and stands on the documentation's page of commands."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from foreign import write_faiss_flat
from support import ROOT, cli_runner

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

import click

from edgevec.cli.app import edgevec as app

PAGE = ROOT / "docs" / "guides" / "command-line.md"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The arguments that lead to each command; `db` has the name of a file before its own commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield (*path, name)
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name, *(["notes.edgevec"] if name == "db" else [])))


def example_of(path: tuple[str, ...]) -> str:
    """As the help shows it, on one line of its own."""
    shown = cli_runner().invoke(app, [*path, "--help"]).stdout
    found = re.search(r"\n  Example:\n    (edgevec .+)\n$", shown)
    assert found, shown
    return found[1]


EVERY = [(), *commands(app)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """The files that the examples name."""
    monkeypatch.chdir(tmp_path)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    np.save("vectors.npy", vectors)
    np.save("queries.npy", vectors[:5])
    notes = [{"id": id, "embedding": vectors[id].tolist(), "text": f"fruit {id}"} for id in range(20)]
    write_faiss_flat(Path("faiss.index"), vectors)
    Path("notes.jsonl").write_text("\n".join(map(json.dumps, notes)))
    return tmp_path


@pytest.mark.parametrize("path", EVERY, ids=lambda path: " ".join(("edgevec", *path)))
def test_help_ends_in_an_example_of_the_command(path: tuple[str, ...]) -> None:
    assert path == () or example_of(path).startswith(" ".join(("edgevec", *path)))


SERVERS = {"edgevec mcp": "mcp", "edgevec serve": "uvicorn"}
"""They run until they are ended, so they are asked where the library is missing that each of them needs."""


def test_the_example_of_every_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in SERVERS.values():
        monkeypatch.setitem(sys.modules, library, None)
    for module in [name for name in sys.modules if name.startswith("edgevec.servers.")]:  # of other tests
        monkeypatch.delitem(sys.modules, module)
    for example in dict.fromkeys(map(example_of, EVERY)):
        ran = cli_runner().invoke(app, shlex.split(example)[1:])
        if example.startswith("edgevec tui"):
            assert "needs a terminal" in ran.stderr
        elif example.startswith(tuple(SERVERS)):
            assert f"needs more: pip install 'edgevec[{example.split()[1]}]'" in ran.stderr
        else:
            assert ran.exit_code == 0, f"{example}\n{ran.output}"


@pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not beside the tests")
def test_examples_stand_on_the_page_of_commands() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [example for example in map(example_of, EVERY) if f"`{example}`" not in page] == []
