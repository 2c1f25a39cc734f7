"""cffi and NumPy for the runtimes whose wheels no package registry carries: built from their sdists, once.

The compiler is Debian's Clang, with headers and libraries of Debian's Emscripten; both are near enough to what those
runtimes were built with. The Python headers are Debian's too, of the minor version that the runtime has.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from toolchain import debian, side_module_cc
from toolchain.cache import CACHE, ToolchainError, fresh_folder, run, say
from toolchain.cross_build import TOOLCHAIN, unpack_sdist
from toolchain.runtime import RUNTIME_PYTHON, lock_entry, wheel_folder
from toolchain.target_python import unpack_sysconfig, write_headers

CLANG, CLANGXX, LINKER, ARCHIVER = "clang-19", "clang++-19", "wasm-ld-19", "llvm-ar-19"
# Debian releases: of Emscripten 3.1.69, and of the Python of each runtime.
EMSCRIPTEN_RELEASE = "trixie"
PYTHON_RELEASE = {"3.13": "trixie", "3.14": "forky"}
SYSROOT = "usr/share/emscripten/cache/sysroot"
LIBRARIES = tuple(f"{SYSROOT}/lib/wasm32-emscripten/lib{name}.a" for name in side_module_cc.LIBRARIES)
BUILD_TOOLS = ("cython==3.2.9", "ninja==1.13.2", "packaging")


def build_extensions(version: str) -> list[Path]:
    """The wheels of cffi and NumPy for a runtime, built where they are not in the cache."""
    folder = wheel_folder(version)
    folder.mkdir(parents=True, exist_ok=True)
    wheels = []
    for name, build in (("cffi", _build_cffi), ("numpy", _build_numpy)):
        entry = lock_entry(name, version)
        wheel = folder / entry["file_name"]
        wheels.append(wheel)
        if wheel.exists():
            say(f"{wheel.name}: in the cache")
            continue
        say(f"building {name} {entry['version']} for Pyodide {version} from its sdist")
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            contents = build(version, entry["version"], Path(scratch))
            _pack(wheel, name, entry["version"], contents)
    return wheels


def _build_cffi(version: str, release: str, scratch: Path) -> Path:
    source = unpack_sdist(_host_python(), f"cffi=={release}", scratch)
    target, contents = _target(version), scratch / "contents"
    shutil.copytree(source / "src" / "cffi", contents / "cffi")
    module = contents / f"_cffi_backend{_suffix(target)}"
    includes = [f"-I{TOOLCHAIN / 'libffi'}", f"-I{target / 'include'}"]
    run([*_compiler(CLANG), "-O2", *includes, "-c", source / "src/c/_cffi_backend.c", "-o", scratch / "backend.o"])
    run([*_compiler(CLANG), "-shared", scratch / "backend.o", "-o", module])
    return contents


def _build_numpy(version: str, release: str, scratch: Path) -> Path:
    python, target, build = _host_python(), _target(version), scratch / "build"
    # pip asks a build backend for the name of what it downloads; the real one would have to compile it all.
    source = unpack_sdist(python, f"numpy=={release}", scratch, backend=TOOLCHAIN / "no_backend")
    cross_file = scratch / "cross.ini"
    cross_file.write_text(_meson_cross_file(python, target))
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    settings = ["--cross-file", cross_file, "--prefix=/usr", "-Dbuildtype=release", "-Db_ndebug=if-release"]
    no_blas = ["-Dblas=none", "-Dlapack=none", "-Dallow-noblas=true"]
    meson = [python, source / "vendored-meson" / "meson" / "meson.py"]
    run([*meson, "setup", *settings, *no_blas, source, build], env=environment)
    run([python.parent / "ninja", "-C", build], env=environment)
    install = ["install", "-C", build, "--no-rebuild", "--tags=runtime,python-runtime,devel"]
    run([*meson, *install, "--destdir", scratch / "installed"], env=environment)
    contents = next((scratch / "installed").rglob("numpy/__init__.py")).parents[1]
    # numpy.testing imports this one file of NumPy's own tests in some releases.
    helper = Path("numpy", "_core", "tests", "_natype.py")
    if (source / helper).exists():
        (contents / helper).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / helper, contents / helper)
    return contents


def _meson_cross_file(python: Path, target: Path) -> str:
    def words(*command: str | Path) -> str:
        return "[" + ", ".join(f"'{word}'" for word in command) + "]"

    return "\n".join(
        [
            "[binaries]",
            f"c = {words(*_compiler(CLANG))}",
            f"cpp = {words(*_compiler(CLANGXX))}",
            f"ar = '{ARCHIVER}'",
            f"cython = '{python.parent / 'cython'}'",
            f"python = '{_lookalike(python, target)}'",
            "[built-in options]",
            "c_args = ['-Wno-return-type']",
            "cpp_args = ['-Wno-return-type']",
            "[properties]",
            "needs_exe_wrapper = true",
            "skip_sanity_check = true",
            "longdouble_format = 'IEEE_QUAD_LE'",
            "[host_machine]",
            "system = 'emscripten'",
            "cpu_family = 'wasm32'",
            "cpu = 'wasm'",
            "endian = 'little'",
            "",
        ]
    )


def _lookalike(python: Path, target: Path) -> Path:
    """A program that runs this machine's Python, but answers for the target's when Meson asks what it is."""
    program = target / "python"
    program.write_text(f'#!/bin/sh\nexec {python} {TOOLCHAIN / "lookalike_python.py"} {target} "$@"\n')
    program.chmod(0o755)
    return program


def _target(version: str) -> Path:
    """A folder with the headers and the sysconfig data of a runtime's Python."""
    python = RUNTIME_PYTHON[version]
    folder = CACHE / "target-python" / version
    if folder.exists():
        return folder
    headers = debian.unpack(
        f"libpython{python}-dev",
        PYTHON_RELEASE[python],
        CACHE / "python-headers" / python,
        lambda path: path.startswith("usr/include/"),
    )
    include = headers / "usr" / "include"
    host_config = next(path for path in include.rglob("pyconfig.h") if path.parent.parent != include)
    with fresh_folder(folder) as scratch:
        variables = unpack_sysconfig(scratch / "sysconfigdata", version)
        write_headers(include / f"python{python}", host_config, scratch / "include", variables)
        (scratch / "sysconfigdata" / "variables.json").write_text(json.dumps(variables))
    return folder


