"""Helpers that tests import by name: what may be missing here, and must not be where CI=true promises everything."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
THOROUGH = os.environ.get("EDGEVEC_THOROUGH") == "1"
"""Whether this run is the one that looks at as many cases as can be: `tox run -m full` has one such environment."""
SANITIZED = os.environ.get("EDGEVEC_SANITIZED") == "1"
"""Whether the core was built with a sanitizer that makes it ten times as slow."""
HANG = 900
"""Seconds after which what a test waits for has hung. Nothing is as slow as that, wherever it runs."""


def examples(count: int) -> int:
    """How many random cases a property is tried with: so many in the thorough run, a few of them elsewhere."""
    few = 1 if SANITIZED else 5
    return count if THOROUGH else min(count, max(few, count // 5))


def lasting(many: int) -> int:
    """How many rows, or turns, last so long that others happen beside them: fewer where a sanitizer makes all slow."""
    return many // 10 if SANITIZED else many


def wait_until(state: Callable[[], object], otherwise: str = "it does not come", pause: float = 0.001) -> None:
    """Wait for a state; the test fails, and says what is otherwise, where it does not come."""
    end = time.monotonic() + HANG
    while not state():
        assert time.monotonic() < end, otherwise
        time.sleep(pause)


def cli_runner() -> Any:
    """click's runner; before 8.2 it mixes what a command writes to its two outputs unless told not to."""
    from click.testing import CliRunner

    mixes = "mix_stderr" in inspect.signature(CliRunner).parameters
    return CliRunner(mix_stderr=False) if mixes else CliRunner()


def absent(what: str) -> NoReturn:
    """End a test that cannot run here: skipped, but failed in CI (save in Pyodide, which can have few tools)."""
    if IN_CI and sys.platform != "emscripten":
        pytest.fail(what)
    pytest.skip(what)


def need(*tools: str) -> str:
    """The path of the first of `tools`, all of which the test calls."""
    paths = [shutil.which(tool) for tool in tools]
    missing = [tool for tool, path in zip(tools, paths, strict=True) if path is None]
    if missing:
        absent(f"not on this machine: {', '.join(missing)}")
    return str(paths[0])


def need_module(name: str) -> Any:
    """An optional library."""
    try:
        return importlib.import_module(name)
    except ImportError:
        absent(f"not installed: {name}")
