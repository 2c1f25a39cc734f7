"""Collections in the app: opened while others may write them, searched by vector, words and condition, measured."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pilot import error_of, idle, is_refused, running, shown, until
from textual.widgets import Input

import edgevec
from edgevec import samples
from edgevec.tui.screens.dialogs import PathDialog
from edgevec.tui.widgets.controls import Choice
from edgevec.tui.widgets.facts import Facts, Tile
from edgevec.tui.widgets.filter_input import FilterInput
from edgevec.tui.widgets.results import ResultsTable

DIM = 16
SMALL = (80, 24)


class Notes:
    """300 records as plain Python has them, and the collection made of them: the one is the oracle of the other."""

    def __init__(self, path: Path, count: int = 300) -> None:
        self.path = path
        self.vectors = np.random.default_rng(3).standard_normal((count, DIM)).astype(np.float32)
        self.ids: list[int | str] = [f"note-{at}" if at % 2 else at for at in range(count)]
        self.metadata: list[dict[str, Any]] = [
            {"kind": ("cat", "dog", "sea horse")[at % 3], "legs": at % 5, "author": {"born": 1900 + at % 70}}
            for at in range(count)
        ]
        self.documents: list[str | None] = [f"a text about {('owls', 'bees')[at % 2]}" for at in range(count)]
        self.documents[40] = "one lonely wombat"

    def write(self, *, documents: bool = True, metadata: bool = True) -> Notes:
        with edgevec.open(self.path) as made:
            made.upsert(
                self.ids,
                self.vectors,
                self.metadata if metadata else None,
                self.documents if documents else None,  # type: ignore[arg-type]
            )
        return self

    def nearest(self, query: np.ndarray, k: int, rows: list[int] | None = None) -> list[int | str]:
        """Brute force, by cosine."""
        rows = list(range(len(self.ids))) if rows is None else rows
        among = self.vectors[rows] / np.linalg.norm(self.vectors[rows], axis=1, keepdims=True)
        return [self.ids[rows[at]] for at in np.argsort(-(among @ query), kind="stable")[:k]]


@pytest.fixture
def notes(folder: Path) -> Notes:
    return Notes(folder / "notes.edgevec").write()


def found(app: Any) -> list[int | str]:
    return [hit.id for hit in app.screen.query_one(ResultsTable).hits]


async def opened(app: Any, pilot: Any) -> None:
    await until(pilot, lambda: app.current_mode == "search" or error_of(app), "the search screen")
    assert not error_of(app)


async def ask(app: Any, pilot: Any, query: str, condition: str = "") -> None:
    app.screen._compared = False
    with app.screen.prevent(Input.Changed):
        app.screen.query_one("#query", Input).value = query
        app.screen.query_one("#filter", Input).value = condition
    app.screen.search()
    await until(pilot, lambda: app.screen._compared, f"an answer to {query!r}")


# ---- searching -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, (120, 40)])
async def test_ids_of_both_kinds_are_asked_for_and_followed(notes: Notes, size: tuple[int, int]) -> None:
    async with running(notes.path, size=size) as (app, pilot):
        await opened(app, pilot)
        assert "300 × 16 · cosine · sq8" in shown(app)
        for query, row in (("id:note-7", 7), ("id:8", 8), ("#9", 9), ('id:"note-11"', 11)):
            await ask(app, pilot, query)
            assert found(app) == notes.nearest(notes.vectors[row], 10)
        second = found(app)[1]
        await pilot.press("escape", "down", "n")
        await until(pilot, lambda: found(app)[:1] == [second], "the neighbors of the second")
        assert found(app) == notes.nearest(notes.vectors[notes.ids.index(second)], 10)
        assert app.screen.query_one("#query", Input).value == f"id:{second}"
        app.screen.query_one("#query", Input).value = "id:nobody"
        await until(pilot, lambda: "nobody" in told(app), "the reason")
        assert not error_of(app)


def told(app: Any) -> str:
    return str(app.screen.query_one("#status").render())


@pytest.mark.parametrize("size", [SMALL, (120, 40)])
async def test_conditions_are_kept_to_counted_and_their_way_is_shown(notes: Notes, size: tuple[int, int]) -> None:
    allowed = [
        row
        for row, fields in enumerate(notes.metadata)
        if fields["kind"] in ("dog", "sea horse") and not 1950 <= fields["author"]["born"] <= 1960
    ]
    async with running(notes.path, size=size) as (app, pilot):
        await opened(app, pilot)
        condition = "kind IN ('dog', 'sea horse') AND NOT author.born BETWEEN 1950 AND 1960"
        await ask(app, pilot, "#4", condition)
        assert found(app) == notes.nearest(notes.vectors[4], 10, allowed)
        assert f"among {len(allowed)} records that pass the filter" in told(app)
        assert re.search(r"way +exact", str(app.screen.query_one("#cost", Facts).render()))
        with app.screen.prevent(Input.Changed):
            app.screen.query_one("#query", Input).value = ""
        app.screen.query_one("#filter", Input).value = "legs = 3"
        await until(pilot, lambda: "60 records that pass the filter; now a query" in told(app), "the count alone")
        app.screen.query_one("#filter", Input).value = "color = 'red'"
        await until(pilot, lambda: "(fields: kind, legs, author)" in told(app), "the fields, when nothing passes")


@pytest.mark.parametrize("size", [SMALL, (120, 40)])
async def test_a_fault_in_a_condition_is_marked_where_it_is(notes: Notes, size: tuple[int, int]) -> None:
    async with running(notes.path, size=size) as (app, pilot):
        await opened(app, pilot)
        await ask(app, pilot, "#4")
        box = app.screen.query_one(FilterInput)
        box.focus()
        await pilot.press(*"legs > 3 AND kind = dog")
        await until(pilot, lambda: "(a string needs quotes)" in told(app), "the reason")
        lines = shown(app).splitlines()
        at = next(number for number, line in enumerate(lines) if "▲" in line)
        column = lines[at].index("▲")
        assert lines[at - 1][column : column + 3] == "dog" or size == SMALL  # there the box scrolls
        styled = [span for span in box._value.spans if "reverse" in str(span.style)]
        assert [(span.start, span.end) for span in styled] == [(20, 23)]
        assert not error_of(app)
        await pilot.press(*["backspace"] * 3, *"'dog'")
        await until(pilot, lambda: "records that pass the filter" in told(app), "the count")
        assert not box._value.spans
        assert "▲" not in shown(app)
        await pilot.press(*["backspace"] * 5)
        await until(pilot, lambda: "expected a value, found the end" in told(app), "the end is wrong")


async def test_the_filter_box_completes_what_the_records_have(notes: Notes) -> None:
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        box = app.screen.query_one(FilterInput)
        box.focus()
        await pilot.press("a", "u")
        await until(pilot, lambda: box._suggestion == "author.born", "the suggestion")
        await pilot.press("right")
        assert box.value == "author.born"
        await pilot.press(*" > 1950 AND kind = 'se")
        await until(pilot, lambda: box._suggestion.endswith("'sea horse'"), "a value")
        await pilot.press("right")
        rows = [
            row
            for row, fields in enumerate(notes.metadata)
            if fields["author"]["born"] > 1950 and fields["kind"] == "sea horse"
        ]
        await until(pilot, lambda: f"{len(rows)} records that pass" in told(app), "the count")


async def test_words_find_documents(notes: Notes) -> None:
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        await pilot.press(*"wombat")
        await until(pilot, lambda: found(app) == [40], "the wombat")
        assert "by BM25" in told(app)
        assert "score" in shown(app)
        await until(pilot, lambda: "by words: –" in shown(app), "that there is no recall")
        await ask(app, pilot, "owls", "legs = 2")
        owls = {40} | {row for row in range(0, 300, 2) if notes.metadata[row]["legs"] == 2} - {40}
        assert set(found(app)) <= owls
        assert len(found(app)) == 10


async def test_the_encoder_of_the_sample_is_used_where_it_fits(folder: Path) -> None:
    sample = samples.wordnet()
    rows = list(range(600))
    with edgevec.open(folder / "words.edgevec") as made:
        made.upsert(rows, sample.vectors[:600], None, sample.texts[:600])
    async with running(folder / "words.edgevec") as (app, pilot):
        await opened(app, pilot)
        query = sample.encode("yellow fruit")
        best = np.argsort(-(sample.vectors[:600] @ query), kind="stable")[:10].tolist()
        await ask(app, pilot, "yellow fruit")
        assert found(app) == best
        assert app.screen._recall == 1.0
        await ask(app, pilot, "words: yellow fruit")
        said = found(app)
        assert all({"yellow", "fruit"} & set(re.findall(r"\w+", sample.texts[id].lower())) for id in said)
        await ask(app, pilot, "both: yellow fruit")
        assert found(app)[0] in {*best, *said}


async def test_another_128_dimensions_are_not_taken_for_the_samples(folder: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 128)).astype(np.float32)
    with edgevec.open(folder / "other.edgevec") as made:
        made.upsert(range(50), vectors, None, ["yellow fruit"] * 50)
    async with running(folder / "other.edgevec") as (app, pilot):
        await opened(app, pilot)
        assert app.session.data.encode is None
        await pilot.press(*"fruit")
        await until(pilot, lambda: "by BM25" in told(app), "that words are asked for")


async def test_without_documents_one_asks_by_row(folder: Path) -> None:
    notes = Notes(folder / "bare.edgevec").write(documents=False, metadata=False)
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        await until(pilot, lambda: found(app) == notes.nearest(notes.vectors[0], 10), "the neighbors of row 0")
        app.screen.query_one("#query", Input).value = "owls"
        await until(pilot, lambda: "no documents to find words in" in told(app), "the reason")
        await pilot.press("f2")
        await until(pilot, lambda: "none: no search by words" in shown(app), "the facts")


async def test_an_empty_collection_opens_and_fills(folder: Path) -> None:
    notes = Notes(folder / "notes.edgevec")
    edgevec.open(notes.path).close()
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "no vectors yet" in shown(app), "the facts")
        await pilot.press("f4", "space")
        await until(pilot, lambda: "there is nothing to ask for" in error_of(app), "the reason")
        await pilot.press("escape")
        notes.write()
        await pilot.press("f2", "r")
        await until(pilot, lambda: app.current_mode == "search" and "300 × 16" in shown(app), "the records")
        await ask(app, pilot, "wombat")
        assert found(app) == [40]


async def test_hits_are_exported_with_score_and_metadata(notes: Notes, folder: Path) -> None:
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        await ask(app, pilot, "id:note-7")
        assert "author" in shown(app)
        ids = found(app)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(folder / "out.json")
        await pilot.press("enter")
        await until(pilot, (folder / "out.json").exists, "the file")
    rows = json.loads((folder / "out.json").read_text(encoding="utf-8"))["results"]
    assert [row["id"] for row in rows] == ids
    for row in rows:
        at = notes.ids.index(row["id"])
        assert row["text"] == notes.documents[at]
        assert json.loads(row["author"]) == notes.metadata[at]["author"]
        assert row["score"] == pytest.approx(1 - row["distance"], abs=1e-6)


# ---- while others write --------------------------------------------------------------------------------------------

WRITE = """
import sys, edgevec, numpy
with edgevec.open(sys.argv[1]) as made:
    made.upsert("newcomer", -made.get("note-7")[0].vector, {"kind": "newt"}, "a newt of late")
    made.delete(["note-9"])
    print("written", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writer(notes: Notes) -> Iterator[subprocess.Popen[str]]:
    """Another process, not started yet to write: it does so after a line, and stays open until the next."""
    program = "import sys; sys.stdin.readline()" + WRITE
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(notes.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


async def test_what_another_process_commits_is_found_next(notes: Notes, writer: subprocess.Popen[str]) -> None:
    query = str(np.round(-notes.vectors[7], 5).tolist())
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        await ask(app, pilot, query)
        assert "newcomer" not in found(app)
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "written\n"  # it is still open for writing: a reader is in nobody's way
        await pilot.press("ctrl+l")
        await until(pilot, lambda: found(app)[:1] == ["newcomer"], "the new record")
        await ask(app, pilot, "id:newcomer", "kind = 'newt'")
        assert found(app) == ["newcomer"]
        assert "among 1 record" in told(app)
        app.screen.query_one("#query", Input).value = "id:note-9"
        await until(pilot, lambda: "note-9" in told(app), "that it is gone")
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data" and "300 × 16" in shown(app), "the facts")
        await until(pilot, lambda: "✓ sound" in shown(app), "the check")
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.wait() == 0


async def test_a_graph_is_caught_up_with_while_keys_answer(folder: Path, unfinished: Callable[[str], None]) -> None:
    unfinished("open")
    path = folder / "many.edgevec"
    vectors = np.random.default_rng(0).standard_normal((20_000, 32)).astype(np.float32)
    with edgevec.open(path) as made:
        made.upsert(range(len(vectors)), vectors)
    Path(f"{path}-graph").unlink()
    async with running(path) as (app, pilot):
        path_box = app.screen.query_one("#path", Input)
        path_box.focus()
        await until(pilot, lambda: "of 20,000 rows" in shown(app) and "left" in shown(app), "the progress")
        await pilot.press("x")
        assert path_box.value == "x"
        assert app.session.data is None
        await pilot.press("escape")
        await until(pilot, lambda: idle(app), "the stop")
        assert app.session.data is None


# ---- what is refused -----------------------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()


def damaged(path: Path) -> None:
    Notes(path).write()
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 12] = b"\xff" * (4096 * 10)
    path.write_bytes(content)
    Path(f"{path}-graph").unlink()


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("recipes.edgevec", foreign, "not a collection of edgevec's"),
        ("recipes.db", foreign, "not a collection of edgevec's"),
        ("damaged.edgevec", damaged, "malformed"),
        ("text.edgevec", lambda path: path.write_text("no database " * 100), "not a database"),
        ("empty.edgevec", lambda path: path.touch(), "is empty"),
        ("gone.edgevec", lambda path: None, "no such file"),
    ],
)
async def test_what_is_no_collection_is_refused_in_words(folder: Path, name: str, make: Any, reason: str) -> None:
    make(folder / name)
    await is_refused(folder / name, reason)