def _suffix(target: Path) -> str:
    variables: dict[str, Any] = json.loads((target / "sysconfigdata" / "variables.json").read_text())
    return str(variables["EXT_SUFFIX"])


def _compiler(program: str) -> list[str | Path]:
    sysroot = debian.unpack("emscripten", EMSCRIPTEN_RELEASE, CACHE / "emscripten-sysroot", _of_sysroot) / SYSROOT
    return [sys.executable, "-IS", TOOLCHAIN / "side_module_cc.py", sysroot, program, LINKER]


def _of_sysroot(path: str) -> bool:
    return path.startswith(f"{SYSROOT}/include/") or path in LIBRARIES


def _host_python() -> Path:
    """A venv with what NumPy's build runs on this machine."""
    if sys.version_info < (3, 11):
        raise ToolchainError("NumPy's sdist wants Python 3.11 or newer; run this with one")
    venv = CACHE / "host-numpy"
    python = venv / "bin" / "python"
    stamp = venv / "installed"
    wanted = json.dumps([sys.executable, *BUILD_TOOLS])
    if not stamp.exists() or stamp.read_text() != wanted:
        run([sys.executable, "-m", "venv", "--clear", venv])
        run([python, "-m", "pip", "install", "-q", *BUILD_TOOLS])
        stamp.write_text(wanted)
    return python


def _pack(wheel: Path, name: str, release: str, contents: Path) -> None:
    """A wheel of the files in a folder."""
    tag = "-".join(wheel.stem.split("-")[2:])
    information = f"{name}-{release}.dist-info"
    files = {path.relative_to(contents).as_posix(): path.read_bytes() for path in contents.rglob("*") if path.is_file()}
    files[f"{information}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n".encode()
    files[f"{information}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: edgevec\nTag: {tag}\n".encode()
    record = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(data)}")
    files[f"{information}/RECORD"] = "\n".join([*record, f"{information}/RECORD,,", ""]).encode()
    torn = wheel.with_suffix(".part")
    with zipfile.ZipFile(torn, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, data in sorted(files.items()):
            packed.writestr(path, data)
    torn.replace(wheel)
