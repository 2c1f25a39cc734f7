"""A collection held to a limit: what would pass it stores nothing, and records and graph stay in step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import contents
from support import SANITIZED

import edgevec
from edgevec import MemoryLimitError, ParameterError

pytestmark = pytest.mark.core

DIM, MB = 32, 1_000_000


def vectors(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((n, DIM), np.float32)


def fill(made: edgevec.Collection, step: int) -> int:
    """Store records until a write is refused; how many were stored."""
    stored = 0
    while stored < 20_000:
        try:
            made.upsert(range(stored, stored + step), vectors(step, stored), [{"n": n} for n in range(step)])
        except MemoryLimitError:
            return stored
        stored += step
    raise AssertionError("nothing was refused")


def write_two(made: edgevec.Collection) -> None:
    with made.batch():
        made.upsert(["new"], vectors(1))
        made.upsert(range(9000), vectors(9000))


def replace_and_search(made: edgevec.Collection) -> None:
    with made.batch():
        made.upsert([0, 1], vectors(2, 99))
        assert made.search(vectors(2, 99)[1], k=1)[0].id == 1
        made.upsert(range(20_000), vectors(20_000))
        made.search(vectors(1)[0], k=1)


@pytest.mark.parametrize("where", ["file", ":memory:"])
@pytest.mark.parametrize("step", [40, 500])
def test_a_write_beyond_the_limit_stores_nothing(step: int, where: str, tmp_path: Path) -> None:
    path = where if where == ":memory:" else tmp_path / "a"
    with edgevec.open(path, dim=DIM, memory_limit=2 * MB) as made:
        stored = fill(made, step)
        assert stored == made.count() > 0
        before = contents(made)
        assert made.stats()["memory_held"] <= made.memory_limit == 2 * MB
        with pytest.raises(MemoryLimitError):
            made.upsert(range(9000), vectors(9000))
        with pytest.raises(MemoryLimitError):
            write_two(made)
        assert contents(made) == before
        assert made.check().ok
        assert made.search(vectors(step)[3], k=1)[0].id == 3
        made.delete(range(stored // 2))
        made.memory_limit = None
        made.upsert(range(9000), vectors(9000))
        assert made.count() == 9000
        assert made.check().ok


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_replacing_inside_a_batch_that_was_searched(where: str, tmp_path: Path) -> None:
    """What the graph has taken in of the batch is taken back, however little room there is."""
    with edgevec.open(where if where == ":memory:" else tmp_path / "a", dim=DIM, memory_limit=2 * MB) as made:
        stored = fill(made, 200)
        before = contents(made)
        with pytest.raises(MemoryLimitError):
            replace_and_search(made)
        assert contents(made) == before
        assert made.count() == stored
        assert made.check().ok
        assert made.search(vectors(200)[1], k=1)[0].id == 1


def test_replacing_what_does_not_fit_builds_nothing_again(caplog: pytest.LogCaptureFixture) -> None:
    """The first run of vectors is refused, so there is nothing to take back."""
    with edgevec.open(":memory:", dim=DIM, memory_limit=2 * MB) as made:
        stored = fill(made, 200)
        with pytest.raises(MemoryLimitError):
            made.upsert(range(stored), vectors(stored, 99))
        assert made.search(vectors(200)[1], k=1)[0].id == 1
        assert made.check().ok
    assert "built again" not in caplog.text


@pytest.mark.parametrize("snapshot", [True, False])
def test_what_does_not_fit_is_not_opened(snapshot: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with edgevec.open(path, dim=DIM) as made:
        made.upsert(range(9000), vectors(9000))
    if not snapshot:
        os.remove(f"{path}-graph")
    with pytest.raises(MemoryLimitError, match=r"875.?000"):
        edgevec.open(path, memory_limit=MB)
    with edgevec.open(path, memory_limit=20 * MB) as made:
        assert made.count() == 9000
        assert made.stats()["memory_held"] <= 20 * MB
        assert made.check().ok


def test_the_limit_is_divided(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="condition_memory"):
        edgevec.open(tmp_path / "a", memory_limit=MB, condition_memory=MB)
    for wrong in (0, -1, 1.5, "1GB"):
        with pytest.raises(ParameterError, match="memory_limit"):
            edgevec.open(tmp_path / "a", memory_limit=wrong)
    assert not (tmp_path / "a").exists()
    with edgevec.open(tmp_path / "a", dim=DIM, memory_limit=8 * MB) as made:
        made.upsert(range(5000), vectors(5000), [{"n": n, "text": "word " * (n % 7)} for n in range(5000)])
        assert made.count("n >= 2500") == 2500
        assert 0 < made.stats()["condition_bytes"] <= MB
        with pytest.raises(ParameterError, match="leaves nothing"):
            made.memory_limit = 1000
        assert made.memory_limit == 8 * MB


@pytest.mark.threads
def test_a_reader_is_held_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with edgevec.open(path, dim=DIM) as made:
        made.upsert(range(2000), vectors(2000))
        made.checkpoint()
        with edgevec.open(path, mode="r", memory_limit=2 * MB) as reader:
            made.upsert(range(20_000), vectors(20_000))
            with pytest.raises(MemoryLimitError):
                reader.refresh()
            with pytest.raises(MemoryLimitError):  # it would answer with what is no longer so
                reader.search(vectors(1)[0], k=1)
            reader.memory_limit = None
            assert reader.search(vectors(20_000)[-1], k=1)[0].id == 19_999


IMPORT = """
import resource, sys
import edgevec
MB = 2**20
with edgevec.open(sys.argv[1], dim=256, M=4, ef_construction=8, memory_limit=28 * MB) as made:
    made.upsert([-5], [[1.0] * 256])
    made.search([1.0] * 256, k=1)
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + 28 * MB + int(sys.argv[3]) * MB
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    stored = made.import_from(sys.argv[2])
    assert made.count() == stored + 1
    assert made.stats()["memory_held"] <= 28 * MB
    try:
        made.import_from(sys.argv[2], id="other")
        raise AssertionError("twice as many fit")
    except edgevec.MemoryLimitError as error:
        assert "more are needed" in str(error)
    assert made.count() == stored + 1
    resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
    assert made.check().ok
"""


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform != "linux" or SANITIZED, reason="RLIMIT_AS: Linux, without a sanitizer's shadow")
def test_a_file_larger_than_the_limit_is_imported(tmp_path: Path) -> None:
    """And a file of which the graph would not fit leaves all as it was."""
    rows, margin = 15_000, 96
    some = np.random.default_rng(0).standard_normal((50, 256))
    texts = [json.dumps(row.tolist()) for row in some]
    with open(tmp_path / "rows.jsonl", "w", encoding="ascii") as file:
        for n in range(rows):
            file.write(f'{{"id": {n}, "other": {n + rows}, "vector": {texts[n % 50]}}}\n')
    assert (tmp_path / "rows.jsonl").stat().st_size > 70 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IMPORT), str(tmp_path / "a"), str(tmp_path / "rows.jsonl"), str(margin)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
