"""Build the core alone and run its C tests in every way this machine can: python run.py BUILD_FOLDER [variant ...]

Without names: all variants. One whose tools are missing is skipped with a line that says so; where CI=true it fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "csrc" / "examples" / "simple.c"
JOBS = str(min(os.cpu_count() or 1, 4))


@dataclass(frozen=True)
class Variant:
    """One way to configure CMake, what it needs on the PATH, and which tests it is for."""

    defines: dict[str, str]
    tools: tuple[str, ...] = ()
    tests: str = ".*"
    environment: dict[str, str] = field(default_factory=dict)


def cross(processor: str, emulator: str, *, compiler: str, system: str = "Linux") -> dict[str, str]:
    """Another processor or system: CTest starts every test under the emulator."""
    return {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_COMPILER": compiler,
        "CMAKE_SYSTEM_NAME": system,
        "CMAKE_SYSTEM_PROCESSOR": processor,
        "CMAKE_CROSSCOMPILING_EMULATOR": emulator,
    }


def port(processor: str, emulator: str, compiler: str, tests: str, system: str = "Linux", flags: str = "") -> Variant:
    """Another processor, C library or system; linked statically, so that none of its libraries is needed."""
    defines = {**cross(processor, emulator, compiler=compiler, system=system), "CMAKE_EXE_LINKER_FLAGS": "-static"}
    if flags:
        defines["CMAKE_C_FLAGS"] = flags
    return Variant(defines, tools=(compiler, *filter(None, [emulator])), tests=tests, environment=FEW_TURNS)


# What happens when memory runs out depends on no instruction set, and takes minutes under an emulator. That each call
# runs beside each other does not need many turns there, and none where the order of memory is the host's.
WHERE_ISA_MATTERS = "file|kernels"
WHERE_MEMORY_DIFFERS = "file|kernels|threads"
FEW_TURNS = {"EDGEVEC_TEST_REPEATS": "2"}

# The self-test of all kernels, the bytes of files, answers against plain loops, power that goes while a file is saved.
# What runs without an emulator also has every kernel tested by itself, and every call beside every other.
PORTABLE = "portable|power|lock"
PORTABLE_AND_MORE = f"{PORTABLE}|file|kernels|threads|visited|faults"

VARIANTS = {
    # The installed library with its header and pkg-config file: what a program in C sees.
    "installed": Variant({}, tools=("cc", "pkg-config")),
    "release": Variant({"CMAKE_BUILD_TYPE": "Release"}),
    "asan": Variant({"CMAKE_BUILD_TYPE": "Debug", "EDGEVEC_SANITIZE": "address,undefined"}),
    "tsan": Variant(
        {"CMAKE_BUILD_TYPE": "Debug", "EDGEVEC_SANITIZE": "thread"},
        tests="threads|lock|limit",
        environment={"EDGEVEC_TEST_REPEATS": "4"},  # a third as often: it takes minutes
    ),
    # An x86 CPU from before AVX: nothing that runs there may have been compiled for a newer one.
    "nehalem": Variant(
        cross("x86_64", "qemu-x86_64;-cpu;Nehalem", compiler="x86_64-linux-gnu-gcc"),
        tools=("x86_64-linux-gnu-gcc", "qemu-x86_64"),
        tests=WHERE_ISA_MATTERS,
    ),
    "neon": Variant(
        cross("aarch64", "qemu-aarch64;-L;/usr/aarch64-linux-gnu", compiler="aarch64-linux-gnu-gcc"),
        tools=("aarch64-linux-gnu-gcc", "qemu-aarch64"),
        tests=WHERE_MEMORY_DIFFERS,
        environment={"EDGEVEC_TEST_REPEATS": "1"},
    ),
    "musl": port("x86_64", "", "musl-gcc", tests=PORTABLE_AND_MORE),
    # The oldest floating point of x86 rounds to 80 bits, which no other machine does.
    "i686": port("i686", "", "i686-linux-gnu-gcc", tests=PORTABLE_AND_MORE, flags="-msse2 -mfpmath=sse"),
    "armhf": port("armv7", "qemu-arm", "arm-linux-gnueabihf-gcc", tests=f"{PORTABLE}|file"),
    "riscv64": port("riscv64", "qemu-riscv64", "riscv64-linux-gnu-gcc", tests=PORTABLE),
    "ppc64le": port("ppc64le", "qemu-ppc64le", "powerpc64le-linux-gnu-gcc", tests=PORTABLE),
    # Refused by the compiler, with a sentence that says why.
    "big-endian": Variant({}, tools=("s390x-linux-gnu-gcc",)),
    "windows": port("AMD64", "wine", "x86_64-w64-mingw32-gcc-posix", tests=PORTABLE_AND_MORE, system="Windows"),
}


def missing(variant: Variant) -> str:
    """Why this machine cannot run the variant; empty when it can."""
    tools = [tool for tool in variant.tools if shutil.which(tool) is None]
    return f"{', '.join(tools)} not installed" if tools else ""


def quietly(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run a command whose output is worth reading only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()


def run(build: Path, variant: Variant) -> None:
    defines = {"EDGEVEC_BUILD_TESTS": "ON", "CMAKE_COMPILE_WARNING_AS_ERROR": "ON", **variant.defines}
    quietly(
        "cmake", "-S", str(ROOT / "csrc"), "-B", str(build), *(f"-D{key}={value}" for key, value in defines.items())
    )
    wanted = [test.stem for test in sorted(ROOT.glob("tests/c/test_*.c")) if re.search(variant.tests, test.stem)]
    quietly("cmake", "--build", str(build), "--parallel", JOBS, "--target", *wanted)
    select = ["--tests-regex", variant.tests, "--no-tests=error", "--output-on-failure", "--parallel", JOBS]
    environment = {**os.environ, **variant.environment}
    if "wine" in variant.tools:
        environment |= {"WINEPREFIX": str(build / "wine"), "WINEDEBUG": "-all"}
        quietly("wine", "wineboot", "-i", environment=environment)
    subprocess.run(["ctest", "--test-dir", str(build), *select], env=environment, check=True)


def run_example(folder: Path) -> None:
    """Install the library as a packager would, and build and run the example on what was installed."""
    build, prefix, program = folder / "build", folder / "prefix", folder / "simple"
    quietly("cmake", "-S", str(ROOT / "csrc"), "-B", str(build), f"-DCMAKE_INSTALL_PREFIX={prefix}")
    quietly("cmake", "--build", str(build), "--parallel", JOBS)
    quietly("cmake", "--install", str(build))
    (description,) = prefix.rglob("edgevec.pc")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(description.parent)}
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "edgevec"], env=environment, text=True, capture_output=True, check=True
    ).stdout.split()
    quietly("cc", "-std=c11", "-Wall", "-Werror", "-o", str(program), str(EXAMPLE), *flags)
    said = subprocess.run([program], text=True, capture_output=True, check=True).stdout
    if said.split() != ["10", "0.0194", "40", "0.1679"]:
        print(said, file=sys.stderr)
        raise subprocess.CalledProcessError(1, EXAMPLE.name)


def refuse_big_endian() -> None:
    """Compile a file for a big-endian processor, which is to stop with a sentence that says why."""
    command = ["s390x-linux-gnu-gcc", "-fsyntax-only", f"-I{ROOT / 'csrc'}", str(ROOT / "csrc" / "file" / "save.c")]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode == 0 or "little-endian" not in done.stderr:
        print(done.stderr, file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)


def passes(name: str, folder: Path) -> bool:
    reason = missing(VARIANTS[name])
    print(f"== {name}{': skipped, ' + reason if reason else ''}", flush=True)
    if reason:
        return os.environ.get("CI") != "true"
    try:
        if name == "installed":
            run_example(folder / name)
        elif name == "big-endian":
            refuse_big_endian()
        else:
            run(folder / name, VARIANTS[name])
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return False
    return True


def main(folder: str, *names: str) -> int:
    failed = [name for name in names or VARIANTS if not passes(name, Path(folder))]
    print(f"failed: {', '.join(failed)}" if failed else "C: every variant that this machine can run passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
