"""Texts into words for SQLite's FTS5, which ends a word only where letters, digits and marks end.

Scripts that put no spaces between words are cut into overlapping pairs of characters, as Lucene's CJK analyzer does:
日本語の becomes 日本 本語 語の の, so that a word is found by its pairs, and one character by what begins with it. What
differs in form alone becomes the same (NFKC). Accents and case are left to FTS5. Points and vowel signs that Hebrew and
Arabic are mostly written without are left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

__all__ = ["indexed", "phrases"]

_LETTERS = (  # Chinese, Korean
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd\u1100-\u11ff\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
)
_BLOCKS = (  # of letters, marks, numerals and signs
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3005, 0x312F),  # Japanese, Bopomofo
    (0x31A0, 0x31FF),
    (0xA980, 0xA9FF),  # Javanese, Burmese
    (0xAA00, 0xAADF),  # Cham, Burmese, Tai Viet
    (0x1B000, 0x1B16F),
)
_LEFT_OUT = re.compile(
    "[\u00ad\u200d\u2060\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef"  # soft hyphens, joiners, variants of one character
    "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\ufe20-\ufe2f"  # accents that no letter has been made with
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4"
    "\u06e7\u06e8\u06ea-\u06ed]"
)


def indexed(document: str | None) -> str | None:
    """The text that FTS5 reads in place of a document; None when it is the document."""
    if not isinstance(document, str) or document.isascii():
        return None
    words = _runs().sub(lambda run: f" {' '.join(_pairs(run[0]))} ", _normal(document))
    return None if words == _blanks(document) else words


def phrases(text: str) -> list[str]:
    """The words of a query, each once, in quotes: FTS5 takes them for no operators."""
    if text.isascii():
        return _once(re.findall(r"\w+", text))
    found: list[str] = []
    for at, part in enumerate(_runs().split(_normal(text))):
        if at % 2:
            pairs = _pairs(part)
            found += pairs[:-1] or [pairs[0] + "*"]
        else:
            found += "".join(letter if _is_of_word(letter) else " " for letter in part).split()
    return _once(found)


def _once(words: Iterable[str]) -> list[str]:
    different = {word.lower(): word for word in words}
    return [f'"{word[:-1]}" *' if word.endswith("*") else f'"{word}"' for word in different.values()]


def _blanks(text: str) -> str:
    """With two common characters as NFKC writes them, which FTS5 does not index in either form."""
    return text.replace("\u00a0", " ").replace("\u2026", "...")


def _normal(text: str) -> str:
    return _LEFT_OUT.sub("", unicodedata.normalize("NFKC", text))


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_" or unicodedata.category(letter) in ("Mn", "Mc", "Me", "Co")


@lru_cache(maxsize=1)
def _character() -> str:
    """A pattern for a letter of a script without spaces, and the marks on it."""
    characters = [chr(code) for first, last in _BLOCKS for code in range(first, last + 1)]
    letters = "".join(c for c in characters if unicodedata.category(c) in ("Lo", "Lm", "Nl"))
    marks = "".join(c for c in characters if unicodedata.category(c) in ("Mn", "Mc"))
    return f"[{_LETTERS}{letters}][{marks}]*"


@lru_cache(maxsize=1)
def _runs() -> re.Pattern[str]:
    return re.compile(f"((?:{_character()})+)")


def _pairs(run: str) -> list[str]:
    """Its pairs of neighboring characters, then the last character."""
    characters = re.findall(_character(), run)
    return [*map("".join, pairwise(characters)), characters[-1]]
