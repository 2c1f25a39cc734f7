"""What a runtime's Python looks like to a compiler: its sysconfig data, and headers with its pyconfig.h."""

from __future__ import annotations

import re
import runpy
import shutil
import zipfile
from pathlib import Path
from typing import Any

from toolchain.runtime import PYODIDE, runtime_folder

SYSCONFIG_NAME = "_sysconfigdata__emscripten_wasm32-emscripten"


def unpack_sysconfig(folder: Path, version: str = PYODIDE) -> dict[str, Any]:
    """The sysconfig data, which lie in the runtime's standard library."""
    folder.mkdir(parents=True)
    path = folder / f"{SYSCONFIG_NAME}.py"
    with zipfile.ZipFile(runtime_folder(version) / "python_stdlib.zip") as library:
        path.write_bytes(library.read(path.name))
    variables: dict[str, Any] = runpy.run_path(str(path))["build_time_vars"]
    return variables


def write_headers(source: Path, host_config: Path, folder: Path, variables: dict[str, Any]) -> None:
    """The headers of a Python of the same minor version, for whatever system, with the target's pyconfig.h.

    Args:
        source: The folder of those headers.
        host_config: That Python's pyconfig.h, which says the names of what is configured.
        folder: To be made.
        variables: The target's sysconfig data, which hold the values.
    """
    shutil.copytree(source, folder)
    names = set(re.findall(r"^\s*(?:/\*\s*)?#\s*(?:define|undef)\s+(\w+)", host_config.read_text(), re.MULTILINE))
    known = [(name, variables.get(name)) for name in sorted(names)]
    defines = [f"#define {name} {value}" for name, value in known if value not in (None, "", 0)]
    defines.append("#define _GNU_SOURCE 1")  # sysconfig knows no names that begin with an underscore
    (folder / "pyconfig.h").write_text(
        "\n".join(["#ifndef Py_PYCONFIG_H", "#define Py_PYCONFIG_H", *defines, "#endif", ""])
    )