async def test_a_locked_collection_says_so(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevec.collection.database.BUSY_MS", 100)
    other = sqlite3.connect(notes.path)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    async with running(notes.path) as (app, pilot):
        await until(pilot, lambda: error_of(app), "the message")
        assert "locked" in error_of(app)
        assert "Wait until the other program" in error_of(app)
        other.rollback()
        other.close()
        await pilot.press("escape")
        await pilot.press("down", "enter")  # not among the recent files: it was never open
        assert not notes.path.samefile(app.session.data.path) if app.session.data and app.session.data.path else True


async def test_a_collection_is_known_by_its_content(notes: Notes, folder: Path) -> None:
    with edgevec.open(notes.path) as made:
        made.checkpoint()
    (folder / "notes.sqlite").write_bytes(notes.path.read_bytes())
    async with running(folder / "notes.sqlite") as (app, pilot):
        await opened(app, pilot)
        await ask(app, pilot, "wombat")
        assert found(app) == [40]


async def test_what_was_open_before_is_let_go(notes: Notes, animals: Path) -> None:
    async with running(notes.path) as (app, pilot):
        await opened(app, pilot)
        before = app.session.backend
        app.open_file(animals)
        await until(pilot, lambda: app.current_mode == "data", "the other file")
        await until(pilot, lambda: closed(before), "that it is closed")
        assert not app.screen.query_one("#quantization", Choice).disabled


def closed(backend: Any) -> bool:
    try:
        backend.vector(8)
    except edgevec.ClosedError:
        return True
    return False


# ---- facts and measuring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, (120, 40)])
async def test_the_facts_of_a_collection(notes: Notes, size: tuple[int, int]) -> None:
    async with running(notes.path, size=size, notifications=True) as (app, pilot):
        await opened(app, pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "✓ sound" in shown(app), "the check")
        data, index = (str(app.screen.query_one(f"#{name}", Facts).render()) for name in ("data-facts", "index-facts"))
        for fact in ("300 × 16", "cosine", "float32", "300, indexed for words", "kind, legs, author", "no field"):
            assert fact in data
        size_on_disk = notes.path.stat().st_size
        assert f"{size_on_disk / 1000:.1f} kB" in index or f"{size_on_disk / 1000:,.0f} kB" in index
        assert "current" in index
        with edgevec.open(notes.path) as made:
            made.create_index("legs")
            made.upsert("more", notes.vectors[0], {"legs": 1})
        await pilot.press("r")
        await until(pilot, lambda: "301 × 16" in shown(app) and "of 301 records" in shown(app), "the new count")
        await until(pilot, lambda: "indexed    legs" in shown(app), "the new index")
        for key in ("b", "ctrl+s", "s"):
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda: "A collection keeps its own index" in shown(app), f"the reason after {key}")


