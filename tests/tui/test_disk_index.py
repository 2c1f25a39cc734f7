"""The app over an index whose graph lies on disk too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pilot import error_of, idle, running, shown, until
from textual.widgets import Button, Input

import edgevec
from edgevec.tui import query_set
from edgevec.tui.backends import bundle
from edgevec.tui.backends.base import Opened
from edgevec.tui.backends.open import open_file
from edgevec.tui.models import Queries, QuerySpec, Reads
from edgevec.tui.screens import data as data_screen
from edgevec.tui.screens import search as search_screen
from edgevec.tui.screens.data import DataScreen
from edgevec.tui.widgets.controls import Number

ROWS = np.random.default_rng(6).standard_normal((600, 12)).astype(np.float32)
IDS = np.arange(600) * 3 + 2**40
NEAR = np.argsort(((ROWS - ROWS[9]) ** 2).sum(1), kind="stable")


@pytest.fixture
def on_disk(folder: Path) -> Path:
    path = folder / "items.evd"
    with edgevec.Index(12, "l2", M=8, quantization="none") as index:
        index.add(ROWS, IDS)
        edgevec.DiskIndex.write(index, path)
    return path


def opened(path: Path) -> Opened:
    found = open_file(path, None, lambda done, total: True, time.perf_counter)
    assert found is not None
    return found


def test_it_answers_as_the_index_does(on_disk: Path, tmp_path: Path) -> None:
    data, backend = opened(on_disk)
    assert backend is not None
    assert (len(backend), backend.dim, backend.settings.metric) == (600, 12, "l2")
    assert data.ids.tolist() == backend.ids().tolist() == IDS.tolist()
    np.testing.assert_array_equal(backend.vector(int(IDS[9])), ROWS[9])
    exact = backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=None, exact=True)
    assert exact.ids.tolist() == IDS[NEAR[:5]].tolist()
    answer = backend.search(QuerySpec(ROWS[9]), 5, ef=600, filter_result=None, exact=False)
    assert answer.ids.tolist() == exact.ids.tolist()
    assert answer.cost.strategy == "graph"
    with edgevec.DiskIndex(on_disk) as index:  # what the same search counts there
        index.search(ROWS[9], 5, ef=600)
        counted = index.stats()
    assert answer.cost.read == Reads(1, counted["reads"], counted["bytes_read"], counted["estimates"])
    assert (exact.cost.strategy, exact.cost.read.estimates) == ("exact", 0)
    few = backend.filter(f"id < {IDS[4]}", data)
    assert backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=few, exact=False).cost.strategy == "exact"
    assert backend.memory()["on_disk"] == on_disk.stat().st_size > backend.memory()["total"]
    health = backend.health()
    assert (health.ok, health.lines[0].split(",")[0]) == (True, "600 nodes")
    only = backend.filter(f"id < {IDS[100]}", data)
    low = NEAR[NEAR < 100][:5]
    answer = backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=only, exact=False)
    assert answer.ids.tolist() == IDS[low].tolist()
    ids, _, seconds = backend.thread_search(only)(ROWS[9:11], 5, 50)
    assert (np.asarray(ids[0]).tolist(), seconds) == (IDS[low].tolist(), None)
    bundle.write_queries(tmp_path, Queries(ROWS[:4], IDS[NEAR[None, :5]], np.zeros((1, 5)), np.array([-1]), "", "l2"))
    backend.write_bundle(tmp_path, only)
    assert bundle.open_backend(tmp_path).search(ROWS[9:10], 5, ef=500).ids.tolist() == [IDS[low].tolist()]
    backend.close()


async def test_it_is_searched_and_checked_and_nothing_is_built_or_saved(on_disk: Path) -> None:
    with edgevec.Index(12, "l2", M=8) as index:
        index.add(ROWS)
        index.save(on_disk.with_name("items.ev"))
    async with running(on_disk) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await until(pilot, lambda: app.screen._answer is not None, "the first answer")
        app.screen.query_one("#query", Input).value = f"id:{IDS[9]}"
        await until(pilot, lambda: app.screen._answer.ids[0] == IDS[9] and app.screen._compared, "an answer")
        assert app.screen._recall == 1.0
        assert "graph on disk" in shown(app)
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data" and idle(app), "the data screen")
        await until(pilot, lambda: "sound, 600 nodes" in shown(app), "the check")
        assert "vectors, links and 1-bit codes on disk" in shown(app)
        screen = app.screen
        assert isinstance(screen, DataScreen)
        for name in ("#M", "#ef_construction"):
            assert not screen.query_one(name, Number).display
        for name in ("#save", "#save-as", "#build"):
            assert screen.query_one(name, Button).disabled
        screen.action_build()
        await pilot.pause()
        assert app.session.current is not None
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        latency = app.screen
        await pilot.press("space")
        await until(pilot, lambda: latency.metrics.totals() is not None, "measured searches")
        latency.action_stop()
        app.open_file(on_disk.with_name("items.ev"))
        await until(pilot, lambda: app.session.quantizations() == ["sq8"] and idle(app), "another index")
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data" and idle(app), "the data screen")
        assert screen.query_one("#M", Number).display
        assert screen.query_one("#M", Number).value == 8


async def test_it_is_measured_with_other_settings_of_ef(on_disk: Path) -> None:
    async with running(on_disk) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search" and idle(app), "the search screen")
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "compare" and idle(app), "the screen")
        screen = app.screen
        await pilot.press("r")
        await until(pilot, lambda: any(curve.points for curve in screen.curves.values()), "the first point")
        await until(pilot, lambda: not screen.running, "the end")
        (curve,) = screen.curves.values()
        assert max(point.recall for point in curve.points) > 0.99
        assert curve.name == "all"


def test_a_damaged_or_empty_one_is_named(on_disk: Path) -> None:
    on_disk.write_bytes(on_disk.read_bytes()[:5000])
    with pytest.raises(edgevec.CorruptIndexError, match=r"items\.evd"):
        opened(on_disk)
    on_disk.write_bytes(b"")
    with pytest.raises(edgevec.CorruptIndexError, match=r"items\.evd"):
        opened(on_disk)


def test_what_others_read_meanwhile_is_not_taken_for_ones_own(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, backend = opened(on_disk)
    search = edgevec.DiskIndex.search

    def beside(index: edgevec.DiskIndex, *args: Any, **named: Any) -> edgevec.SearchResult:
        search(index, ROWS[0], 5)
        return search(index, *args, **named)

    monkeypatch.setattr(edgevec.DiskIndex, "search", beside)
    assert backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=None, exact=False).cost.read is None


async def test_a_large_file_is_not_read_as_a_whole_unasked(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_screen, "ASKED_FIRST", 1000)
    monkeypatch.setattr(search_screen, "ASKED_FIRST", 1000)
    monkeypatch.setattr(query_set, "_MOST_READ", 30 * on_disk.stat().st_size)
    async with running(on_disk) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search" and app.screen._compared, "the search screen")
        backend = app.session.backend
        assert backend.reads().bytes < on_disk.stat().st_size
        assert app.screen._recall is None
        assert "l2 · graph on disk" in shown(app)
        await pilot.press("f2")
        await until(pilot, lambda: "not checked: c does" in shown(app), "the data screen")
        assert "health" in shown(app)
        await pilot.press("c")
        await until(pilot, lambda: "sound, 600 nodes" in shown(app), "the check")
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        assert not app.screen.query_one("#quantization").display
        await pilot.press("space")
        await until(pilot, lambda: "reads a query, " in shown(app), "what a query reads")
        assert "whole search" in shown(app)
        assert "Python included" not in shown(app)
        app.screen.action_stop()
        (queries,) = app.session.queries.values()
        assert len(queries.vectors) == 30


async def test_a_check_that_finds_damage_says_where_and_one_that_fails_is_over(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(on_disk.read_bytes())
    content[len(content) // 2] ^= 255
    on_disk.write_bytes(content)
    async with running(on_disk, size=(160, 40)) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search" and idle(app), "the search screen")
        await pilot.press("f2")
        await until(pilot, lambda: "✗ not sound" in shown(app), "what is damaged")

        def refused() -> dict[str, int]:
            raise edgevec.StorageError("the disk is gone")

        monkeypatch.setattr(app.session.backend, "health", refused)
        await pilot.press("c")
        await until(pilot, lambda: error_of(app), "the message")
        await pilot.press("escape")
        await until(pilot, lambda: "could not be checked" in shown(app), "the end of the check")
