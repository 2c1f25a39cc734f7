"""The tables that csrc/parse_tables.py makes of grammar.lark when the package is built; lalr.py reads texts by them."""

from __future__ import annotations

PATTERN: str
"""An alternative, and a group, for each terminal."""
IGNORED: tuple[str, ...]
KEYWORDS: dict[str, str]
"""The terminal of each word, which is in capitals."""
RULES: tuple[tuple[str, int, str, tuple[int | None, ...]], ...]
"""The symbol that a rule makes, of how many; the builder's method; and its arguments.

The method is "" where a rule hands its one argument on. With "_" in front it is none, but a repetition, which makes a
list of them. Arguments are places among the rule's symbols; ~place where that is a repetition, whose parts stand for
it; None for an optional part that is missing.
"""
ACTIONS: tuple[dict[str, int], ...]
"""For each state, by the next terminal: the state that follows, or ~rule, which is complete. State 0 is the first."""
GOTO: tuple[dict[str, int], ...]
"""For each state, by the symbol that a rule has made: the state that follows."""
END: int
"""The state in which the text is read."""
