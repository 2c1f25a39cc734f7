"""Temporary folders: gone with their process, or with the next one where that was killed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevec.workspace import Workspace

PREFIX = "some-"
has_locks = pytest.mark.skipif(sys.platform in ("win32", "emscripten"), reason="this system has no such locks")
HOLD = f"""
import sys
from pathlib import Path
from edgevec.workspace import Workspace
held = Workspace({PREFIX!r}, Path(sys.argv[1]))
(held.path / "file").write_text("x")
print(held.path, flush=True)
sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_gone_after_the_block_after_remove_and_with_its_owner(tmp_path: Path) -> None:
    with Workspace(PREFIX, tmp_path) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("x")
    kept, dropped = Workspace(PREFIX, tmp_path), Workspace(PREFIX, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([kept.path, dropped.path])
    assert len(list(tmp_path.iterdir())) == 2
    del dropped
    gc.collect()
    assert list(tmp_path.iterdir()) == [kept.path]
    kept.remove()
    kept.remove()
    assert list(tmp_path.iterdir()) == []


@has_locks
@pytest.mark.subprocess
def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    other = tmp_path / "another"
    other.mkdir()
    (killed, left), (living, held) = holder(tmp_path), holder(tmp_path)
    killed.kill()
    killed.communicate()
    assert left.exists()
    with Workspace(PREFIX, tmp_path) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([held, mine, other])
        assert (held / "file").read_text() == "x"
    living.communicate("")
    assert living.returncode == 0
    assert list(tmp_path.iterdir()) == [other]


@has_locks
def test_what_is_no_folder_of_ours_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (tmp_path / f"{PREFIX}file").write_text("x")
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    with Workspace(PREFIX, tmp_path):
        pass
    assert (elsewhere / "precious").exists()
    assert (tmp_path / f"{PREFIX}link").is_symlink()
    assert (tmp_path / f"{PREFIX}file").exists()


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_leaves_it_to_its_parent(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from edgevec.workspace import Workspace
held = Workspace({PREFIX!r}, Path(sys.argv[1]))
child = os.fork()
if child == 0:
    held.remove()
    sys.exit(0)
os.waitpid(child, 0)
with Workspace({PREFIX!r}, Path(sys.argv[1])):
    print(held.path.exists())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Workspace(PREFIX, tmp_path / "nowhere")
