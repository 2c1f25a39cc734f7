"""What people do, from key press to what is shown, with the real engine on real data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pilot import error_of, idle, is_refused, knows, running, searching, shown, until
from textual.widgets import Button, Input, OptionList

import edgevec
from edgevec import samples
from edgevec.tui import workers
from edgevec.tui.screens.dialogs import PathDialog
from edgevec.tui.widgets.controls import Choice, Number
from edgevec.tui.widgets.facts import Tile
from edgevec.tui.widgets.results import ResultsTable


def nearest(query: np.ndarray, rows: np.ndarray, k: int) -> list[int]:
    """Brute force: the rows most similar to the query."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.argsort(-(unit @ (query / np.linalg.norm(query))), kind="stable")[:k].tolist()


def found(app) -> list[int]:
    return [hit.id for hit in app.screen.query_one(ResultsTable).hits]


async def ask(app, pilot, query: str) -> None:
    app.screen.query_one("#query", Input).value = query
    await until(pilot, lambda: app.screen._recall is not None, f"an answer to {query!r}")


# ---- opening and building ------------------------------------------------------------------------------------------


async def test_the_sample_is_one_key_away_and_answers_words() -> None:
    async with running() as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await pilot.press(*"yellow fruit")
        await until(pilot, lambda: "lemon" in shown(app), "a lemon")
        assert len(app.session.backend) == 25_000
        assert "25,000 × 128 · cosine · sq8 · SIMD" in shown(app)


async def test_a_file_is_opened_built_and_searched(animals: Path) -> None:
    async with running(animals) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        assert "no index yet" in shown(app)
        assert "kind, legs" in shown(app)
        app.screen.query_one("#quantization", Choice).focus()
        await pilot.press("left")
        await pilot.press("b")
        await until(pilot, lambda: app.session.backend is not None, "the index")
        await until(pilot, lambda: "✓ sound" in shown(app), "the check")
        assert app.session.backend.settings.quantization == "none"
        assert "400 × 16 · cosine · none" in shown(app)
        await pilot.press("f3")
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await ask(app, pilot, "#7")
        rows = edgevec.read_vectors(animals).vectors
        assert found(app) == [1000 + row for row in nearest(rows[7], rows, 10)]
        assert "animal number 7" in shown(app)


async def test_a_stopped_build_leaves_no_index_and_no_message_later(
    folder: Path, unfinished: Callable[[str], None]
) -> None:
    unfinished("build")
    rows = np.random.default_rng(0).standard_normal((20_000, 96)).astype(np.float32)
    np.save(folder / "many.npy", rows)
    async with running(folder / "many.npy") as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: "/s" in shown(app) and "left" in shown(app), "rate and time left")
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.building, "the stop")
        await until(pilot, lambda: idle(app), "the end of the work")
        assert app.session.backend is None
        assert "no index yet" in shown(app)
        assert app.screen.query_one("#stop", Button).disabled
        await pilot.press("f3")
        assert app.current_mode == "data"


async def test_keys_in_a_build_do_not_begin_it_anew_and_are_answered(
    folder: Path, unfinished: Callable[[str], None]
) -> None:
    unfinished("build")
    np.save(folder / "some.npy", np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32))
    async with running(folder / "some.npy", notifications=True) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: "left" in shown(app), "the progress")
        (before,) = [worker for worker in app.workers if worker.group == "build"]
        await pilot.press("b", "b", "f3", "f3")
        await until(pilot, lambda: "is being built already" in shown(app), "the answer to b")
        assert "F2 shows how far it is" in shown(app)
        assert [worker for worker in app.workers if worker.group == "build"] == [before]
        assert not before.is_cancelled
        assert len(app._notifications) == 2  # each once
        await pilot.press("escape")
        await until(pilot, lambda: idle(app), "the end of the work")


