"""What the tests of the terminal app share: an event loop, settings of their own, data sets, and a saved index."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgevec
from edgevec.tui.backends.open import read_sample
from edgevec.tui.workers import Job


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that are coroutines run in a loop of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the app looks for files; and no settings but the test's own."""
    here = tmp_path / "vectors"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")
    return here


@pytest.fixture
def unfinished(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Jobs of the group named go no further than halfway until they are stopped, on any machine and screen."""
    progress = Job.progress

    def hold(group: str) -> None:
        def stay(job: Job, done: int, total: int) -> bool:
            goes_on = progress(job, done, total)
            while goes_on and job.group == group and 0 < done < total:
                time.sleep(0.01)
                goes_on = progress(job, done, total)
            return goes_on

        monkeypatch.setattr(Job, "progress", stay)

    return hold


@pytest.fixture(scope="session")
def sample_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's index, built once and saved."""
    data = read_sample()
    index = edgevec.Index(data.dim, ef_construction=100)
    index.add(data.vectors, data.ids)
    path = tmp_path_factory.mktemp("index") / "wordnet.ev"
    index.save(path)
    return path


@pytest.fixture
def animals(folder: Path) -> Path:
    """400 vectors of 16 dimensions, with ids from 1000 on, texts and metadata."""
    rows = np.random.default_rng(1).standard_normal((400, 16)).astype(np.float32)
    path = folder / "animals.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for number, row in enumerate(rows):
            entry = {
                "id": 1000 + number,
                "vector": [round(float(value), 4) for value in row],
                "text": f"animal number {number}",
                "kind": ("cat", "dog", "sea horse")[number % 3],
                "legs": number % 5,
            }
            lines.write(json.dumps(entry) + "\n")
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="Keep the pictures of the screens as they are now.")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--accept"))