async def test_the_load_runs_with_the_filter_and_without(notes: Notes) -> None:
    async with running(notes.path, size=SMALL, notifications=True) as (app, pilot):
        await opened(app, pilot)
        await ask(app, pilot, "#4", "kind = 'dog'")
        await pilot.press("f4")
        await until(pilot, lambda: app.current_mode == "latency", "the latency screen")
        screen = app.screen
        await pilot.press("space")
        await until(pilot, lambda: screen.query_one("#recall", Tile).value != "–", "recall")
        assert "whole search" in shown(app)
        assert screen.query_one("#batch", Choice).options == ["single"]
        await pilot.press("f")
        await until(pilot, lambda: screen._load() is not None, "the queries with the filter")
        queries = screen._load().queries
        dogs = [row for row, fields in enumerate(notes.metadata) if fields["kind"] == "dog"]
        assert queries.filter_result.rows == len(dogs)
        for vector, own, expected in zip(queries.vectors[:20], queries.own, queries.expected(10), strict=False):
            assert expected == set(notes.nearest(vector, 10, dogs)) - {own}
        await until(pilot, lambda: screen.metrics.totals() is not None, "numbers with the filter")
        assert screen.metrics.changes[-1][1] == "filter on"
        await until(pilot, lambda: screen.metrics.totals().recall > 0.9, "its recall")
        await pilot.press("u")
        await until(pilot, lambda: "The quantization it was made with" in shown(app), "why it stays")
        await pilot.press("s")