async def test_a_saved_index_opens_with_its_texts(sample_index: Path, folder: Path) -> None:
    path = folder / "mine.ev"
    async with running(sample_index, settings_file=knows(sample_index)) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        app.screen.query_one("#build").focus()
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(path)
        await pilot.press("enter")
        await until(pilot, path.exists, "the file")
        await until(pilot, lambda: "mine.ev" in shown(app), "its name")
    async with running() as (app, pilot):
        assert "mine.ev" in shown(app)
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await ask(app, pilot, "device for measuring temperature")
        assert "thermometer" in shown(app)


async def test_an_index_without_its_data_is_searched_by_row_and_id(sample_index: Path) -> None:
    async with running(sample_index) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await ask(app, pilot, "id:17")
        vectors = samples.wordnet().vectors
        assert found(app)[0] == 17
        assert set(found(app)) == set(nearest(vectors[17], vectors, 10))
        app.screen.query_one("#query", Input).value = "words"
        await until(pilot, lambda: "no encoder" in shown(app), "the reason")


async def test_existing_files_are_not_replaced_by_accident(sample_index: Path, folder: Path) -> None:
    other = folder / "other.ev"
    other.write_text("precious")
    async with searching(sample_index) as (app, pilot):
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        app.screen.query_one("#build").focus()
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(other)
        await pilot.press("enter")
        await until(pilot, lambda: "exists" in shown(app), "the warning")
        assert other.read_text() == "precious"
        await pilot.press("escape")
        await pilot.pause()
        assert other.read_text() == "precious"


# ---- searching -----------------------------------------------------------------------------------------------------


async def test_neighbors_are_followed_and_the_way_back_is_kept(
    sample_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevec.tui.screens.search._REMEMBER_AFTER", 600.0)  # a busy machine may take the usual time
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "yellow fruit")
        second = found(app)[1]
        await pilot.press("escape", "down", "n")
        await until(
            pilot, lambda: app.screen.query_one("#query", Input).value == f"id:{second}", "the neighbor's query"
        )
        await until(pilot, lambda: found(app)[:1] == [second], "its neighbors")
        vectors = samples.wordnet().vectors
        await until(pilot, lambda: app.screen._recall is not None, "the recall")
        assert set(found(app)) == set(nearest(vectors[second], vectors, 10))
        history = app.screen.query_one("#history", OptionList)
        assert str(history.get_option_at_index(0).prompt) == "yellow fruit"
        await pilot.press("ctrl+b")
        assert app.screen.query_one("#query", Input).value == "yellow fruit"


async def test_a_filter_is_kept_to(sample_index: Path) -> None:
    sample = samples.wordnet()
    async with searching(sample_index) as (app, pilot):
        app.screen.query_one("#filter", Input).value = "topic = 'noun.animal' AND text ILIKE '%dog%'"
        await ask(app, pilot, "loyal friend")
        allowed = [
            row
            for row, text in enumerate(sample.texts)
            if sample.topics[row] == "noun.animal" and "dog" in text.lower()
        ]
        best = nearest(sample.encode("loyal friend"), sample.vectors[allowed], 10)
        assert found(app) == [allowed[row] for row in best]
        assert f"among {len(allowed):,} rows" in shown(app)
        app.screen.query_one("#filter", Input).value = "color = 'red'"
        await until(
            pilot, lambda: "0 rows that pass the filter (fields: topic, pos, text, id)" in shown(app), "the count"
        )


async def test_k_ef_and_exact_change_the_answer(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "yellow fruit")
        app.screen.query_one("#k", Number).focus()
        await pilot.press("3", "enter")
        await until(pilot, lambda: len(found(app)) == 3, "three results")
        few = app.screen._answer.cost.distances
        app.screen.query_one("#ef", Number).focus()
        await pilot.press("4", "0", "0", "enter")
        await until(pilot, lambda: app.screen._answer.cost.distances > few, "more work")
        app.screen.query_one("#exact", Choice).focus()
        await pilot.press("right")
        await until(pilot, lambda: app.screen._answer.cost.strategy == "exact", "an exact search")
        await until(pilot, lambda: app.screen._recall == 1.0 and "1.0000" in shown(app), "its recall")


