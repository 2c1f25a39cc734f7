"""Layers: no file reaches up or round in a circle. `python tests/project/test_layers.py` prints what is counted."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the ground: a folder uses only itself and those before it. Headers of csrc itself are the public ones.
C_LAYERS = ("", "base", "simd", "quantize", "store", "graph", "index", "file", "disk")

# The same of the modules and folders of the package; those of a row know nothing of each other. "" is its face.
PYTHON_LAYERS = (
    ("_core",),
    ("errors", "_types", "printable", "kept_error", "progress"),
    ("_simd", "_callbacks"),
    ("files", "workspace", "_native", "_validation", "evaluation", "samples", "browser"),
    ("plot", "readers", "calibration", "id_filter", "encoders"),
    ("index",),
    ("single_search", "staging", "sharded", "disk_index"),
    ("collection",),
    ("sharded_collection",),
    ("file_kind", "ray"),
    ("",),
    ("adapters", "importers", "servers"),
    ("cli",),
    ("tui", "__main__"),
)
OUTSIDERS = ("adapters", "importers", "servers", "cli", "tui", "__main__")
"""They use of others only what is public. So do benches/ and wasm/demo/, which are beside the package."""

PUBLIC = (
    "edgevec",
    "edgevec.browser",
    "edgevec.collection",
    "edgevec.collection.where",
    "edgevec.encoders",
    "edgevec.errors",
    "edgevec.evaluation",
    "edgevec.file_kind",
    "edgevec.files",
    "edgevec.plot",
    "edgevec.printable",
    "edgevec.ray",
    "edgevec.readers",
    "edgevec.samples",
    "edgevec.sharded",
    "edgevec.sharded_collection",
    "edgevec.workspace",
)
"""Modules that the API reference describes. The names in their __all__ are public."""


@dataclass(frozen=True)
class Use:
    """A line of one file that needs another file."""

    user: str
    line: int
    text: str
    used: str

    def __str__(self) -> str:
        return f"{self.user}:{self.line}: {self.text} ({self.used})"


def c_files(root: Path) -> dict[str, list[str]]:
    files = (path for path in root.rglob("*.[ch]") if path.parent.name != "examples")
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8").splitlines() for path in sorted(files)}


def c_includes(files: dict[str, list[str]]) -> Iterator[Use]:
    for name, lines in files.items():
        for number, line in enumerate(lines, 1):
            if found := re.match(r'\s*#\s*include "(.+?)"', line):
                yield Use(name, number, line.strip(), found[1])


def c_calls(files: dict[str, list[str]]) -> Iterator[Use]:
    """Functions and tables of other .c files that a .c file names, whatever header declares them."""
    defined = {}
    for name, lines in files.items():
        if not name.endswith(".c"):
            continue
        for line in lines:
            head = re.match(r"(?!static|typedef|extern|return)[a-z][\w *]*?\b(ev_\w+)\(", line)
            if head and not line.rstrip().endswith(";"):
                defined[head[1]] = name
    for name, lines in files.items():
        if not name.endswith(".c"):
            continue
        for number, line in enumerate(lines, 1):
            for symbol in re.findall(r"\bev_\w+", re.sub(r"/\*.*?(\*/|$)|^ \*.*", "", line)):
                if defined.get(symbol, name) != name:
                    yield Use(name, number, symbol, defined[symbol])


def layer(name: str) -> int:
    folder, _, _ = name.rpartition("/")
    return C_LAYERS.index(folder)


def upward(uses: list[Use]) -> list[Use]:
    """Those that reach a layer above their own."""
    return [use for use in uses if layer(use.used) > layer(use.user)]


def circles(uses: list[Use]) -> list[list[Use]]:
    """One circle for each use that closes one, as the uses that lead round it."""
    graph: dict[str, dict[str, Use]] = defaultdict(dict)
    for use in uses:
        if use.used != use.user:
            graph[use.user].setdefault(use.used, use)
    found: list[list[Use]] = []
    done: set[str] = set()

    def visit(name: str, path: list[Use]) -> None:
        for used, use in graph[name].items():
            way = [*path, use]
            start = next((i for i, step in enumerate(way) if step.user == used), None)
            if start is not None:
                found.append(way[start:])
            elif used not in done:
                visit(used, way)
        done.add(name)

    for name in list(graph):
        if name not in done:
            visit(name, [])
    return found


def told(found: list[list[Use]]) -> str:
    return "\n\n".join("\n".join(map(str, uses)) for uses in found)


def c_uses() -> list[Use]:
    files = c_files(ROOT / "csrc")
    return [*c_includes(files), *c_calls(files)]


def test_no_c_file_reaches_up() -> None:
    found = upward(c_uses())
    assert not found, told([found])


def test_c_files_form_no_circle() -> None:
    found = circles(c_uses())
    assert not found, told(found)


def test_the_public_header_includes_only_the_standard_types() -> None:
    text = (ROOT / "csrc" / "edgevec.h").read_text(encoding="utf-8")
    assert re.findall(r"#\s*include (.+)", text) == ["<stddef.h>", "<stdint.h>"]


def test_a_circle_and_a_reach_upward_are_found() -> None:
    files = {
        "base/a.c": ['#include "graph/g.h"', "int ev__a(void) {", "    return ev__b();", "}"],
        "base/b.c": ["int ev__b(void) {", "    return ev__a();", "}"],
        "graph/g.h": [],
    }
    uses = [*c_includes(files), *c_calls(files)]
    assert [str(use) for use in upward(uses)] == ['base/a.c:1: #include "graph/g.h" (graph/g.h)']
    (circle,) = circles(uses)
    assert [(use.user, use.line) for use in circle] == [("base/a.c", 3), ("base/b.c", 2)]


needs_package = pytest.mark.skipif(
    not (ROOT / "edgevec").is_dir(), reason="the package's source is not beside the tests"
)


# ---- Python ----------------------------------------------------------------------------------------------------------


def python_files() -> dict[str, Path]:
    """By the name to import; tui/ is installed as edgevec.tui."""
    found = {}
    for folder, name in (("edgevec", "edgevec"), ("tui", "edgevec.tui")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((name, *(part for part in parts if part != "__init__")))] = path
    return found


def names_used(name: str, path: Path) -> Iterator[Use]:
    """What a file takes from the package, as edgevec.module.name: imports, wherever they stand, and `edgevec.name`."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    nodes = list(ast.walk(ast.parse(text)))
    plain = any(isinstance(node, ast.Import) and any(one.name == "edgevec" for one in node.names) for node in nodes)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            used = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            used = [f"{base}.{alias.name}" for alias in node.names]
        elif plain and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = [f"{node.value.id}.{node.attr}"]
        else:
            continue
        yield from (Use(name, node.lineno, lines[node.lineno - 1].strip(), one) for one in used if is_ours(one))


