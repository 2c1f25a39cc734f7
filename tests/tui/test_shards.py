"""The app over an index of shards."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from pilot import error_of, idle, is_refused, running, shown, until
from textual.widgets import Button, DataTable, Input, Static

import edgevec
from edgevec import evaluation
from edgevec.tui.backends import bundle
from edgevec.tui.backends.base import SearchBackend
from edgevec.tui.backends.open import open_file
from edgevec.tui.models import Queries, QuerySpec
from edgevec.tui.widgets.controls import Choice, Number

ROWS = np.random.default_rng(5).standard_normal((700, 12)).astype(np.float32)


@pytest.fixture
def shards(folder: Path) -> Path:
    path = folder / "items"
    with edgevec.ShardedIndex.build(ROWS, path, rows_per_shard=300, metric="l2", M=8) as index:
        index.remove([3, 650])
    return path


def opened(path: Path) -> SearchBackend:
    found = open_file(path, None, lambda done, total: True, time.perf_counter)
    assert found is not None
    assert found.backend is not None
    return found.backend


def test_it_answers_as_the_shards_do(shards: Path, tmp_path: Path) -> None:
    near = np.argsort(((ROWS - ROWS[9]) ** 2).sum(1), kind="stable")
    near = near[~np.isin(near, [3, 650])]
    for path in (shards, shards / "manifest.json"):
        backend = opened(path)
        answer = backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=None, exact=True)
        assert answer.ids.tolist() == near[:5].tolist()
        assert (answer.cost.strategy, answer.cost.distances) == ("exact", 698)
        assert len(backend) == 698
        assert [(each.vectors, each.removed) for each in backend.parts()] == [(299, 1), (300, 0), (99, 1)]
        assert backend.health().ok
        assert backend.memory()["total"] > ROWS.nbytes
        only = backend.filter("id < 100", open_file(path, None, lambda *_: True, time.perf_counter).data)
        answer = backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=only, exact=True)
        assert answer.ids.tolist() == near[near < 100][:5].tolist()
        queries = Queries(ROWS[:4], near[None, :5], np.zeros((1, 5)), np.array([-1]), "", "l2")
        bundle.write_queries(tmp_path, queries)
        backend.write_bundle(tmp_path, only)
        measured = bundle.open_backend(tmp_path).search(ROWS[9:10], 5, ef=500)
        assert measured.ids.tolist() == [near[near < 100][:5].tolist()]
        backend.close()


async def test_its_shards_are_shown_and_nothing_is_built_or_saved(shards: Path) -> None:
    async with running(shards) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await until(pilot, lambda: app.screen._answer is not None, "the first answer")
        app.screen.query_one("#query", Input).value = "id:9"
        await until(pilot, lambda: app.screen._answer.ids[0] == 9 and app.screen._compared, "an answer")
        assert app.screen._recall == 1.0
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data" and idle(app), "the data screen")
        table = app.screen.query_one("#preview", DataTable)
        assert table.border_title == "3 shards"
        with edgevec.ShardedIndex.open(shards) as index:
            files = [each.file for each in index.shards]
        assert [str(table.get_row_at(row)[0]) for row in range(3)] == files
        assert [str(cell) for cell in table.get_row_at(0)[1:4]] == ["299", "1", "0..299"]
        await until(pilot, lambda: "sound, 3 shards" in shown(app), "the check")
        assert app.screen.query_one("#save", Button).disabled
        app.screen.action_save_as()
        app.screen.action_build()
        await pilot.pause()
        assert app.current_mode == "data"
        assert len(app.screen_stack) == 1  # no dialog


@pytest.fixture
def clustered(folder: Path) -> Path:
    """Shards of which a search can be asked of the nearest ones alone."""
    path = folder / "topics"
    edgevec.ShardedIndex.build(ROWS, path, rows_per_shard=150, metric="l2", M=8, cluster=True).close()
    return path


def test_the_shards_that_are_asked(clustered: Path, shards: Path) -> None:
    backend, plain = opened(clustered), opened(shards)
    with edgevec.ShardedIndex.open(clustered) as index:
        assert backend.most_probes == len(index.shards) > 3
        assert plain.most_probes == 0
        for nprobe in (None, 1, 3):
            answer = backend.search(QuerySpec(ROWS[9]), 5, ef=50, filter_result=None, exact=True, nprobe=nprobe)
            assert answer.ids.tolist() == index.search(ROWS[9], 5, exact=True, nprobe=nprobe).ids.tolist()
    assert answer.cost.distances < len(ROWS)  # of three shards
    backend.close()
    plain.close()


async def test_how_many_shards_are_asked_can_be_chosen(clustered: Path, shards: Path) -> None:
    with edgevec.ShardedIndex.open(clustered) as index:
        count = len(index.shards)
        few = {row: set(index.search(ROWS[row], 10, nprobe=1, exact=True).ids.tolist()) for row in range(40)}
        all_of = {row: set(index.search(ROWS[row], 10, exact=True).ids.tolist()) for row in range(40)}
    row = next(row for row in few if few[row] != all_of[row])
    lost = len(few[row] & all_of[row]) / 10
    async with running(clustered) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        screen = app.screen
        probes, exact = screen.query_one("#nprobe", Number), screen.query_one("#exact", Choice)

        async def found(ids: set[int], share: float) -> None:
            def shows() -> bool:
                answer = screen._answer
                return answer is not None and set(answer.ids.tolist()) == ids and screen._recall == share

            await until(pilot, shows, "these results")

        await until(pilot, lambda: probes.display, "the control")
        assert probes.value == count
        exact.step(1)
        screen.query_one("#query", Input).value = f"id:{row}"
        await found(all_of[row], 1.0)
        probes.focus()
        await pilot.press("1", "enter")
        await found(few[row], lost)  # exact, and yet not all: against the truth of all shards
        await pilot.press("right")
        assert probes.value == 2
        await pilot.press("9", "9", "9", "enter")
        assert probes.value == count
        await found(all_of[row], 1.0)
        assert f"nprobe ‹ {count} ›" in shown(app)
        await pilot.press("f12")
        assert "how many of them a query is asked of" in " ".join(
            str(part.render()) for part in app.screen.query(Static)
        ).replace("\n", " ")
    async with running(shards) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await until(pilot, lambda: app.screen._answer is not None, "the first answer")
        assert not app.screen.query_one("#nprobe").display


async def test_the_load_asks_as_many_shards_as_are_chosen(clustered: Path) -> None:
    with edgevec.ShardedIndex.open(clustered) as index:
        count = len(index.shards)
        all_of = {tuple(index.search(row, 10, ef=512).ids) for row in ROWS}
        few = {tuple(index.search(row, 10, ef=512, nprobe=1).ids) for row in ROWS}
    assert len(all_of & few) < len(ROWS)
    async with running(clustered) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        screen = app.screen
        probes = screen.query_one("#nprobe", Number)
        assert (probes.display, probes.value) == (True, count)
        await pilot.press("space")
        await until(pilot, lambda: screen.metrics.totals() is not None, "measured searches")
        assert screen._load().nprobe is None
        probes.focus()
        await pilot.press("1", "enter")
        load = screen.generator._load
        assert load is not None
        assert load.nprobe == 1
        search = load.backend.thread_search(None, load.nprobe)
        assert {tuple(search(row, 10, 512)[0]) for row in ROWS} == few
        assert "nprobe ‹ 1 ›" in shown(app)
        await pilot.press("s")


async def test_a_change_by_another_program_is_told(shards: Path) -> None:
    async with running(shards) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        with edgevec.ShardedIndex.open(shards) as index:
            index.add(ROWS[:2] + 9, ids=[9000, 9001])
        await until(pilot, lambda: app.session.changed is not None, "the notice")
        await pilot.press("f6")
        await until(pilot, lambda: app.session.rows == 700, "the new state")


async def test_a_missing_shard_is_an_error_that_names_it(shards: Path) -> None:
    with edgevec.ShardedIndex.open(shards) as index:
        lost = index.shards[1].file
    (shards / lost).unlink()
    await is_refused(shards, lost)


async def test_a_folder_without_a_manifest(folder: Path) -> None:
    (folder / "lots").mkdir()
    np.save(folder / "lots" / "found.npy", ROWS)
    async with running(folder / "lots", notifications=True) as (app, pilot):
        await until(pilot, lambda: "found.npy" in shown(app), "what is in it")
        await until(pilot, lambda: "lots is a folder without shards" in shown(app), "what to do")
        assert not error_of(app)
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "data", "the file")
        assert app.session.rows == 700


def test_recall_over_ef_is_measured(shards: Path, tmp_path: Path) -> None:
    backend = opened(shards)
    queries = ROWS[:50] + 0.1
    with edgevec.ShardedIndex.open(shards) as index:
        truth = index.search(queries, 5, exact=True)
    far = truth.distances.astype(np.float64)
    bundle.write_queries(tmp_path, Queries(queries, truth.ids, far, np.full(50, -1), "", "l2"))
    backend.write_bundle(tmp_path, None)
    held = bundle.read_queries(tmp_path, 5)
    points = list(
        evaluation.recall_curve(
            bundle.open_backend(tmp_path),
            held.vectors,
            held.truth,
            k=5,
            efs=[5, 300],
            true_distances=held.distances,
            distances_of=held.distances_of,
            metric="l2",
        )
    )
    assert points[-1].recall == 1.0


async def test_a_comparison_asks_as_many_shards_as_are_chosen(clustered: Path) -> None:
    with edgevec.ShardedIndex.open(clustered) as index:
        count = len(index.shards)
    async with running(clustered) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search" and idle(app), "the search screen")
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "compare", "the compare screen")
        screen = app.screen
        kind, probes = screen.query_one("#kind", Choice), screen.query_one("#nprobe", Number)
        assert (kind.value, probes.display) == ("nprobe", False)  # what differs has no one value
        await pilot.press("r")
        await until(pilot, lambda: len(screen.curves) > 2 and not screen.running, "the comparison")
        best = [max(point.recall for point in curve.points) for curve in screen.curves.values()]
        assert [*screen.curves][:2] == ["ask 1", "ask 2"]
        assert best == sorted(best)
        assert best[0] < 0.9
        assert best[-1] > 0.99
        kind.focus()
        await pilot.press("right")
        assert (kind.value, probes.display, probes.value) == ("filter", True, count)
        probes.focus()
        await pilot.press("1", "enter", "r")
        await until(pilot, lambda: [*screen.curves] == ["all"] and not screen.running, "one of all rows")
        assert max(point.recall for point in screen.curves["all"].points) == best[0]


async def test_files_with_the_graph_on_disk_are_in_the_tree(folder: Path) -> None:
    index = edgevec.Index(2)
    index.add([[1.0, 0.0], [0.0, 1.0]])
    edgevec.DiskIndex.write(index, folder / "some.evd")
    async with running() as (app, pilot):
        await until(pilot, lambda: "some.evd" in shown(app), "the file in the tree")
