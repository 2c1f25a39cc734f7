"""Write the types of the extension module, so that mypy holds every call against the header: python csrc/stubs.py

They are edgevec/_core.pyi: opaque pointers, the structs with their fields, the constants, and the functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from binding import declarations
from pycparser import c_ast, c_parser

HEADER = Path(__file__).parent / "edgevec.h"
STUBS = Path(__file__).parents[1] / "edgevec" / "_core.pyi"

KNOWN = {"int": "int", "int32_t": "int", "int64_t": "int", "uint64_t": "int", "double": "float", "void": "None"}
LONGEST_LINE = 120

TOP = '''"""Written by csrc/stubs.py from csrc/edgevec.h: the types of the extension module. Not to be edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

_T = TypeVar("_T")
_Function = TypeVar("_Function", bound=Callable[..., object])

class CType(Generic[_T]):
    """A C type; _T: what ffi.new() makes of it."""

    item: CType[Any]
    fields: list[tuple[str, Any]]

class CData:
    """A C pointer or array. Subclasses point to a struct, whose fields they have."""

    def __getitem__(self, index: int) -> Any: ...
    def __add__(self, offset: int) -> CData: ...
'''

FFI = '''class FFI(Protocol):
    """The part of cffi.FFI that is used."""

    NULL: Any
{typeof}    @overload
    def typeof(self, cdecl: str) -> CType[CData]: ...
    @overload
    def new(self, cdecl: CType[_T]) -> _T: ...
    @overload
    def new(self, cdecl: str) -> CData: ...
    def gc(self, cdata: _T, destructor: Callable[[_T], None], size: int = 0) -> _T: ...
    def string(self, cdata: CData) -> bytes: ...
    def from_buffer(self, cdecl: str | CType[CData], buffer: object) -> CData: ...
    def new_handle(self, value: object) -> CData: ...
    def from_handle(self, handle: CData) -> Any: ...
    def def_extern(
        self, *, error: int, onerror: Callable[[object, BaseException, object], None]
    ) -> Callable[[_Function], _Function]: ...
'''

LIB = '''class Lib(Protocol):
    """The C library."""

    ev__progress_py: CData
    ev__interrupt_py: CData
'''

BOTTOM = """ffi: FFI
lib: Lib
"""


def parsed(header: str) -> list[Any]:
    """The declarations of the header, as pycparser's nodes."""
    code = re.sub(r"/\*.*?\*/", "", declarations(header), flags=re.DOTALL)
    integers = "".join(f"typedef int {name};" for name in KNOWN if name.endswith("_t"))
    return list(c_parser.CParser().parse(integers + code).ext)


class Stubs:
    """The text of the stub, from the declarations of the header."""

    def __init__(self, nodes: list[Any]) -> None:
        typedefs = {node.name: node.type for node in nodes if isinstance(node, c_ast.Typedef)}
        self.callbacks = {name for name, type in typedefs.items() if isinstance(type, c_ast.PtrDecl)}
        self.structs = {name: t.type for name, t in typedefs.items() if isinstance(t.type, c_ast.Struct)}
        self.declared = [node for node in nodes if isinstance(node, c_ast.Decl)]

    def text(self) -> str:
        structs = (f"class {name}(CData):\n{self.fields(struct)}" for name, struct in self.structs.items())
        typeof = "".join(
            f'    @overload\n    def typeof(self, cdecl: Literal["{name} *"]) -> CType[{name}]: ...\n'
            for name, struct in self.structs.items()
            if struct.decls
        )
        return "\n".join([TOP, *structs, FFI.format(typeof=typeof), LIB + "".join(self.members()), BOTTOM])

    def fields(self, struct: Any) -> str:
        return "".join(f"    {one.name}: {self.type(one.type)}\n" for one in struct.decls or []) or "    pass\n"

    def members(self) -> Iterator[str]:
        for node in self.declared:
            if isinstance(node.type, c_ast.Enum):
                yield from (f"    {constant.name}: int\n" for constant in node.type.values.enumerators)
        for node in self.declared:
            if isinstance(node.type, c_ast.FuncDecl):
                yield self.function(node.name, node.type)

    def function(self, name: str, declared: Any) -> str:
        parameters = [one for one in declared.args.params if one.name is not None]  # not the void of f(void)
        arguments = ["self", *(f"{one.name}: {self.type(one.type, given=True)}" for one in parameters)]
        result = f") -> {self.type(declared.type)}: ...\n"
        line = f"    def {name}({', '.join(arguments)}{result}"
        if len(line) <= LONGEST_LINE:
            return line
        return f"    def {name}(\n" + "".join(f"        {argument},\n" for argument in arguments) + f"    {result}"

    def type(self, node: Any, *, given: bool = False) -> str:
        """given: a parameter, for which cffi takes bytes where C wants characters."""
        if isinstance(node, c_ast.TypeDecl):
            name = node.type.names[-1]
            return "CData" if name in self.callbacks else KNOWN[name]
        of = node.type.type.names[-1] if isinstance(node.type, c_ast.TypeDecl) else ""
        if of == "char" and given:
            return "bytes"
        return of if of in self.structs else "CData"


def stubs(header: Path = HEADER) -> str:
    return Stubs(parsed(header.read_text(encoding="utf-8"))).text()


if __name__ == "__main__":
    STUBS.write_text(stubs(), encoding="utf-8")
