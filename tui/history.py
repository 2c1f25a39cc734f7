"""The history of queries and filters, kept for each data file from one run to the next.

It is a JSON file in the platform's state folder, readable only by its owner. A damaged one is replaced by an empty one.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Literal

import platformdirs

from edgevec.files import replacing

__all__ = ["Box", "History"]

Box = Literal["query", "filter"]

_FILES, _ENTRIES, _LONGEST = 20, 200, 4000
"""How many files are kept, how many entries for each, and the length of the longest entry."""


class History:
    """Entries by file (a path, or the sample's name) and box. Failing to write them is ignored."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or platformdirs.user_state_path("edgevec", appauthor=False) / "tui-history.json"
        self._known = self._read()

    def entries(self, file: str, box: Box) -> list[str]:
        """Entries without duplicates, the latest last."""
        return list(self._known.get(file, {}).get(box, []))

    def add(self, file: str, box: Box, typed: str) -> None:
        typed = typed.strip()
        if not typed or len(typed) > _LONGEST or self.entries(file, box)[-1:] == [typed]:
            return
        self._known = self._read() or self._known  # another window of the app may have added some
        boxes = self._known.pop(file, {})
        boxes[box] = [*(other for other in boxes.get(box, []) if other != typed), typed][-_ENTRIES:]
        self._known[file] = boxes
        self._known = dict(list(self._known.items())[-_FILES:])
        self._write()

    def _read(self) -> dict[str, dict[str, list[str]]]:
        try:
            return _checked(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return {}

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path, 0o600) as new:
                new.write_text(json.dumps(self._known, indent=1), encoding="utf-8")


def _checked(content: Any) -> dict[str, dict[str, list[str]]]:
    """TypeError when it is no history."""
    if not isinstance(content, dict):
        raise TypeError("no JSON object")
    for boxes in content.values():
        for entries in boxes.values() if isinstance(boxes, dict) else [None]:
            if not isinstance(entries, list) or not all(isinstance(typed, str) for typed in entries):
                raise TypeError("not a list of texts")
    return content
