"""Runs inside Pyodide: the project's tests, shared with the other processes of the run; outcomes as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Each mark names something that Pyodide does not have: threads, other processes, memory maps, the large data set.
SELECTED = "not threads and not subprocess and not mmap and not bigdata"
CLAIMS = Path("/claims")
"""A folder of the host's that all processes of the run see."""
SELECTION = Path("/selection.json")
"""Arguments for pytest; none: the whole suite."""
BLOCK = 20
"""Tests of one module are claimed so many at a time: few modules hold most of the work, and fixtures are shared."""


class Share:
    """Runs the blocks of tests that no other process has claimed."""

    def __init__(self) -> None:
        self._claims: dict[str, bool] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """pytest's own loop over fewer tests. Fixtures are torn down by what comes next, so that is claimed first."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        claimed = self._claimed(session.items)
        item = next(claimed, None)
        while item is not None:
            following = next(claimed, None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            item = following
        return True

    def _claimed(self, items: list[pytest.Item]) -> Iterator[pytest.Item]:
        within: Counter[str] = Counter()
        for item in items:
            module = item.nodeid.partition("::")[0]
            block = f"{module.replace('/', '-')}-{within[module] // BLOCK}"
            within[module] += 1
            if block not in self._claims:
                self._claims[block] = claim(block)
            if self._claims[block]:
                yield item


def claim(block: str) -> bool:
    """Whether this process is the first to ask; making a folder succeeds once."""
    try:
        (CLAIMS / block).mkdir()
    except FileExistsError:
        return False
    return True


class Tally:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def pytest_deselected(self, items: list[Any]) -> None:
        self.outcomes["deselected"] += len(items)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1


def run_suite() -> str:
    os.chdir("/project")
    sys.dont_write_bytecode = True
    tally = Tally()
    arguments = ["-p", "no:cacheprovider", "-m", SELECTED, "--durations=10", *json.loads(SELECTION.read_text())]
    code = pytest.main(arguments, plugins=[Share(), tally])
    return json.dumps({"exit": int(code), **tally.outcomes})


run_suite()
