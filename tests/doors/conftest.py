"""Tests with the libraries of encoders, servers and other indexes. tox has an environment `doors` for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Elsewhere these libraries are missing; there they are imported, and one that is missing fails."""
    return None if os.environ.get("EDGEVEC_DOORS") == "1" else True


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks a hub of models for one."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