async def test_the_latest_question_wins(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        query = app.screen.query_one("#query", Input)
        for text in ("cat", "dog", "horse", "fish", "bird", "thermometer"):
            query.value = text
        await until(pilot, lambda: app.screen._recall is not None, "an answer")
        sample = samples.wordnet()
        assert found(app)[0] == nearest(sample.encode("thermometer"), sample.vectors, 1)[0]


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("#25000", "no row 25000, only 0 to 24,999"),
        ("id:-4", "no such id: id -4"),
        ("#-1", "no row -1, only 0 to 24,999"),
        ("[1, 2]", "2 numbers, but the index has 128"),
        ("[1, x", "not a vector yet"),
        ("@nowhere.npy", "no such file"),
        ("qzxqzx", "no known word"),
    ],
)
async def test_what_cannot_be_asked_says_why(sample_index: Path, typed: str, reason: str) -> None:
    async with searching(sample_index) as (app, pilot):
        app.screen.query_one("#query", Input).value = typed
        await until(pilot, lambda: reason in shown(app), f"{reason!r} for {typed!r}")
        assert not error_of(app)


async def test_queries_come_from_vectors_and_files(sample_index: Path, folder: Path) -> None:
    vectors = samples.wordnet().vectors
    np.save(folder / "ask.npy", vectors[40:50])
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "@ask.npy 3")
        assert found(app)[0] == 43
        await ask(app, pilot, json.dumps([round(float(value), 5) for value in vectors[99]]))
        assert found(app)[0] == 99
        await pilot.press("ctrl+g")
        await until(pilot, lambda: app.screen.query_one("#query", Input).value.startswith("#"), "a random row")


@pytest.mark.parametrize("ending", ["json", "csv"])
async def test_results_are_exported(sample_index: Path, folder: Path, ending: str) -> None:
    path = folder / f"out.{ending}"
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "yellow fruit")
        ids = found(app)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(path)
        await pilot.press("enter")
        await until(pilot, path.exists, "the file")
    if ending == "csv":
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["query"] == "yellow fruit"
        rows = content["results"]
    sample = samples.wordnet()
    assert [int(row["id"]) for row in rows] == ids
    assert [row["text"] for row in rows] == [sample.texts[id] for id in ids]
    assert [row["topic"] for row in rows] == [sample.topics[id] for id in ids]


async def test_results_are_copied(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "yellow fruit")
        await pilot.press("ctrl+y")
        await pilot.pause()
        lines = app.clipboard.splitlines()
        assert [int(line.split("\t")[1]) for line in lines] == found(app)


# ---- latency -------------------------------------------------------------------------------------------------------


async def test_the_load_runs_changes_pauses_and_stops(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        screen = app.screen
        await pilot.press("space")
        await until(pilot, lambda: screen.metrics.totals() is not None, "the first numbers")
        await until(pilot, lambda: screen.query_one("#p50", Tile).value.endswith("µs"), "P50")
        await until(pilot, lambda: screen.query_one("#recall", Tile).value != "–", "recall")
        before = screen.metrics.totals()
        assert before.p50 <= before.p95 <= before.p99 <= before.maximum
        assert before.p50 <= before.call_p50
        for _ in range(6):
            await pilot.press("right_square_bracket")
        ef = screen.query_one("#ef", Number).value
        assert ef > 64
        assert [what for _, what in screen.metrics.changes][-1] == f"ef {ef}"
        await until(pilot, lambda: (screen.metrics.totals() or before) != before, "numbers of the new ef")
        await pilot.press("space")
        await until(pilot, lambda: screen.generator.state == "paused", "the pause")
        n = screen.metrics.totals().n
        await pilot.pause(0.6)
        assert screen.metrics.totals().n == n
        await pilot.press("space")
        await until(pilot, lambda: screen.metrics.totals().n > n, "more after the pause")
        await pilot.press("s")
        assert screen.generator.state == "stopped"
        assert not screen.generator._workers


async def test_quantization_is_switched_under_load(animals: Path) -> None:
    async with running(animals) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: app.session.backend is not None, "the index")
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        await pilot.press("space")
        await until(pilot, lambda: app.screen.metrics.totals() is not None, "the first numbers")
        await pilot.press("u")
        await until(pilot, lambda: "cosine · binary" in shown(app), "the other quantization in the header")
        assert app.screen.generator.state == "running"
        assert app.screen.metrics.changes[-1][1] == "binary"
        await until(pilot, lambda: app.screen.metrics.totals() is not None, "numbers of the new index")
        assert {settings.quantization for settings in app.session.entries} == {"sq8", "binary"}


