"""Helpers that tests import by name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import pytest

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def need_module(name: str) -> Any:
    """An optional library. A test that lacks it is skipped, but fails where CI=true promises all of them."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if IN_CI and sys.platform != "emscripten":
            pytest.fail(f"not installed: {name}")
        pytest.skip(f"not installed: {name}")
