"""One index and what belongs to it, saved in the browser's storage."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevec import Index, browser

from .sources import SAMPLE, Source

FOLDER = Path("/edgevec-demo")
INDEX, ROWS, STATE = FOLDER / "index.ev", FOLDER / "rows.json.gz", FOLDER / "state.json"
BACKUP = Path("/tmp/saved-before")


@dataclass(frozen=True)
class SavedIndex:
    state: dict[str, Any]
    index: Index
    rows: dict[str, Any] | None
    """What `Source.saved_rows` returned."""


async def mount() -> None:
    """Bring back what an earlier visit saved. StorageError when the browser offers no storage."""
    await browser.mount(str(FOLDER))


def saved_state() -> dict[str, Any] | None:
    """What is saved: name, rows, settings, saved (seconds since 1970) and bytes; None when nothing is."""
    if not STATE.exists():
        return None
    held: dict[str, Any] = json.loads(STATE.read_text())
    return held


async def refresh() -> dict[str, Any] | None:
    """Take in what another tab has saved or forgotten; returns the saved state."""
    await browser.refresh()
    return saved_state()


async def save(source: Source, index: Index, settings: dict[str, Any], *, overwrite: bool = False) -> dict[str, Any]:
    """Save the index and its rows; durable once this returns.

    When it fails, what was saved before stays, in the storage and in this page's memory.

    Args:
        overwrite: Replace what another tab has saved or forgotten, even where this one has not seen it.

    Raises:
        ConflictError: Another tab saved or forgot something that this one has not seen.
        StorageError: The browser refused, or its storage is full.
    """
    with _backup_on_failure():
        index.save(INDEX)
        if source.name != SAMPLE:  # the sample's rows are fetched again
            ROWS.write_bytes(gzip.compress(json.dumps(source.saved_rows(), default=str).encode()))
        held = {
            "name": source.name,
            "rows": len(index),
            "settings": settings,
            "saved": time.time(),
            "bytes": sum(file.stat().st_size for file in (INDEX, ROWS) if file.exists()),
        }
        STATE.write_text(json.dumps(held))
        await browser.persist(overwrite=overwrite)
    return held


def load() -> SavedIndex:
    held = saved_state()
    index = Index.load(INDEX)  # says that there is none
    rows = json.loads(gzip.decompress(ROWS.read_bytes())) if ROWS.exists() else None
    return SavedIndex(held or {}, index, rows)


async def forget(*, overwrite: bool = False) -> None:
    """Remove what is saved. Raises as `save` does."""
    with _backup_on_failure():
        await browser.persist(overwrite=overwrite)


@contextmanager
def _backup_on_failure() -> Iterator[None]:
    """An empty folder for the block; the files that were there come back when it fails."""
    shutil.rmtree(BACKUP, ignore_errors=True)
    BACKUP.mkdir(parents=True)
    _move_files(FOLDER, BACKUP)
    try:
        yield
    except BaseException:
        for file in FOLDER.iterdir():
            file.unlink()
        _move_files(BACKUP, FOLDER)
        raise
    finally:
        shutil.rmtree(BACKUP)


def _move_files(origin: Path, target: Path) -> None:
    for file in list(origin.iterdir()):
        shutil.move(file, target / file.name)
