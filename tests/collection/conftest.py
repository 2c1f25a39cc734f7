"""A collection for tests to write to, and the path of its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import edgevec
from edgevec.collection import Collection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.edgevec"


@pytest.fixture
def notes(path: Path) -> Iterator[Collection]:
    with edgevec.open(path, dim=4) as made:
        yield made
