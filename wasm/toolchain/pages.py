"""Projects whose pages run Python by Pyodide: fetched for tests that edgevec works in them."""

from __future__ import annotations

from pathlib import Path

from toolchain import npm
from toolchain.cache import CACHE

PYODIDE = "314.0.7"
"""Which all of them start."""
PYSCRIPT = "0.7.31"
PYSCRIPT_SHA256 = "b2ca1a0c0956aebd990a7c8524cca1eb061444a8319a7264d2f31ef30bea276a"


def fetch_pyscript() -> Path:
    """The folder of its scripts."""
    folder = CACHE / "pyscript" / PYSCRIPT
    return npm.unpack(f"@pyscript/core@{PYSCRIPT}", PYSCRIPT_SHA256, folder) / "dist"
