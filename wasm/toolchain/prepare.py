"""The steps of the toolchain in order, up to building the wheel and up to testing it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from toolchain import pages
from toolchain.cache import ToolchainError, run, say
from toolchain.cross_build import assemble, build_cffi, host_python, install_official
from toolchain.extensions import ARCHIVER, CLANG, LINKER, build_extensions
from toolchain.runtime import (
    CARRIERS,
    PYODIDE,
    RUNTIME_SHA256,
    TEST_PACKAGES,
    fetch_pure_wheels,
    fetch_runtime,
    fetch_site_wheels,
    fetch_wheels,
)

DEBIAN_PROGRAMS = {
    "emcc": "emscripten",
    "chromium": "chromium",
    "firefox-esr": "firefox-esr",
    CLANG: "clang-19",
    LINKER: "lld-19",
    ARCHIVER: "llvm-19",
}


def require_program(name: str) -> None:
    """Have a program on the PATH; root on Debian gets its package, anyone else the command to run."""
    if shutil.which(name):
        return
    package = DEBIAN_PROGRAMS[name]
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ToolchainError(f"{name} is missing; run: sudo {' '.join(install)}")
    say(f"{name} is missing: installing Debian's {package}")
    run(["apt-get", "update"])
    run(install, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def require_firefox() -> None:
    """Its test is left out where Firefox is not there, but not in continuous integration."""
    if os.environ.get("CI") == "true":
        require_program("firefox-esr")
    elif shutil.which("firefox-esr") is None:
        say("firefox-esr is missing: its test will be skipped")


def prepare_build(*, official: bool) -> tuple[Path, Path]:
    """What `pyodide build` needs: the host Python and the root of the cross-build environment."""
    if shutil.which("npm") is None:
        raise ToolchainError("npm is missing; install Node.js 20 or newer")
    fetch_runtime()
    python = host_python()
    if official:
        return python, install_official(python)
    require_program("emcc")
    return python, assemble()


def prepare_tests(python: Path, root: Path, *, official: bool) -> None:
    """What running the test suite in Pyodide needs besides the wheel itself."""
    if official:
        fetch_wheels(["cffi"], official=True)
    else:
        build_cffi(python, root)
    fetch_wheels(official=official)
    fetch_pure_wheels(python, TEST_PACKAGES)
    for version in RUNTIME_SHA256.keys() - {PYODIDE}:
        fetch_runtime(version)
        if version in CARRIERS:
            fetch_wheels(("micropip",), official=official, version=version)


def prepare_newer_tests(version: str, python: Path, *, official: bool) -> None:
    """What running the test suite in a newer Pyodide needs: its own wheels, or cffi and NumPy built here."""
    fetch_runtime(version)
    # SQLite is a package of its own up to 0.29; since 314 it is in the standard library.
    separate = ("sqlite3",) if version in CARRIERS else ()
    if official:
        fetch_wheels(("cffi", "numpy", *separate), official=True, version=version)
    else:
        for program in (CLANG, LINKER, ARCHIVER):
            require_program(program)
        build_extensions(version)
        fetch_wheels(separate, version=version)
    fetch_pure_wheels(python, TEST_PACKAGES)


def prepare_pages(*, official: bool) -> None:
    """What other projects need to run edgevec in the newest Pyodide, which they start."""
    python = host_python()
    prepare_newer_tests(pages.PYODIDE, python, official=official)
    fetch_site_wheels(python, pages.PYODIDE)
    pages.fetch_pyscript()
    for engine in pages.ENGINES:
        pages.fetch_engine(engine)
