"""What tests do to a folder of shards: edit its manifest, kill who builds there, let one read it who may not write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import HANG

import edgevec
from edgevec import ShardedCollection, ShardedIndex
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


def assert_only_what_counts(notes: ShardedCollection, folder: Path) -> None:
    """No file is left over, and the others are whole. On Windows those stay that a reader has open."""
    wanted = {name for shard in notes.shards for name in (shard.file, shard.file + "-graph")}
    wanted |= {MANIFEST, "manifest.json-lock"}
    found = set(os.listdir(folder))
    assert found == wanted or (os.name == "nt" and found > wanted)
    assert all(report.ok for report in notes.check().values())


def told_by_one_who_may_only_read(folder: Path, program: str) -> tuple[list[str], Path, str]:
    """What a program prints of a copy of the folder, where the copy was, and what it says of errors.

    Args:
        program: defines make(folder) and look(folder). They are rehearsed, as the libraries may lie where an ordinary
            user cannot read.
    """
    with tempfile.TemporaryDirectory() as open_to_all:  # that of pytest is not
        os.chmod(open_to_all, 0o755)
        copy = Path(open_to_all, "s")
        shutil.copytree(folder, copy)
        for path in copy.iterdir():
            path.chmod(0o444)
        copy.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", program + _REHEARSED, copy], capture_output=True, text=True, timeout=HANG
        )
        copy.chmod(0o755)
    _, _, told = done.stdout.partition("rehearsed\n")
    return told.splitlines(), copy, done.stderr


_REHEARSED = """
import os, sys, tempfile
with tempfile.TemporaryDirectory() as rehearsed:
    make(rehearsed)
    look(rehearsed)
user = 65534
if os.getuid() == 0: os.setgid(user); os.setuid(user)
print("rehearsed")
look(sys.argv[1])
"""


def kill_a_build(program: str, folder: Path, seconds: float) -> None:
    """Start a program that prints "begun" and builds in its first argument; so much later, kill it."""
    process = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    process.kill()
    process.wait(HANG)
    process.stdout.close()
