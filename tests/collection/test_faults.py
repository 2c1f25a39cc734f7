"""Collections on a disk that fails or is slow, as a preloaded library (tests/helpers/faults.c) makes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crash_worker import apply, state_of
from faults import OPERATIONS, compiled, prepare
from power import FIRST, LAST, Disk, read_log
from support import HANG, HELPERS, examples, need

import edgevec

pytestmark = [
    pytest.mark.core,
    pytest.mark.subprocess,
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD"),
]


PLACES = os.environ.get("EDGEVEC_FAULTS", "2")
"""How many calls of each kind fail, in turn, in each operation; "all" of them take minutes."""


LOSSES = int(os.environ.get("EDGEVEC_POWER_LOSSES", examples(200)))
"""How often the power goes off, each time at another entry of the log."""


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
    """Neither in the writer's process nor in another's connection, while a write or a checkpoint is flushed.

    On a busy machine anything may take as long: who waits for the disk does so each time.
    """
    shortest: dict[str, float] = {}
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        for line in run(library, "slow_disk.py", folder):
            call, *numbers = line.split()
            took, here, elsewhere = map(float, numbers)
            assert took >= 0.4, call  # or the disk was not slow
            shortest[call] = min(shortest.get(call, 1e9), max(here, elsewhere))
        if max(shortest.values()) < 0.3:
            break
    assert max(shortest.values()) < 0.3, shortest


def test_whichever_call_fails_the_old_state_or_the_new_is_whole(library: Path, tmp_path: Path) -> None:
    """The error is one of ours; no descriptor and no file is left; and the collection goes on."""
    most = 10**9 if PLACES == "all" else int(PLACES)
    *failures, count = run(library, "faults.py", tmp_path, most, *OPERATIONS)
    assert failures == []
    assert int(count.split()[0]) > 100


def test_what_was_acknowledged_survives_a_loss_of_power(
    library: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Wherever it comes, and whatever of the writes that were not synced it takes, alone or in part."""
    before, live, found = (tmp_path / name for name in ("before", "live", "found"))
    before.mkdir()
    states = {FIRST - 1: prepare(before)}
    for batch in range(FIRST, LAST):
        states[batch] = apply(states[batch - 1], batch)
    shutil.copytree(before, live)
    run(library, "power.py", live, tmp_path / "log")
    log = read_log(tmp_path / "log")
    assert {entry.kind for entry in log} >= set("WTSRCM")
    points = set(rng.choice(len(log), min(LOSSES, len(log)), replace=False).tolist())
    disk = Disk(live, before)
    for at, entry in enumerate(log):
        disk.tell(entry)
        if at not in points:
            continue
        shutil.rmtree(found, ignore_errors=True)
        found.mkdir()
        disk.write_to(found, rng)
        with edgevec.open(found / "c.edgevec") as made:
            allowed = [states[batch] for batch in (disk.acknowledged, disk.acknowledged + 1) if batch in states]
            assert state_of(made) in allowed, f"after entry {at} of {len(log)}"
            assert made.check().ok
