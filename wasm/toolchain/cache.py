"""The ignored folder that everything fetched or built for the browser wheel lands in, and the helpers that fill it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("EDGEVEC_WASM_CACHE", PROJECT / "wasm" / ".cache"))


class ToolchainError(Exception):
    """Something is missing or wrong; the message says what to do."""


def say(text: str) -> None:
    print(f"wasm: {text}", flush=True)


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run quietly; a failure shows the end of what the command printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise ToolchainError(f"{' '.join(words)} failed ({done.returncode}):\n{done.stdout[-4000:]}")
    return done


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_hash(path: Path, expected: str) -> None:
    """Refuse what is not the very file that was named."""
    found = sha256(path)
    if found != expected:
        raise ToolchainError(f"{path.name}: sha256 is {found}, expected {expected}; not used")


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A scratch folder that takes target's place once the block succeeds: a torn run leaves nothing half made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        shutil.rmtree(target, ignore_errors=True)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
