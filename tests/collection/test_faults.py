"""Collections on a disk that fails or is slow, as a preloaded library (tests/helpers/faults.c) makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import OPERATIONS, compiled
from support import HANG, HELPERS, need

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD"),
]


PLACES = os.environ.get("EDGEVEC_FAULTS", "2")
"""How many calls of each kind fail, in turn, in each operation; "all" of them take minutes."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(need("cc"), tmp_path_factory.mktemp("faults"))


def run(library: Path, program: str, *arguments: object) -> list[str]:
    """What a program of the helpers prints, under the library."""
    done = subprocess.run(
        [sys.executable, HELPERS / program, *map(str, arguments)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()


def test_readers_do_not_wait_for_the_disk(library: Path, tmp_path: Path) -> None:
    """Neither in the writer's process nor in another's connection, while a write or a checkpoint is flushed."""
    for line in run(library, "slow_disk.py", tmp_path):
        call, *numbers = line.split()
        took, here, elsewhere = map(float, numbers)
        assert took >= 0.4, call  # or the disk was not slow
        assert max(here, elsewhere) < 0.3, line


def test_whichever_call_fails_the_old_state_or_the_new_is_whole(library: Path, tmp_path: Path) -> None:
    """The error is one of ours; no descriptor and no file is left; and the collection goes on."""
    most = 10**9 if PLACES == "all" else int(PLACES)
    *failures, count = run(library, "faults.py", tmp_path, most, *OPERATIONS)
    assert failures == []
    assert int(count.split()[0]) > 100
