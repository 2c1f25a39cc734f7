"""Write the tables by which edgevec reads a language: python parse_tables.py GRAMMAR.lark OUT.py

Lark works them out from the grammar when the package is built, and edgevec/collection/where/lalr.py reads texts by
them: what is installed neither needs Lark nor has any of its code. Of Lark's notation it knows what such tables can
say: rules, aliases, `?` before a rule, `[optional]` parts, repetitions, and terminals without flags or priorities.
Terminals that are declared, but have no pattern, are keywords.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

TOP = '"""Written by csrc/parse_tables.py from {grammar} when the package was built. Not to be edited."""\n'


def tables(grammar: str) -> dict[str, Any]:
    """By name, what lalr.py imports; it says what each is."""
    made = Lark(grammar, parser="lalr", lexer="basic", maybe_placeholders=True)
    data, known = made.memo_serialize([TerminalDef, Rule])
    parser, lexer = data["parser"]["parser"], data["parser"]["lexer_conf"]
    numbers = {key: number for number, key in enumerate(one["@"] for one in data["rules"])}
    rules = [known[key] for key in numbers]
    terminals = [known[one["@"]] for one in lexer["terminals"]]
    patterns = {one["name"]: pattern(one["pattern"]) for one in terminals}
    terminal_names = {one["name"] for rule in rules for one in rule["expansion"] if one["__type__"] == "Terminal"}
    actions: list[dict[str, int]] = []
    goto: list[dict[str, int]] = []
    # Lark's numbers of states follow the order of sets; in the order in which one comes to them, builds are equal.
    order = [parser["start_states"]["start"]]
    for state in order:  # grows on the way
        row = {parser["tokens"][token]: action for token, action in parser["states"][state].items()}
        moves = {}
        for name, (reduces, to) in sorted(row.items()):
            if not reduces and to not in order:
                order.append(to)
            moves[name] = ~numbers[to["@"]] if reduces else order.index(to)
        actions.append({name: to for name, to in moves.items() if name in terminal_names | {"$END"}})
        goto.append({name: to for name, to in moves.items() if name not in actions[-1]})
    return {
        "PATTERN": "|".join(f"(?P<{name}>{text})" for name, text in patterns.items()),
        "IGNORED": tuple(lexer["ignore"]),
        "KEYWORDS": {name.lstrip("_"): name for name in sorted(terminal_names - patterns.keys())},
        "RULES": tuple(rule_of(rule) for rule in rules),
        "ACTIONS": tuple(actions),
        "GOTO": tuple(goto),
        "END": order.index(parser["end_states"]["start"]),
    }


def pattern(terminal: dict[str, Any]) -> str:
    if terminal["flags"]:
        raise ValueError(f"a terminal with flags: {terminal}")
    return re.escape(terminal["value"]) if terminal["__type__"] == "PatternStr" else str(terminal["value"])


def rule_of(rule: dict[str, Any]) -> tuple[str, int, str, tuple[int | None, ...]]:
    """A row of RULES."""
    origin, options, expansion = rule["origin"]["name"], rule["options"], rule["expansion"]
    parts: list[int | None] = []
    # For each optional part that is missing True, for each symbol that is there False.
    missing = options["empty_indices"] or [False] * len(expansion)
    symbols = iter(enumerate(expansion))
    for is_missing in missing:
        if is_missing:
            parts.append(None)
            continue
        place, symbol = next(symbols)
        if symbol["__type__"] == "NonTerminal":
            parts.append(~place if symbol["name"].startswith("_") else place)
        elif not symbol["filter_out"]:
            parts.append(place)
    name = rule["alias"] or origin
    if options["expand1"] and not rule["alias"]:
        if len(parts) != 1 or parts[0] is None or parts[0] < 0:
            raise ValueError(f"?{origin}: an alternative with other than one part needs an alias")
        name = ""
    return origin, len(expansion), name, tuple(parts)


def write_tables(grammar: Path, out: Path) -> None:
    found = tables(grammar.read_text(encoding="utf-8"))
    lines = [f"{name} = {value!r}\n" for name, value in found.items()]
    out.write_text(TOP.format(grammar=grammar.name) + "\n" + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_tables(Path(sys.argv[1]), Path(sys.argv[2]))