def is_ours(name: str) -> bool:
    return name.split(".")[0] == "edgevec"


def python_imports(files: dict[str, Path]) -> Iterator[Use]:
    """The modules that each module uses."""
    for name, path in files.items():
        for use in names_used(name, path):
            module = use.used in files or use.used == "edgevec._core"
            yield use if module else replace(use, used=use.used.rpartition(".")[0])


def part(name: str) -> str:
    """The module or folder below the package."""
    return name.partition(".")[2].partition(".")[0]


def python_layer(name: str) -> int:
    return next(number for number, names in enumerate(PYTHON_LAYERS) if part(name) in names)


def python_upward(uses: list[Use]) -> list[Use]:
    """Those that reach a layer above their own, or another part of it."""
    return [
        use for use in uses if part(use.used) != part(use.user) and python_layer(use.used) >= python_layer(use.user)
    ]


@needs_package
def test_no_module_reaches_up() -> None:
    found = python_upward(list(python_imports(python_files())))
    assert not found, told([found])


@needs_package
def test_modules_form_no_circle() -> None:
    found = circles(list(python_imports(python_files())))
    assert not found, told(found)


@needs_package
def test_only_native_reaches_the_c_library() -> None:
    """The package's face imports it first, to say what to do where it is not built; two come without NumPy."""
    found = [use for use in python_imports(python_files()) if part(use.used) == "_core"]
    assert {use.user for use in found} == {"edgevec", "edgevec._callbacks", "edgevec._native", "edgevec._simd"}, told(
        [found]
    )