async def test_threads_and_batches_and_a_file_of_queries(animals: Path, folder: Path) -> None:
    np.save(folder / "ask.npy", edgevec.read_vectors(animals).vectors[:20] + 0.01)
    async with running(animals) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: app.session.backend is not None, "the index")
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        screen = app.screen
        screen.query_one("#threads", Number).focus()
        await pilot.press("3", "enter")
        screen.query_one("#batch", Choice).focus()
        await pilot.press("right")
        screen.query_one("#source", Choice).focus()
        await pilot.press("left")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question which file")
        app.screen.query_one(Input).value = str(folder / "ask.npy")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen and screen._queries() is not None, "the queries")
        screen.query_one("#toggle").focus()
        await pilot.press("space")
        await until(pilot, lambda: (screen.metrics.totals() or None) is not None, "numbers")
        assert len(screen.generator._workers) == 3
        assert screen.metrics.totals().n % 100 == 0
        assert screen._queries().name == "ask.npy"


async def test_wrong_queries_are_refused_with_the_reason(animals: Path, folder: Path) -> None:
    np.save(folder / "ask.npy", np.ones((3, 7), np.float32))
    async with running(animals) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: app.session.backend is not None, "the index")
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        app.screen._file_chosen(folder / "ask.npy")
        await until(pilot, lambda: "7 dimensions" in error_of(app), "the reason")
        await pilot.press("escape")
        assert app.screen.query_one("#source", Choice).value == "rows"


# ---- comparing -----------------------------------------------------------------------------------------------------


async def test_quantizations_are_compared_and_exported(animals: Path, folder: Path) -> None:
    async with running(animals, size=(160, 50)) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: app.session.backend is not None, "the index")
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "compare", "the screen")
        screen = app.screen
        await pilot.press("r")
        await until(pilot, lambda: "done" in shown(app) and not screen.running, "the end of the comparison")
        assert [curve.name for curve in screen.curves.values()] == ["none", "sq8", "binary"]
        for curve in screen.curves.values():
            assert [point.ef for point in curve.points] == [10, 16, 24, 40, 64, 100, 160, 250, 400]
            assert curve.points[-1].recall == 1.0  # 400 candidates of 400 rows
        assert "1 none  2 sq8  3 binary" in shown(app)
        for ending in ("csv", "svg", "png"):
            path = folder / f"curve.{ending}"
            screen._export(path)
            await until(pilot, path.exists, f"the {ending}")
        await until(pilot, lambda: idle(app), "the end of the writing")
    with (folder / "curve.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 27
    assert [float(row["recall"]) for row in rows if row["variant"] == "sq8"] == [
        point.recall for point in screen.curves["sq8"].points
    ]
    assert "<svg" in (folder / "curve.svg").read_text()
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


async def test_simd_paths_are_compared_and_a_stop_is_a_kill(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "compare", "the screen")
        screen = app.screen
        screen.query_one("#kind", Choice).focus()
        await pilot.press("right")
        await pilot.press("r")
        paths = list(edgevec.simd_info().available)
        await until(pilot, lambda: list(screen.curves) == paths, "the variants")
        await until(pilot, lambda: screen.curves[paths[0]].points, "the first point")
        screen.action_stop()
        measured = sum(len(curve.points) for curve in screen.curves.values())
        await until(pilot, lambda: idle(app), "the end of the work")
        assert not screen.running
        assert sum(len(curve.points) for curve in screen.curves.values()) == measured
        assert any(curve.points for curve in screen.curves.values())


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("broken.npy", b"\x93NUMPY\x01\x00nonsense", "broken.npy"),
        ("broken.ev", b"not an index at all", "header"),
        ("broken.jsonl", b'{"vector": [1, 2]}\n{"vector": [1]}\n', "line 2"),
        ("picture.gif", b"GIF89a", "unknown ending"),
    ],
)
async def test_broken_files_are_refused_with_reason_and_advice(
    folder: Path, name: str, content: bytes, reason: str
) -> None:
    (folder / name).write_bytes(content)
    await is_refused(folder / name, reason)


