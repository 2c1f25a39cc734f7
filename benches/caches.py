"""The sizes of this machine's caches, and which of them a number of bytes outgrows."""

from __future__ import annotations

from pathlib import Path

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Bytes by name, smallest first: L1, L2, L3, as the first core sees them; empty where the system does not say."""
    found = {}
    for cache in sorted(folder.glob("index*")):
        if (cache / "type").read_text().strip() != "Instruction":
            found["L" + (cache / "level").read_text().strip()] = parsed((cache / "size").read_text().strip())
    return dict(sorted(found.items(), key=lambda each: each[1]))


def parsed(size: str) -> int:
    """Bytes of a size such as 32K or 16M."""
    return int(size[:-1]) * UNITS[size[-1]] if size[-1] in UNITS else int(size)


def outgrown(size: int, caches: dict[str, int]) -> str:
    """The largest cache that is smaller than this, or "none"."""
    return next((name for name, room in reversed(caches.items()) if room < size), "none")
