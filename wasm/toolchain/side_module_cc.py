"""A C and C++ compiler for Pyodide's extension modules: `python side_module_cc.py SYSROOT COMPILER LINKER ARGUMENT...`

Does what Emscripten's emcc does for a module that a runtime loads, with Clang and LLD alone: no JavaScript is made, so
asking whether a function exists, as build systems do hundreds of times, takes milliseconds. SYSROOT holds Emscripten's
headers and libraries. Exceptions are WebAssembly's, in the form that Pyodide has used since 0.28.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = ["--target=wasm32-unknown-emscripten", "-DEMSCRIPTEN", "-fPIC", "-fwasm-exceptions"]
# As emcc has it; the last two lines say where calls of setjmp go, and where headers lie that emcc puts before others.
COMPILE = [
    *TARGET,
    "-Werror=implicit-function-declaration",
    "-Wno-unused-command-line-argument",
    *("-mllvm", "-combiner-global-alias-analysis=false", "-mllvm", "-disable-lsr"),
    *("-mllvm", "-wasm-enable-sjlj"),
    *("-Xclang", "-iwithsysroot/include/fakesdl", "-Xclang", "-iwithsysroot/include/compat"),
]
SHARED = [
    *("-shared", "--experimental-pic", "--unresolved-symbols=import-dynamic", "--import-memory", "--import-table"),
    *("--strip-debug", "--export-if-defined=__wasm_apply_data_relocs", "--export=__wasm_call_ctors"),
]
LIBRARIES = ("c-debug", "dlmalloc", "compiler_rt-wasm-sjlj", "c++-except", "c++abi-debug-except", "unwind-except")
# Libraries that are part of libc, or empty; others, such as a BLAS of this machine's, are not to be found.
PARTS_OF_LIBC = {"-lc", "-ldl", "-lm", "-lpthread", "-lrt", "-lutil"}
# What libc calls and only JavaScript provides.
JAVASCRIPT = "emscripten_notify_memory_growth\n"


def main(sysroot: str, compiler: str, linker: str, *arguments: str) -> int:
    if "--version" in arguments:  # build systems tell compilers by this line
        print("emcc (Emscripten gcc/clang-like replacement + linker emulating GNU ld) 3.1.69")
        return 0
    # emcc's own settings, such as -sSIDE_MODULE, are no business of Clang's.
    words = [word for word in arguments if not (word.startswith("-s") and word[2:3].isupper())]
    compile_command = [compiler, *COMPILE, f"--sysroot={sysroot}"]
    if compiler.startswith("clang++"):
        compile_command += ["-isystem", f"{sysroot}/include/c++/v1"]
    if {"-c", "-E", "-S"} & set(words):
        return run([*compile_command, *words])
    output = words[words.index("-o") + 1] if "-o" in words else "a.out"
    objects = [word for word in words if word.endswith((".o", ".a"))]
    if "-shared" in words:
        return run([linker, *SHARED, f"--export=PyInit_{Path(output).name.partition('.')[0]}", *objects, "-o", output])
    return link_program(compile_command, linker, sysroot, words, objects, output)


def link_program(
    compile_command: list[str], linker: str, sysroot: str, words: list[str], objects: list[str], output: str
) -> int:
    """Whether a program links says which functions and libraries there are; it is never run."""
    for word in words:
        if word.startswith("-l") and word not in PARTS_OF_LIBC:
            print(f"error: unable to find library {word}", file=sys.stderr)
            return 1
    with tempfile.TemporaryDirectory() as scratch:
        left_out = {output, "-o", *objects}
        kept = [word for word in words if word not in left_out and not word.startswith(("-l", "-L", "-Wl,"))]
        if any(not word.startswith("-") for word in kept):
            objects = [*objects, f"{scratch}/program.o"]
            if code := run([*compile_command, *kept, "-c", "-o", objects[-1]]):
                return code
        if "-o" not in words:  # what asks for the linker's name, say, wants no program
            output = f"{scratch}/{output}"
        allowed = Path(scratch, "javascript")
        allowed.write_text(JAVASCRIPT)
        libraries = [f"-L{sysroot}/lib/wasm32-emscripten", *(f"-l{name}" for name in LIBRARIES)]
        options = [f"--allow-undefined-file={allowed}", "--no-entry", "--export-if-defined=main"]
        return run([linker, *objects, *libraries, *options, "-o", output])


def run(command: list[str]) -> int:
    return subprocess.run(command, env={**os.environ, "CCACHE_DISABLE": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
