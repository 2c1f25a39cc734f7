"""Numbers, times and sizes as texts for the screens."""

from __future__ import annotations

import math

__all__ = ["bytes_text", "count", "duration", "micros", "plural", "recall_text", "seconds"]


def count(number: float) -> str:
    return f"{number:,.0f}"


def plural(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def micros(value: float) -> str:
    """A latency given in microseconds."""
    if not math.isfinite(value):
        return "–"
    if value < 1000:
        return f"{value:.0f} µs" if value >= 10 else f"{value:.1f} µs"
    if value < 1_000_000:
        return f"{value / 1000:.3g} ms" if value < 100_000 else f"{value / 1000:.0f} ms"
    return f"{value / 1_000_000:.2f} s"


def seconds(value: float) -> str:
    """A latency given in seconds."""
    return micros(value * 1e6)


def duration(value: float) -> str:
    """How long something takes, for people: 27 ms, 3.2 s, 1:05, 2:03:00."""
    if 0 < value < 0.1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bytes_text(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def recall_text(value: float) -> str:
    """Four digits, and never a 1.0000 that is not one."""
    return f"{math.floor(value * 10_000) / 10_000:.4f}" if value < 1 else "1.0000"
