"""Fuzz the targets of python_targets.py with atheris: python fuzz_python.py SECONDS [target ...]

Each target runs so long in a process of its own, two or more at a time, from its seeds in `seeds/python`, and is led
by what its bytes reach of edgevec's Python and of the Python that it calls. What breaks a promise, takes 20 seconds or
2 GB is left in the folder that is named at the end. edgevec is installed from a wheel: what editable installations load
is not followed. Without atheris the run fails where CI=true, and elsewhere is skipped with a line that says so.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds" / "python"
HELPERS = Path(__file__).parents[1] / "helpers"
LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1")
FOLLOWED = ["python_targets", "edgevec", "zipfile", "gzip", "numpy.lib"]


def fuzz(name: str, arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=FOLLOWED):
        from python_targets import TARGETS
    target = TARGETS[name]

    def one(data: bytes) -> None:
        target(bytes(data))

    atheris.Setup([name, *arguments], one)
    atheris.Fuzz()


def run(name: str, seconds: int, folder: Path) -> bool:
    """Whether the target came through; a line of what was tried."""
    corpus = folder / "corpus" / name
    corpus.mkdir(parents=True)
    seeds = [str(SEEDS / name)] if (SEEDS / name).is_dir() else []
    found = folder / "found"
    command = [sys.executable, __file__, "--one", name, *LIMITS, f"-max_total_time={seconds}"]
    command += [f"-artifact_prefix={found}/{name}-", str(corpus), *seeds]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    memory = re.search(r"stat::peak_rss_mb:\s*(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+) ft: (\d+)", done.stdout)
    edges, features = covered[-1] if covered else ("0", "0")
    tried = f"{int(executed[1]) if executed else 0:,} executions, {int(edges):,} edges, {int(features):,} features"
    ended = "" if done.returncode == 0 else ", FAILED"
    print(f"{name}: {tried}, at most {memory[1] if memory else '?'} MB{ended}", flush=True)
    if done.returncode:
        print(done.stdout[-6000:], flush=True)
    return done.returncode == 0


def main(seconds: int, names: list[str]) -> int:
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed")
        return int(os.environ.get("CI") == "true")
    from python_targets import TARGETS

    folder = Path(tempfile.mkdtemp(prefix="edgevec-fuzz-"))
    (folder / "found").mkdir()
    chosen = names or list(TARGETS)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as runs:
        passed = list(runs.map(lambda name: run(name, seconds, folder), chosen))
    failed = [name for name, good in zip(chosen, passed, strict=True) if not good]
    print(f"failed: {', '.join(failed)}; their bytes are in {folder / 'found'}" if failed else "nothing was found")
    return bool(failed)


if __name__ == "__main__":
    sys.path.append(str(HELPERS))
    if sys.argv[1] == "--one":
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
