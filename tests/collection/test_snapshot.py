"""The graph's file may be old, torn, foreign or missing: every answer is right, and the log says why."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_file import HEADER, IndexFile
from oracle import Rows, unit

import edgevec
from edgevec.collection import Collection

N, DIM = 300, 8


class Case:
    """A collection of N records whose snapshot holds the first two thirds, closed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / f"{seed}.edgevec"
        self.graph = Path(f"{self.path}-graph")
        self.older = folder / f"{seed}.older"
        self.vectors: Rows = np.random.default_rng(seed).standard_normal((N, DIM)).astype(np.float32)
        with edgevec.open(self.path, quantization="sq8") as made:
            self.write(made, 0, N // 3)
            made.checkpoint()
            shutil.copy(self.graph, self.older)
            self.write(made, N // 3, 2 * N // 3)
            made.checkpoint()
            self.write(made, 2 * N // 3, N)
        self.data = self.graph.read_bytes()

    def write(self, made: Collection, start: int, stop: int) -> None:
        made.upsert(range(start, stop), self.vectors[start:stop])
        if start:  # and some of what was there goes, or changes
            made.delete([start - 1])
            self.vectors[start - 2] = -self.vectors[start - 2]
            made.upsert([start - 2], self.vectors[start - 2])

    @property
    def ids(self) -> list[int]:
        return [id for id in range(N) if id not in (N // 3 - 1, 2 * N // 3 - 1)]

    def verify(self, made: Collection) -> None:
        assert [record.id for record in made] == self.ids
        assert made.check().ok
        for query in self.vectors[::29]:
            similarity = unit(self.vectors[self.ids]) @ unit(query)
            nearest = [self.ids[at] for at in np.argsort(-similarity)[:5]]
            assert [hit.id for hit in made.search(query, 5, ef=N)] == nearest


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("snapshot"), 1)


@pytest.fixture
def case(original: Case) -> Iterator[Case]:
    """Put back as it was after each test."""
    database = original.path.read_bytes()
    yield original
    original.path.write_bytes(database)
    original.graph.write_bytes(original.data)


def torn(case: Case) -> dict[str, bytes]:
    """By name: the file cut at every boundary and beside it, and with each part zeroed."""
    data, zeros = case.data, bytes(len(case.data))
    parts = [
        ("header", 0, HEADER.itemsize),
        *((name, at, size) for name, at, size, *_ in IndexFile(data).table() if size),
    ]
    damaged = {"empty": b"", "one byte": data[:1], "all zero": zeros, "longer": data + b"\0"}
    for name, at, size in parts:
        damaged[f"cut before {name}"] = data[:at]
        damaged[f"cut within {name}"] = data[: at + size // 2]
        damaged[f"cut before the end of {name}"] = data[: at + size - 1]
        damaged[f"{name} zeroed"] = data[:at] + zeros[:size] + data[at + size :]
        damaged[f"{name} zeroed from its middle on"] = data[: at + size // 2] + zeros[at + size // 2 :]
        flipped = bytearray(data)
        flipped[at + size // 2] ^= 1
        damaged[f"a bit of {name}"] = bytes(flipped)
    return {name: content for name, content in damaged.items() if content != data}


def test_a_damaged_snapshot_is_rebuilt(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in torn(case).items():
        case.graph.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "edgevec"), edgevec.open(case.path) as made:
            assert made.count() == len(case.ids), name
            assert "the graph is built from the records; its snapshot cannot be used" in caplog.text, name
            if name.endswith("vectors"):
                case.verify(made)


def replaced_by(file: Callable[[Case], Path | None]) -> Callable[[Case], None]:
    def replace(case: Case) -> None:
        case.graph.unlink()
        source = file(case)
        if source is not None:
            shutil.copy(source, case.graph)

    return replace


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replaced_by(lambda case: None), "there is none"),
        (replaced_by(lambda case: case.older), "older than the last checkpoint"),
        (replaced_by(lambda case: Case(case.path.parent, 2).graph), "another collection"),
        (replaced_by(lambda case: case.path), "damaged"),
        (
            lambda case: (case.graph.unlink(), case.graph.mkdir()),
            "directory" if sys.platform != "win32" else "Permission denied",
        ),
    ],
    ids=["missing", "older", "of another collection", "no graph at all", "a folder"],
)
def test_what_is_not_a_snapshot_is_not_used(
    case: Case, change: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(case)
    seen: list[tuple[int, int]] = []
    try:
        with caplog.at_level(logging.WARNING, "edgevec"):
            made = edgevec.open(case.path, progress=lambda done, total: seen.append((done, total)))
        assert reason in caplog.text
        assert seen[-1] == (len(case.ids), len(case.ids))
        case.verify(made)
        made.close()
    finally:
        if case.graph.is_dir():
            case.graph.rmdir()


def test_a_good_snapshot_is_caught_up_with(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO, "edgevec"):
        made = edgevec.open(case.path, progress=lambda done, total: seen.append((done, total)))
    assert caplog.text == ""
    assert seen[-1] == (N // 3 + 2, N // 3 + 2)
    case.verify(made)
    made.close()


@pytest.mark.skipif(sys.platform == "emscripten", reason="a page that crashes has lost its files anyway")
@pytest.mark.filterwarnings("ignore:unclosed collection")
def test_a_crash_between_the_steps_of_a_checkpoint(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever steps were made, the next opening finds a graph that it knows."""
    from edgevec.collection import changes, snapshot

    class Crash(Exception):
        pass

    def crash(*arguments: Any) -> None:
        raise Crash

    steps: list[tuple[Any, str]] = [
        (changes, "register"),
        (snapshot.os, "replace"),
        (snapshot, "_flush_folder"),
        (changes, "truncate"),
    ]
    for module, step in steps:
        made = edgevec.open(case.path)
        with monkeypatch.context() as patch:
            patch.setattr(module, step, crash)
            with pytest.raises(Crash):
                made.checkpoint()
        del made  # without closing
        with edgevec.open(case.path, progress=fail_from_the_start) as made:
            case.verify(made)


def fail_from_the_start(done: int, total: int) -> None:
    assert total <= N // 3 + 2


def test_a_repair_puts_right_what_check_finds(case: Case) -> None:
    """What is wrong in the graph, the texts or the snapshot is found, and put right when asked."""
    with edgevec.open(case.path) as made:
        index = made._store.graph.index
        assert index is not None
        index.remove([5, 6])
        index.add(np.ones((2, DIM), np.float32), [10_000, 20])
        made._store.database.main.execute("INSERT INTO texts(rowid, document) VALUES (5, 'nobody said this')")
        report = made.check()
        assert (report.missing, report.extra, report.stale, report.ok, report.repaired) == (2, 1, 1, False, False)
        assert "full-text" in report.problems[0]
        assert made.check() == report
        report = made.check(repair=True)
        assert (report.missing, report.extra, report.stale, report.ok, report.repaired) == (0, 0, 0, True, True)
        assert made.search(text="nobody") == []
        case.verify(made)
    with edgevec.open(case.path) as made:
        case.verify(made)


@pytest.mark.filterwarnings("ignore:unclosed collection")
def test_snapshots_are_written_automatically(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "many.edgevec"
    made = edgevec.open(path, M=4, ef_construction=10)
    made.upsert(range(30_000), rng.standard_normal((30_000, 2)))
    assert Path(f"{path}-graph").exists()
    assert made.stats()["changes_since_snapshot"] == 0
    del made
    seen: list[int] = []
    with edgevec.open(path, progress=lambda done, total: seen.append(total)) as made:
        assert seen == []
        assert len(made) == 30_000