def is_public(use: Use, modules: Collection[str]) -> bool:
    """Whether the name may be used from outside: a public module, or a name that one lists. Outsiders, which no
    reference describes, may use what they list for each other."""
    if use.used in modules:
        return use.used in PUBLIC or part(use.used) in OUTSIDERS
    module, _, name = use.used.rpartition(".")
    if module not in PUBLIC and part(module) not in OUTSIDERS:
        return False
    # open() is not listed, so that `from edgevec import *` leaves the builtin alone.
    return name in names_listed(module) or use.used == "edgevec.open"


def names_listed(module: str) -> list[str]:
    """Its __all__; read, not imported, where the library that it is for may be missing."""
    if not module.startswith(("edgevec.adapters.", "edgevec.importers", "edgevec.servers.")):
        return list(importlib.import_module(module).__all__)
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    text = Path(spec.origin).read_text(encoding="utf-8")
    found = re.search(r"^__all__ = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    assert found
    return list(ast.literal_eval(found[1]))


def outsiders() -> Iterator[tuple[str, Path]]:
    yield from ((name, path) for name, path in python_files().items() if part(name) in OUTSIDERS)
    for path in sorted((*(ROOT / "benches").rglob("*.py"), *(ROOT / "wasm" / "demo").rglob("*.py"))):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


@needs_package
def test_what_stands_above_the_library_uses_only_what_is_public() -> None:
    modules = python_files()
    uses = [use for name, path in outsiders() for use in names_used(name, path)]
    found = [use for use in uses if home(use.used) != home(use.user) and not is_public(use, modules)]
    assert not found, told([found])


def home(name: str) -> str:
    """The first two parts: modules of one folder know each other's names."""
    return ".".join(name.split(".")[:2])


@needs_package
def test_public_modules_are_in_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    described = set(re.findall(r"^\.\. (?:automodule|currentmodule):: (\S+)$", pages, re.MULTILINE))
    assert set(PUBLIC) - {"edgevec.errors"} <= described  # whose names are all those of edgevec too


def test_a_private_name_is_found(tmp_path: Path) -> None:
    source = "import edgevec\nfrom edgevec.collection.graph import Graph\nedgevec.index\nedgevec.Index\n"
    (tmp_path / "screen.py").write_text(source, encoding="utf-8")
    modules = ("edgevec", "edgevec.index", "edgevec.collection", "edgevec.collection.graph")
    uses = names_used("edgevec.tui.screen", tmp_path / "screen.py")
    found = [use for use in uses if not is_public(use, modules)]
    assert [(use.line, use.used) for use in found] == [(2, "edgevec.collection.graph.Graph"), (3, "edgevec.index")]


def test_an_import_upward_is_found() -> None:
    up = Use("edgevec.errors", 1, "from .index import Index", "edgevec.index")
    beside = Use("edgevec.adapters.sklearn", 2, "import edgevec.servers", "edgevec.servers")
    down = Use("edgevec.index", 3, "from .errors import EdgevecError", "edgevec.errors")
    assert python_upward([up, beside, down]) == [up, beside]


if __name__ == "__main__":
    uses = c_uses()
    print(
        f"C: {len(c_files(ROOT / 'csrc'))} files, {len(upward(uses))} uses that reach up, {len(circles(uses))} circles"
    )
    uses = list(python_imports(python_files()))
    print(
        f"Python: {len(python_files())} files, {len(python_upward(uses))} imports that reach up, "
        f"{len(circles(uses))} circles"
    )
