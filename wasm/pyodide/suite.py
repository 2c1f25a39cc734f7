"""Runs inside Pyodide: the project's test suite; its outcomes as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

import pytest

# Each mark names something that Pyodide does not have: threads, other processes, memory maps, the large data set.
SELECTED = "not threads and not subprocess and not mmap and not bigdata"


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
    code = pytest.main(["-p", "no:cacheprovider", "-m", SELECTED, "--durations=10"], plugins=[tally])
    return json.dumps({"exit": int(code), **tally.outcomes})


run_suite()
