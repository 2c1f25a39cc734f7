"""Putting a new file in the place of an old one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["replace"]


def replace(new: Path, path: Path) -> None:
    """At once, except in a browser, where nothing is durable until the page keeps its files."""
    if sys.platform == "emscripten":
        # A file that is renamed over comes back there when the name is deleted.
        path.unlink(missing_ok=True)
    os.replace(new, path)