async def test_the_comparison_is_by_filter_or_simd(notes: Notes) -> None:
    async with running(notes.path, size=SMALL) as (app, pilot):
        await opened(app, pilot)
        await ask(app, pilot, "#4", "kind = 'dog' OR legs = 3")
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "compare", "the screen")
        screen = app.screen
        assert screen.query_one("#kind", Choice).options == ["SIMD", "filter"]
        await pilot.press("r")
        await until(pilot, lambda: not screen.running, "the end of the comparison")
        assert not error_of(app)
        assert list(screen.curves) == ["all", "filter"]
        for curve in screen.curves.values():
            assert len(curve.points) == 9
            assert curve.points[-1].recall > 0.99
            assert all(0 < point.p50 <= point.p99 for point in curve.points)
        assert "2 filter" in shown(app)


async def test_a_data_set_is_compared_by_filter_too(animals: Path) -> None:
    async with running(animals) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        await pilot.press("b")
        await until(pilot, lambda: app.session.backend is not None, "the index")
        await pilot.press("f3")
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await ask(app, pilot, "#7", "kind = 'sea horse' AND text LIKE '%7'")
        await pilot.press("f5")
        await until(pilot, lambda: app.current_mode == "compare", "the screen")
        screen = app.screen
        screen.query_one("#kind", Choice).value = "filter"
        await pilot.press("r")
        await until(pilot, lambda: not screen.running, "the end of the comparison")
        assert not error_of(app)
        assert [curve.points[-1].recall for curve in screen.curves.values()] == [1.0, 1.0]
