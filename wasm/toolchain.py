"""Fetch, verify and build what the browser wheel needs to be built and tested: `python wasm/toolchain.py [--official]`.

Everything lands in wasm/.cache (or EDGEVEC_WASM_CACHE); what is there is kept, so a torn run is simply repeated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from cache import ToolchainError, run, say
from crossenv import assemble, build_cffi, host_python, install_official
from runtime import PYODIDE, RUNTIME_SHA256, TEST_PACKAGES, fetch_pure_wheels, fetch_runtime, fetch_wheels

DEBIAN_PROGRAMS = {"emcc": "emscripten", "chromium": "chromium", "firefox-esr": "firefox-esr"}


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--official", action="store_true", help="Pyodide's own cross-build environment, SDK and CDN")
    parser.add_argument("--browser", action="store_true", help="Chromium too, and Firefox when CI=true")
    arguments = parser.parse_args()
    try:
        python, root = prepare_build(official=arguments.official)
        prepare_tests(python, root, official=arguments.official)
        if arguments.browser:
            require_program("chromium")
            require_firefox()
    except ToolchainError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
