"""Build the fuzz targets in C with clang, and run each on its seeds: python run.py BUILD_FOLDER [seconds] [target ...]

Without seconds: 60 for each. What is found is written to BUILD_FOLDER and ends the run; so does a missing clang, where
CI=true, and elsewhere the run is skipped with a line that says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ("load", "filter", "calls")
LONGEST_INPUT = 6000


def build(folder: Path) -> None:
    defines = {"EDGEVEC_BUILD_FUZZERS": "ON", "CMAKE_BUILD_TYPE": "Debug", "EDGEVEC_SANITIZE": "address,undefined"}
    options = [f"-D{key}={value}" for key, value in {**defines, "CMAKE_C_COMPILER": "clang"}.items()]
    subprocess.run(["cmake", "-S", str(HERE.parents[1] / "csrc"), "-B", str(folder), *options], check=True)
    subprocess.run(["cmake", "--build", str(folder), "--parallel", str(min(os.cpu_count() or 1, 4))], check=True)


def fuzz(folder: Path, target: str, seconds: int) -> bool:
    """True when nothing was found. New inputs that reach new code are kept in the build folder."""
    corpus = folder / f"corpus-{target}"
    corpus.mkdir(exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=20", "-rss_limit_mb=2000"]
    command = [folder / f"fuzz_{target}", *limits, "-print_final_stats=1", corpus, HERE / "seeds" / target]
    print(f"== {target}", flush=True)
    return (
        subprocess.run(command, cwd=folder, env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}).returncode == 0
    )


def main(folder: str, seconds: str = "60", *targets: str) -> int:
    if shutil.which("clang") is None:
        print("skipped: clang is not installed")
        return int(os.environ.get("CI") == "true")
    build(Path(folder))
    failed = [target for target in targets or TARGETS if not fuzz(Path(folder), target, int(seconds))]
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
