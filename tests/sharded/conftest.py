"""Sharded indexes and collections: not in the browser's wheel."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from records_in_shards import NOTE_OPTIONS, NOTES
from support import need_module

import edgevec

collect_ignore_glob = ["test_*.py"] if sys.platform == "emscripten" else []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection in shards, to be read."""
    folder = tmp_path_factory.mktemp("made") / "s"
    edgevec.ShardedCollection.build(NOTES, folder, **NOTE_OPTIONS).close()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "s"))


@pytest.fixture
def address() -> Iterator[str]:
    """One that fsspec knows."""
    need_module("fsspec")
    import fsspec

    yield f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").store.clear()
