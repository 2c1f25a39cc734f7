"""What tests do to the folder of a sharded index: edit its manifest, kill who builds there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import HANG

import edgevec
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    read = json.loads((folder / MANIFEST).read_text())
    change(read)
    (folder / MANIFEST).write_text(json.dumps(read))


def assert_refused_with(folder: Path, place: tuple[Any, ...], value: Any, error: str) -> None:
    """Not opened once the manifest has another value at that place."""

    def change(read: Any) -> None:
        for step in place[:-1]:
            read = read[step]
        read[place[-1]] = value

    edit(folder, change)
    with pytest.raises(edgevec.CorruptIndexError, match=error):
        ShardedIndex.open(folder)


def kill_a_build(program: str, folder: Path, seconds: float) -> None:
    """Start a program that prints "begun" and builds in its first argument; so much later, kill it."""
    process = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    process.kill()
    process.wait(HANG)
    process.stdout.close()
