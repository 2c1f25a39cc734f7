"""Fuzz the targets in C with libFuzzer, each from its seeds: python run.py BUILD_FOLDER [SECONDS [target ...]]

SECONDS are for each target, 20 without; two or more of them run at a time. What is found is written to BUILD_FOLDER and
ends the run; so does a missing clang, where CI=true, and elsewhere the run is skipped with a line that says so.

    python run.py BUILD_FOLDER coverage [target ...]

compiles the targets with clang's source coverage, runs the seeds and what earlier runs with this folder have added to
them, and prints which part of the core they reach, by file. It needs llvm-profdata and llvm-cov beside clang.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
TARGETS = ("load", "filter", "calls")
LONGEST_INPUT = 6000
CPUS = min(os.cpu_count() or 1, 4)


def build(folder: Path, **settings: str) -> None:
    settings = {"EDGEVEC_BUILD_FUZZERS": "ON", "CMAKE_BUILD_TYPE": "Debug", "CMAKE_C_COMPILER": "clang", **settings}
    options = [f"-D{key}={value}" for key, value in settings.items()]
    subprocess.run(["cmake", "-S", str(CSRC), "-B", str(folder), *options], check=True)
    subprocess.run(["cmake", "--build", str(folder), "--parallel", str(CPUS)], check=True)


def inputs(folder: Path, target: str) -> list[Path]:
    """Folders: of new inputs that reach new code, which are kept, and of the seeds."""
    corpus = folder / f"corpus-{target}"
    corpus.mkdir(exist_ok=True)
    return [corpus, HERE / "seeds" / target]


def fuzz(folder: Path, target: str, seconds: int) -> bool:
    """True when nothing was found; a line of what was tried."""
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=20", "-rss_limit_mb=2000"]
    command = [folder / f"fuzz_{target}", *limits, "-print_final_stats=1", *inputs(folder, target)]
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    log = folder / f"{target}.log"
    with log.open("wb") as file:
        code = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    said = log.read_text(errors="replace")
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    edges = re.findall(r"cov: (\d+)", said) or ["0"]
    print(f"{target}: {int(executed[1]) if executed else 0:,} executions, {int(edges[-1]):,} edges", flush=True)
    if code:
        print(said[-6000:], flush=True)
    return code == 0


def coverage(folder: Path, targets: tuple[str, ...]) -> None:
    """Print the report of llvm-cov."""
    built = folder / "coverage"
    build(built, CMAKE_C_FLAGS="-fprofile-instr-generate -fcoverage-mapping")
    profiles, programs = [], []
    for target in targets:
        profiles.append(built / f"{target}.profraw")
        programs.append(built / f"fuzz_{target}")
        command = [programs[-1], "-runs=0", f"-max_len={LONGEST_INPUT}", *inputs(folder, target)]
        environment = {**os.environ, "LLVM_PROFILE_FILE": str(profiles[-1])}
        subprocess.run(command, cwd=built, env=environment, check=True, stderr=subprocess.DEVNULL)
    merged = built / "merged.profdata"
    subprocess.run([_beside_clang("llvm-profdata"), "merge", "-o", merged, *profiles], check=True)
    objects = [option for program in programs[1:] for option in ("-object", program)]
    report = ["report", f"-instr-profile={merged}", "-ignore-filename-regex=tests/fuzz", "-show-branch-summary=false"]
    subprocess.run([_beside_clang("llvm-cov"), *report, programs[0], *objects], check=True)


def _beside_clang(program: str) -> str:
    return subprocess.run(
        ["clang", f"-print-prog-name={program}"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def main(folder: str, what: str = "20", *targets: str) -> int:
    if shutil.which("clang") is None:
        print("skipped: clang is not installed")
        return int(os.environ.get("CI") == "true")
    if what == "coverage":
        coverage(Path(folder), targets or TARGETS)
        return 0
    build(Path(folder), EDGEVEC_SANITIZE="address,undefined")
    chosen = targets or TARGETS
    with ThreadPoolExecutor(CPUS) as runs:
        passed = list(runs.map(lambda target: fuzz(Path(folder), target, int(what)), chosen))
    failed = [target for target, good in zip(chosen, passed, strict=True) if not good]
    print(f"failed: {', '.join(failed)}; see {folder}" if failed else "nothing found")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
