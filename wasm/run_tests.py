"""Run the project's own tests inside Pyodide under Node: `python wasm/run_tests.py [--pyodide VERSION ...] [TEST ...]`.

A test is named as for pytest: tests/collection/test_where.py. Without any the whole suite is run, and the count of
tests that passed is kept, for each Pyodide, in tests-passed*.txt. A run with fewer fails; a run with more raises the
kept count, except where CI is set, so that a change of it shows up in review.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from build import built_wheel
from hosts.node import Job
from toolchain.cache import PROJECT, ToolchainError, say
from toolchain.cross_build import host_python
from toolchain.prepare import prepare_build, prepare_newer_tests, prepare_tests
from toolchain.runtime import PYODIDE, RUNTIME_SHA256, pure_folder, wheel_folder

# What tests read besides the installed package, which comes from the wheel.
SOURCES = ("pyproject.toml", "README.md", "tests", "csrc")
MAX_PROCESSES = 4


def run_tests(wheel: Path, version: str = PYODIDE, selection: Sequence[str] = ()) -> dict[str, int]:
    """Run the suite, or a selection of it, in a Pyodide, in as many processes as there are cores.

    Returns:
        How many tests came out how, over all processes, and pytest's exit code as "exit".
    """
    job = Job(version)
    # pytest wants a newer packaging than the runtime's.
    job.add_wheels([*sorted(wheel_folder(version).glob("*.whl")), *sorted(pure_folder().glob("*.whl")), wheel])
    with tempfile.TemporaryDirectory() as scratch:
        sources, sample = Path(scratch, "sources.tar"), Path(scratch, "sample.tar")
        _pack(sources, PROJECT, SOURCES)
        _pack(sample, PROJECT / "sample", ["edgevec_sample"])
        job.add_archive(sources, "tar", "/project")
        job.add_archive(sample, "tar", job.site_packages)
        selected = Path(scratch, "selection.json")
        selected.write_text(json.dumps(list(selection)))
        job.add_file(selected, "/selection.json")
        claims = Path(scratch, "claims")
        claims.mkdir()
        job.mount(claims, "/claims")
        count = processes()
        with ThreadPoolExecutor(count) as pool:
            labels = [f"[{number}] " if count > 1 else "" for number in range(1, count + 1)]
            return add_up(list(pool.map(lambda label: job.run("suite.py", label), labels)))


def processes() -> int:
    """One a core; each takes about 0.6 GB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_PROCESSES)


def add_up(shares: list[dict[str, int]]) -> dict[str, int]:
    """The outcomes of the whole run. Every process deselects the same tests, and runs others than the rest."""
    whole = Counter[str]()
    for share in shares:
        whole.update(share)
    return dict(whole) | {
        "exit": max(share["exit"] for share in shares),
        "deselected": max(share.get("deselected", 0) for share in shares),
    }


def floor_of(version: str) -> Path:
    name = "tests-passed.txt" if version == PYODIDE else f"tests-passed-{version}.txt"
    return PROJECT / "wasm" / name


def told(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "exit")


def judge(outcomes: dict[str, int], version: str, floor: Path) -> int:
    """The exit code of a run: pytest's, or 1 when fewer tests passed than before."""
    passed, before = outcomes.get("passed", 0), int(floor.read_text()) if floor.exists() else 0
    say(f"in Pyodide {version}: {told(outcomes)}; at least {before} must pass")
    if outcomes["exit"]:
        return outcomes["exit"]
    if passed < before:
        say(f"fewer tests passed than before; where that is meant, write {passed} to {floor}")
        return 1
    if passed > before and not os.environ.get("CI"):
        floor.write_text(f"{passed}\n")
        say(f"{floor}: raised to {passed}")
    return 0


def _pack(archive: Path, folder: Path, names: list[str] | tuple[str, ...]) -> None:
    with tarfile.open(archive, "w") as packed:
        for name in names:
            packed.add(folder / name, arcname=name, filter=_without_caches)


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(member.name).name.startswith(("__pycache__", ".")) else member


def prepare_and_run(version: str, selection: Sequence[str], *, official: bool) -> int:
    if version == PYODIDE:
        python, root = prepare_build(official=False)
        prepare_tests(python, root, official=official)
    else:
        prepare_newer_tests(version, host_python(), official=official)
    outcomes = run_tests(built_wheel(version), version, selection)
    if selection:
        say(f"in Pyodide {version}, of {' '.join(selection)}: {told(outcomes)}")
        return outcomes["exit"]
    return judge(outcomes, version, floor_of(version))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--pyodide", nargs="+", default=[PYODIDE], choices=RUNTIME_SHA256, metavar="VERSION")
    parser.add_argument("--official", action="store_true", help="NumPy and cffi from Pyodide's CDN")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="files or tests to run; none: all")
    arguments = parser.parse_args()
    try:
        chosen = arguments.tests
        return max(prepare_and_run(version, chosen, official=arguments.official) for version in arguments.pyodide)
    except ToolchainError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
