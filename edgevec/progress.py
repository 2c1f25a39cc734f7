"""What a progress function may answer. Without NumPy, as the core's callbacks are."""

from __future__ import annotations

__all__ = ["says_stop"]


def says_stop(answer: object) -> bool:
    """Is it False, or NumPy's, which comparing with an array's element gives? Anything else, None too, goes on."""
    kind = type(answer)
    return answer is False or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_") and not answer)