async def test_a_damaged_index_names_the_section(sample_index: Path, folder: Path) -> None:
    content = bytearray(sample_index.read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "damaged.ev").write_bytes(content)
    async with running(folder / "damaged.ev") as (app, pilot):
        await until(pilot, lambda: error_of(app), "the message")
        assert "blocks" in error_of(app) or "vectors" in error_of(app)
        assert "Build the index again" in error_of(app)


async def test_bad_rows_are_named_and_nothing_is_built(folder: Path) -> None:
    rows = np.ones((500, 8), np.float32)
    rows[77, 3] = np.nan
    np.save(folder / "nan.npy", rows)
    async with running(folder / "nan.npy") as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: error_of(app), "the message")
        assert "77" in error_of(app)
        assert app.session.backend is None
        await pilot.press("escape")
        assert not app.screen.building


async def test_a_file_that_cannot_be_written_is_told(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        app.screen._save(Path("/proc/none.ev"))
        await until(pilot, lambda: "cannot be written" in error_of(app), "the message")
        assert app.session.current.path == sample_index


# ---- leaving -------------------------------------------------------------------------------------------------------


async def test_leaving_ends_all_work(sample_index: Path, folder: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        screen = app.screen
        await pilot.press("space")
        await until(pilot, lambda: screen.metrics.totals() is not None, "the first numbers")
        workers.start(screen, "build", lambda job: wait_until_cancelled(job), "never")
        await pilot.press("ctrl+q")
        await pilot.pause()
    assert app.return_code == 0
    assert not screen.generator._workers


def wait_until_cancelled(job: workers.Job) -> None:
    while job.progress(0, 1):
        pass


async def test_one_can_go_everywhere_with_keys_mouse_and_palette(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        for key, place in (("f1", "open"), ("f2", "data"), ("f4", "latency"), ("f5", "compare"), ("f3", "search")):
            await pilot.press(key)
            await until(pilot, lambda place=place: app.current_mode == place, place)
        await pilot.click(offset=(12, 1))
        await until(pilot, lambda: app.current_mode == "data", "the data screen by mouse")
        await pilot.press("question_mark")
        await until(pilot, lambda: "ef_construction" in shown(app) and "Esc closes" in shown(app), "the help")
        await pilot.press("escape", "ctrl+p")
        await pilot.pause(0.2)
        await pilot.press(*"Go to Comp")
        await until(pilot, lambda: "Go to Compare" in shown(app), "the palette")
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "compare", "the screen")


async def test_every_screen_survives_being_resized(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "yellow fruit")
        for key in ("f1", "f2", "f3", "f4", "f5"):
            await pilot.press(key)
            for width, height in ((30, 8), (200, 60), (80, 24)):
                await pilot.resize_terminal(width, height)
                await pilot.pause()
            assert "F1 Open" in shown(app)


async def test_nothing_can_be_searched_before_there_is_something() -> None:
    async with running() as (app, pilot):
        for key in ("f2", "f3", "f4", "f5"):
            await pilot.press(key)
            assert app.current_mode == "open"
