"""Text of documents, names and files so that it cannot control the terminal that shows it; and numbers."""

from __future__ import annotations

__all__ = ["decimals", "pictures", "printable"]

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
        lines: keep its line ends, and tabs as blanks; else each becomes a blank, so that the text is one line
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return text.replace("\r\n", "\n").translate(_IN_LINES if lines else _IN_A_LINE)


def pictures(text: str) -> str:
    """The text with one visible character in place of each that printable() would escape, so that positions stay."""
    return text.translate(_PICTURES)


def decimals(value: float) -> str:
    """Four decimals; three figures of what would be 0.0000 but is not, as scores of words in few documents are."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 5e-5 else f"{value:.2e}"
