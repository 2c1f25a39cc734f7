"""The examples of the README, the documentation and the docstrings run as they stand there.

The Python blocks of a page share their names, from the top to the bottom. A comment before a block says what else there
is to know of it: `<!-- needs: NAME -->` wants that library (where it is missing the block is passed over), and
`<!-- compiled only -->` is for code of a browser. In blocks of a console the lines `$ edgevec ...` are run.
"""

from __future__ import annotations

import ast
import doctest
import gc
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from support import ROOT

import edgevec
import edgevec.collection
import edgevec.evaluation
import edgevec.samples

PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.is_file()]
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n+)?```(?P<kind>python|console)\n(?P<code>.*?)```", re.DOTALL)
# In the environment of the documentation every library is there, and a block that is passed over would be a gap.
EVERY_LIBRARY = bool(os.environ.get("EDGEVEC_ALL_EXAMPLES"))


class Block(NamedTuple):
    kind: str
    note: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        yield Block(match["kind"], match["note"] or "", match["code"], line)


def is_missing(block: Block) -> bool:
    needed = block.note.removeprefix("needs: ") if block.note.startswith("needs: ") else ""
    return bool(needed) and importlib.util.find_spec(needed) is None


@pytest.mark.skipif(not PAGES, reason="the pages are not beside the tests")
@pytest.mark.skipif(sys.platform == "emscripten", reason="25,000 vectors take long there")
@pytest.mark.subprocess
@pytest.mark.filterwarnings("default")  # of the other libraries
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: page.stem)
def test_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if is_missing(block):
            assert not EVERY_LIBRARY, f"{page.name}:{block.line} {block.note}"
        elif block.kind == "console":
            run_console(block)
        else:
            source = "\n" * block.line + block.code  # errors name the line of the page
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if block.note == "compiled only" else 0
            code = compile(source, str(page), "exec", flags, dont_inherit=True)
            if not flags:
                exec(code, names)
    assert not left_open(names)


def left_open(names: dict[str, object]) -> list[str]:
    """What is said of files and collections that were not closed, as the last names of them go."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        names.clear()
        gc.collect()
    return [str(each.message) for each in said if issubclass(each.category, ResourceWarning)]


def run_console(block: Block) -> None:
    for line in block.code.splitlines():
        if not line.startswith("$ edgevec "):
            continue
        command = [sys.executable, "-m", "edgevec", *shlex.split(line.removeprefix("$ edgevec "), comments=True)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def modules() -> Iterator[str]:
    package = Path(edgevec.__file__).parent
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[1] not in ("tui", "__main__"):
            yield ".".join(parts).removesuffix(".__init__")


@pytest.mark.skipif(sys.platform == "emscripten", reason="the pages are for CPython")
@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = pytest.importorskip(name, exc_type=ImportError)  # of the adapters' libraries
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in finder.find(module, name):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.skipif(sys.platform == "emscripten", reason="the pages are for CPython")
def test_every_public_class_has_an_example() -> None:
    lacking = []
    for module in (edgevec, edgevec.collection, edgevec.evaluation, edgevec.samples):
        for name in module.__all__:
            found = getattr(module, name)
            if not isinstance(found, type) or issubclass(found, (BaseException, Protocol)):
                continue
            if not doctest.DocTestParser().get_examples(found.__doc__ or ""):
                lacking.append(f"{module.__name__}.{name}")
    assert not lacking


@pytest.mark.skipif(not (ROOT / "docs" / "api").is_dir(), reason="the pages are not beside the tests")
def test_every_public_name_is_in_the_reference() -> None:
    reference = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = set(re.findall(r"^\.\. auto\w+:: (?:edgevec\.)?([\w.]+)(?:\(\))?$", reference, re.MULTILINE))
    public = {*edgevec.__all__, *edgevec.collection.__all__} - {"__version__", "Encoder", "looks_like_collection"}
    assert not public - listed
