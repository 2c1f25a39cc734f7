"""Sharded indexes: not in the browser's wheel."""

from __future__ import annotations

import sys

collect_ignore_glob = ["test_*.py"] if sys.platform == "emscripten" else []
