"""Text that is safe to show in a terminal, and numbers as people read them."""

from __future__ import annotations

import reprlib
from typing import Any

__all__ = ["brief", "decimals", "pictures", "printable"]

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
"""C0, DEL and C1: each can begin an escape sequence, ring, or move the cursor."""

_HIDDEN = (
    0x061C,
    *range(0x200B, 0x200C),
    *range(0x200E, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
)
"""Marks that reorder text or take no room: what is shown would not be what is there. Without the two joiners (U+200C,
U+200D), which Persian, Indic scripts and emoji are written with."""

_SURROGATES = range(0xD800, 0xE000)
"""Half characters: bytes of a file name that are no text, or a broken JSON escape. No encoding can hold them."""

_PICTURES = (
    dict.fromkeys((*_CONTROLS, *_HIDDEN, *_SURROGATES, 0x2028, 0x2029), "\ufffd")
    | {code: chr(0x2400 + code) for code in range(0x20)}
    | {0x7F: "\u2421"}
)
_SHOWN = {code: f"\\x{code:02x}" for code in _CONTROLS} | {code: f"\\u{code:04x}" for code in (*_HIDDEN, *_SURROGATES)}
_IN_LINES = _SHOWN | {ord("\n"): "\n", ord("\t"): "    ", 0x2028: "\n", 0x2029: "\n"}
_IN_A_LINE = _SHOWN | dict.fromkeys((ord("\n"), ord("\r"), ord("\t"), 0x2028, 0x2029), " ")


def printable(text: object, *, lines: bool = False) -> str:
    r"""The text with control characters, marks that reorder it and half characters as escapes: \x1b, \u202e, \udcff.

    Args:
        lines: keep line ends, and turn a tab into four spaces; otherwise each becomes a space, so that the text is one
            line

    Example:
        >>> printable("a\tb\x1b[2J")
        'a b\\x1b[2J'
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return text.replace("\r\n", "\n").translate(_IN_LINES if lines else _IN_A_LINE)


def pictures(text: str) -> str:
    """The text with one visible character for each that printable() would escape, so that positions stay the same."""
    return text.translate(_PICTURES)


def decimals(value: float) -> str:
    """The number with four decimals, or with three significant digits if it is not 0 but would be shown as 0.0000."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 5e-5 else f"{value:.2e}"


_BRIEF = reprlib.Repr()
_BRIEF.maxother = _BRIEF.maxstring = 60


def brief(value: Any) -> str:
    """What a message shows of a value, however deep, long or large it is."""
    if isinstance(value, int) and value.bit_length() > 1000:  # Python does not write out those of 4,300 digits
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = _BRIEF.repr(value)
    except Exception:  # an integer within, or a class of the caller's
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
