"""Importing this makes the modules of benches/ and wasm/ importable beside these."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path[1:1] = [str(HERE.parent), str(PROJECT / "wasm")]
