"""Build the browser wheel: `python wasm/build.py [--official | --if-changed]` leaves dist/edgevec-*wasm32.whl.

One module serves every Pyodide since 0.27, but a wheel is named for one ABI: tools that build sites refuse a name with
several. So there are as many wheels as ABIs, which differ in their names and tags alone.

The same CMake and the same C as everywhere, through `pyodide build`. By default in a cross-build environment put
together from package registries and with the system's emcc; with --official in Pyodide's own environment and with the
SDK it names.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from toolchain.cache import PROJECT, ToolchainError, run, say, sha256
from toolchain.cross_build import Target, build_environment
from toolchain.prepare import prepare_build
from toolchain.runtime import PYODIDE

DIST = PROJECT / "dist"
STAMP = DIST / ".browser-wheel-inputs"
SOURCES = {".c", ".h", ".py", ".pyi", ".in", ".cmake", ".lark"}
# The module's entry, and the self-test for runtimes in which no test suite can be run.
EXPORTS = "PyInit__core,ev_selftest"
# pyodide-build ends every command line with -Oz; what is given here comes after it. Once emcc has seen -Oz it keeps
# inlining off, whatever level follows. Function names stay in the binary.
COMPILE_FLAGS = "-O3 -finline-functions"
LINK_FLAGS = "-O3 --profiling-funcs"
# A plain C module without exceptions, setjmp or threads loads under every ABI since; the tests run it on each.
PLATFORMS = {
    "0.27.7": "pyodide_2024_0_wasm32",
    "0.29.5": "pyodide_2025_0_wasm32",  # "pyemscripten", its later name, is refused up to 0.29.0
    "314.0.7": "pyemscripten_2026_0_wasm32",
}
# Commands and the terminal app, for which a page has no terminal; what other libraries store, which commands read;
# servers, for which it has no sockets; shards, for which it has no threads; types of the core, for whoever checks them;
# and what pyproject.toml leaves out of every wheel.
LEFT_OUT = (
    "edgevec/cli/**;edgevec/importers/**;edgevec/servers/**;edgevec/__main__.py;edgevec/tui/**;edgevec/sharded/**;"
    "edgevec/sharded_collection/**;edgevec/collection/part*.py;edgevec/ray/**;**/*.pyi;**/*.lark"
)


def build(*, official: bool = False) -> list[Path]:
    """Build the wheels in dist/, replacing older ones."""
    python, root = prepare_build(official=official)
    describe_choice(official=official)
    variables = build_environment(root, compile_flags=COMPILE_FLAGS, link_flags=LINK_FLAGS)
    with tempfile.TemporaryDirectory() as scratch:
        command: list[str | Path] = [
            python.parent / "pyodide",
            "build",
            PROJECT,
            "--outdir",
            scratch,
            "--exports",
            EXPORTS,
        ]
        settings = [f"wheel.exclude={LEFT_OUT}", f"cmake.args=-DCMAKE_TOOLCHAIN_FILE={cmake_toolchain(python)}"]
        try:
            run([*command, *(f"-C{setting}" for setting in settings)], cwd=PROJECT, env=variables)
        finally:
            shutil.rmtree(PROJECT / ".pyodide_build", ignore_errors=True)
        built = next(Path(scratch).glob("*.whl"))
        for platform in PLATFORMS.values():
            if platform not in built.name:
                run([python, "-m", "wheel", "tags", "--platform-tag", platform, built])
        DIST.mkdir(exist_ok=True)
        for older in DIST.glob("edgevec-*wasm32.whl"):
            older.unlink()
        for wheel in Path(scratch).glob("*.whl"):
            shutil.move(wheel, DIST / wheel.name)
    STAMP.write_text(inputs_digest())
    return [built_wheel(version) for version in PLATFORMS]


def build_if_changed() -> list[Path]:
    """Build the wheels where one is missing, or they are made of other files than those that are there now."""
    wheels = list(DIST.glob("edgevec-*wasm32.whl"))
    if len(wheels) == len(PLATFORMS) and STAMP.exists() and STAMP.read_text() == inputs_digest():
        say(f"{len(wheels)} browser wheels: nothing that they are made of has changed")
        return [built_wheel(version) for version in PLATFORMS]
    return build()


def inputs_digest() -> str:
    """A hash over the names and bytes of all that the wheel is made of and with."""
    folders = (PROJECT / "csrc", PROJECT / "edgevec", PROJECT / "wasm" / "toolchain")
    found = (file for folder in folders for file in folder.rglob("*"))
    sources = [file for file in found if file.suffix in SOURCES or file.name == "CMakeLists.txt"]
    digest = hashlib.sha256()
    for file in sorted([*sources, PROJECT / "pyproject.toml", Path(__file__)]):
        digest.update(f"{file.relative_to(PROJECT)} {sha256(file)}\n".encode())
    return digest.hexdigest()


def built_wheel(version: str = PYODIDE) -> Path:
    """The wheel for a Pyodide."""
    wheels = list(DIST.glob(f"edgevec-*-{PLATFORMS[version]}.whl"))
    if len(wheels) != 1:
        raise ToolchainError(f"{len(wheels)} wheels for Pyodide {version} in {DIST}; run: python wasm/build.py")
    return wheels[0]


def cmake_toolchain(python: Path) -> str:
    """pyodide-build's CMake toolchain file; Emscripten's own, which old emcmake insists on, refuses shared modules."""
    return run(
        [python, "-c", "from pyodide_build import config; print(config.DEFAULT_CONFIG['cmake_toolchain_file'])"]
    ).stdout.strip()


def describe_choice(*, official: bool) -> None:
    target = Target.of_runtime()
    origin = "Pyodide's own" if official else "assembled from package registries"
    say(f"building for Pyodide {PYODIDE}: Python {target.python}, ABI {target.abi}; cross-build environment: {origin}")
    if not official:
        version = re.search(r"\d+\.\d+\.\d+", run(["emcc", "--version"]).stdout)
        found = version.group() if version else "of unknown version"
        say(f"compiler: the system's emcc {found}; Pyodide {PYODIDE} itself was built with {target.emscripten}")


def describe_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        module = next(entry for entry in packed.infolist() if entry.filename.endswith(".so"))
    say(f"{wheel.relative_to(PROJECT)}")
    say(f"{wheel.stat().st_size:,} bytes, of which {module.filename} {module.compress_size:,}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--official", action="store_true", help="Pyodide's own cross-build environment and SDK")
    parser.add_argument("--if-changed", action="store_true", help="keep a wheel made of the very files that are here")
    arguments = parser.parse_args()
    try:
        keep = arguments.if_changed and not arguments.official
        for wheel in build_if_changed() if keep else build(official=arguments.official):
            describe_wheel(wheel)
    except ToolchainError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
