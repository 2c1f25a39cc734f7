"""One index and what belongs to it, kept in the browser's storage."""

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
ASIDE = Path("/tmp/kept-before")


@dataclass(frozen=True)
class Kept:
    state: dict[str, Any]
    index: Index
    rows: dict[str, Any] | None
    """As `Source.to_keep` gave it."""


async def mount() -> None:
    """Bring back what an earlier visit kept. StorageError when the browser offers no storage."""
    await browser.mount(str(FOLDER))


def state() -> dict[str, Any] | None:
    """What is kept: name, rows, settings, saved (seconds since 1970) and bytes; None when nothing is."""
    if not STATE.exists():
        return None
    held: dict[str, Any] = json.loads(STATE.read_text())
    return held


async def follow() -> dict[str, Any] | None:
    """See what another tab has kept or forgotten meanwhile: the state."""
    await browser.refresh()
    return state()


async def keep(source: Source, index: Index, settings: dict[str, Any], *, overwrite: bool = False) -> dict[str, Any]:
    """Durable once this returns. When it fails, what was kept before still is, in the storage and here.

    ConflictError where another tab has kept or forgotten something that this one has not seen; overwrite: all the same.
    """
    with _old_files_aside():
        index.save(INDEX)
        if source.name != SAMPLE:  # the sample's rows are fetched again
            ROWS.write_bytes(gzip.compress(json.dumps(source.to_keep(), default=str).encode()))
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


def load() -> Kept:
    held = state()
    index = Index.load(INDEX)  # says that there is none
    rows = json.loads(gzip.decompress(ROWS.read_bytes())) if ROWS.exists() else None
    return Kept(held or {}, index, rows)


async def forget(*, overwrite: bool = False) -> None:
    """ConflictError as for `keep`."""
    with _old_files_aside():
        await browser.persist(overwrite=overwrite)


@contextmanager
def _old_files_aside() -> Iterator[None]:
    """An empty folder for the block; the files that were there come back when it fails."""
    shutil.rmtree(ASIDE, ignore_errors=True)
    ASIDE.mkdir(parents=True)
    _move_files(FOLDER, ASIDE)
    try:
        yield
    except BaseException:
        for file in FOLDER.iterdir():
            file.unlink()
        _move_files(ASIDE, FOLDER)
        raise
    finally:
        shutil.rmtree(ASIDE)


def _move_files(origin: Path, target: Path) -> None:
    for file in list(origin.iterdir()):
        shutil.move(file, target / file.name)
