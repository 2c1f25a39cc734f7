"""What people expect of any program in a terminal: names and texts that cannot steer it, pasting, history, a question
before work is lost, a word when a file changed underneath, a window of any size."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pilot import error_of, knows, running, searching, shown, until
from textual import events
from textual.widgets import Input, OptionList

import edgevec
from edgevec import samples
from edgevec.printable import decimals
from edgevec.tui import file_watch
from edgevec.tui.history import History
from edgevec.tui.screens.data import DataScreen
from edgevec.tui.screens.dialogs import HistoryDialog, PathDialog, UnsavedDialog
from edgevec.tui.screens.record import RecordScreen
from edgevec.tui.widgets.results import ResultsTable

EVIL = "\x1b[2J\x1b]0;PWNED\x07\x9b31m\u202e [red]plain[/red]"
STEERS = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def assert_harmless(app: Any) -> None:
    picture = shown(app)
    assert not (STEERS - {"\n"}) & set(picture), picture


def found(app: Any) -> list[int | str]:
    return [hit.id for hit in app.screen.query_one(ResultsTable).hits]


def told(app: Any) -> str:
    return str(app.screen.query_one("#status").render())


async def on_search(app: Any, pilot: Any) -> None:
    await until(pilot, lambda: app.current_mode == "search", "the search screen")


async def ask(app: Any, pilot: Any, query: str) -> None:
    app.screen._compared = False
    app.screen.query_one("#query", Input).value = query
    await until(pilot, lambda: app.screen._compared, f"an answer to {query!r}")


@pytest.fixture
def small_notes(folder: Path) -> Path:
    path = folder / "notes.edgevec"
    with edgevec.open(path) as made:
        made.upsert([1, 2, 3], np.eye(3, dtype=np.float32), None, ["one wombat", "two owls", "three bees"])
    return path


# ---- nothing that is shown steers the terminal ---------------------------------------------------------------------


async def test_documents_ids_and_fields_cannot_steer_the_terminal(folder: Path) -> None:
    path = folder / "evil.edgevec"
    ids = [f"id {at} {EVIL}" for at in range(3)]
    with edgevec.open(path) as made:
        made.upsert(ids, np.eye(3, dtype=np.float32), [{f"field {EVIL}": EVIL}] * 3, [f"clear {EVIL}\nline two"] * 3)
    async with running(path, size=(140, 40), notifications=True) as (app, pilot):
        await on_search(app, pilot)
        await ask(app, pilot, "clear")
        await until(pilot, lambda: len(found(app)) == 3, "the hits")
        assert_harmless(app)
        assert r"\x1b[2J" in shown(app)
        assert "[red]plain[/red]" in shown(app)
        await pilot.press("escape", "enter")
        await until(pilot, lambda: isinstance(app.screen, RecordScreen), "the record")
        assert_harmless(app)
        assert "[red]plain[/red]" in shown(app)
        await pilot.press("n")
        await until(
            pilot, lambda: not isinstance(app.screen, RecordScreen) and found(app)[:1] == ids[:1], "its neighbors"
        )
        assert_harmless(app)
        app.screen.query_one("#query", Input).value = f"id:nobody {EVIL}"
        await until(pilot, lambda: "nobody" in told(app) and "no record" in told(app), "the reason")
        assert_harmless(app)
        app.screen.notify(f"Wrote {EVIL}")
        await pilot.pause(0.2)
        assert_harmless(app)
        assert "Wrote \\x1b" in shown(app)
        assert shown(app).count("[red]plain[/red]") > 4
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        assert_harmless(app)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
async def test_names_of_files_cannot_steer_the_terminal(folder: Path, animals: Path) -> None:
    name = f"x{EVIL.replace('/', '')}.jsonl"
    animals.rename(folder / name)
    async with running(notifications=True) as (app, pilot):
        await until(pilot, lambda: r"x\x1b[2J" in shown(app), "the file tree")
        assert "[red]plain" in shown(app)
        assert_harmless(app)
        app.open_file(folder / name)
        await until(pilot, lambda: app.current_mode == "data", "the data screen")
        assert_harmless(app)
        await pilot.press("f1")
        await until(pilot, lambda: app.current_mode == "open", "the recent files")
        assert_harmless(app)
        app.open_file(folder / f"gone {name}")
        await until(pilot, lambda: error_of(app), "the error")
        assert_harmless(app)


async def test_a_record_is_copied_whole_and_harmless(folder: Path) -> None:
    path = folder / "evil.edgevec"
    metadata = {"author": {"born": 1900}, "note": EVIL}
    with edgevec.open(path) as made:
        made.upsert(["a"], [[1.0, 0.0]], [metadata], [f"{EVIL}\nline two"])
    async with running(path) as (app, pilot):
        await on_search(app, pilot)
        await ask(app, pilot, "line")
        await pilot.press("escape", "space")
        await until(pilot, lambda: isinstance(app.screen, RecordScreen), "the record")
        assert '"born": 1900' in shown(app)
        await pilot.press("c")
        await pilot.pause()
        copied = json.loads(app.clipboard)
        assert (copied["id"], copied["text"], copied["metadata"]) == ("a", f"{EVIL}\nline two", metadata)
        assert not (STEERS - {"\n"}) & set(app.clipboard)
        await pilot.press("escape")
        await pilot.press("ctrl+y")
        await pilot.pause()
        assert not (STEERS - {"\t"}) & set(app.clipboard)


async def test_a_long_record_scrolls_and_shows_all_of_it(folder: Path) -> None:
    path = folder / "long.edgevec"
    lines = [f"wombat line {at}" for at in range(200)]
    with edgevec.open(path) as made:
        made.upsert([1], [[1.0, 0.0]], [{"last": "field"}], ["\n".join(lines)])
    async with running(path, size=(80, 24)) as (app, pilot):
        await on_search(app, pilot)
        await ask(app, pilot, "wombat")
        await pilot.press("escape", "enter")
        await until(pilot, lambda: isinstance(app.screen, RecordScreen), "the record")
        assert "wombat line 0" in shown(app)
        await pilot.press("end")
        await until(pilot, lambda: "wombat line 199" in shown(app) and "field" in shown(app), "the end of it")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, RecordScreen), "that it is closed")


# ---- words and scores ----------------------------------------------------------------------------------------------


async def test_words_that_the_encoder_does_not_know_are_named(sample_index: Path) -> None:
    async with searching(sample_index) as (app, pilot):
        await ask(app, pilot, "yellow qzxqzx fruit zzqq")
        assert "the encoder does not know: qzxqzx, zzqq" in told(app)
        sample = samples.wordnet()
        best = np.argsort(-(sample.vectors @ sample.encode("yellow fruit")), kind="stable")[0]
        assert found(app)[0] == best
        await ask(app, pilot, "yellow fruit")
        assert "does not know" not in told(app)


async def test_scores_of_words_in_a_small_collection_are_no_zeros(small_notes: Path) -> None:
    with edgevec.open(small_notes, mode="r") as made:
        made_of_two = made.search(text="owls")
    async with running(small_notes) as (app, pilot):
        await on_search(app, pilot)
        await ask(app, pilot, "owls")
        assert decimals(made_of_two[0].score) in shown(app)
        assert "0.0000" not in shown(app)


async def test_that_nothing_was_found_is_told(small_notes: Path) -> None:
    async with running(small_notes) as (app, pilot):
        await on_search(app, pilot)
        await ask(app, pilot, "nobodysaidthis")
        assert "nothing found" in told(app)


# ---- typing --------------------------------------------------------------------------------------------------------


async def test_a_text_of_several_lines_is_pasted_whole(small_notes: Path) -> None:
    async with running(small_notes) as (app, pilot):
        await on_search(app, pilot)
        for name in ("query", "filter"):
            box = app.screen.query_one(f"#{name}", Input)
            box.focus()
            await pilot.pause()
            box.post_message(events.Paste("one\r\ntwo\n\n\tthree\x1b[2J\n"))
            await until(pilot, lambda box=box: box.value, "what was pasted")
            assert box.value == r"one two three\x1b[2J"
        box.select_all()
        box.post_message(events.Paste("a =\n1"))
        await until(pilot, lambda: box.value == "a = 1", "the other text in its place")


async def test_what_was_typed_comes_back_with_arrows_and_ctrl_r_in_each_file(small_notes: Path, folder: Path) -> None:
    other = folder / "other.edgevec"
    with edgevec.open(other) as made:
        made.upsert([1], [[1.0, 0.0]], None, ["owls"])
    async with running(small_notes) as (app, pilot):
        await on_search(app, pilot)
        for query in ("wombat", "owls", "bees"):
            await ask(app, pilot, query)
            await pilot.press("enter", "slash")
        app.screen.query_one("#filter", Input).value = "id = 3"
        await until(pilot, lambda: app.session.filter == "id = 3", "the filter")
        app.screen.query_one("#filter", Input).focus()
        await pilot.press("enter")
    async with running(small_notes) as (app, pilot):  # another run of the app
        await on_search(app, pilot)
        query = app.screen.query_one("#query", Input)
        await pilot.press(*"ow")
        for key, value in (("up", "bees"), ("up", "owls"), ("up", "wombat"), ("up", "wombat"), ("down", "owls")):
            await pilot.press(key)
            await until(pilot, lambda value=value: query.value == value, value)
        await pilot.press("down", "down")
        await until(pilot, lambda: query.value == "ow", "what was being typed")
        await pilot.press("down")
        await until(pilot, lambda: app.focused.id == "results", "the results")
        query.focus()
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, HistoryDialog), "the choice")
        await until(pilot, lambda: any(found.option_count for found in app.screen.query(OptionList)), "what fits")
        assert [str(option.prompt) for option in app.screen.query_one(OptionList).options] == ["owls"]
        await pilot.press("enter")
        await until(pilot, lambda: query.value == "owls", "the choice in the box")
        app.screen.query_one("#filter", Input).focus()
        await pilot.press("up")
        await until(pilot, lambda: app.screen.query_one("#filter", Input).value == "id = 3", "the filter of before")
        app.open_file(other)
        await until(pilot, lambda: app.session.data.name == "other.edgevec", "the other file")
        await on_search(app, pilot)
        await until(pilot, lambda: not query.value, "a screen that starts over")
        query.focus()
        await pilot.press("up")
        assert query.value == ""


def test_the_history_is_bounded_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.json"
    history = History(path)
    for at in range(500):
        history.add("a.ev", "query", f"query {at % 300}")
    history.add("a.ev", "query", "x" * 10_000)
    history.add("a.ev", "filter", "  ")
    again = History(path)
    entries = again.entries("a.ev", "query")
    assert entries == [*(f"query {at}" for at in range(200, 300)), *(f"query {at}" for at in range(200))][-200:]
    assert again.entries("a.ev", "filter") == again.entries("b.ev", "query") == []
    for at in range(50):
        again.add(f"{at}.ev", "filter", "x")
    assert len(json.loads(path.read_text())) == 20
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [other.name for other in path.parent.iterdir()] == ["history.json"]


def test_two_windows_share_the_history(tmp_path: Path) -> None:
    one, two = History(tmp_path / "h.json"), History(tmp_path / "h.json")
    one.add("a", "query", "first")
    two.add("a", "query", "second")
    one.add("a", "query", "third")
    assert History(tmp_path / "h.json").entries("a", "query") == ["first", "second", "third"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"query": [1]}}', '{"a": {"query": "x"}}', "\0"])
def test_a_damaged_history_is_started_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "h.json").write_text(content)
    history = History(tmp_path / "h.json")
    assert history.entries("a", "query") == []
    history.add("a", "query", "x")
    assert History(tmp_path / "h.json").entries("a", "query") == ["x"]


# ---- leaving -------------------------------------------------------------------------------------------------------


async def built(app: Any, pilot: Any) -> None:
    await until(pilot, lambda: app.current_mode == "data", "the data screen")
    await pilot.press("b")
    await until(pilot, lambda: app.session.backend is not None, "the index")


async def asked_before_leaving(app: Any, pilot: Any) -> None:
    await until(pilot, lambda: isinstance(app.screen, UnsavedDialog), "the question")
    assert "is not saved" in shown(app)


async def test_quitting_with_an_unsaved_index_asks_and_a_second_ctrl_q_leaves(animals: Path) -> None:
    async with running(animals) as (app, pilot):
        await built(app, pilot)
        await pilot.press("ctrl+q")
        await asked_before_leaving(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DataScreen), "that one stays")
        assert app.return_code is None
        await pilot.press("ctrl+q")
        await asked_before_leaving(app, pilot)
        await pilot.press("ctrl+q")
        await pilot.pause()
    assert app.return_code == 0


async def test_opening_another_file_asks_and_can_save_first(animals: Path, small_notes: Path, folder: Path) -> None:
    async with running(animals) as (app, pilot):
        await built(app, pilot)
        app.open_file(small_notes)
        await asked_before_leaving(app, pilot)
        await pilot.click("#save")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(folder / "kept.ev")
        await pilot.press("enter")
        await until(pilot, lambda: not app.session.unsaved, "that it is saved")
        assert len(edgevec.Index.load(folder / "kept.ev")) == 400
        app.open_file(small_notes)
        await until(pilot, lambda: app.session.data.name == "notes.edgevec", "the other file")


async def test_leaving_without_saving_is_one_more_key(animals: Path, small_notes: Path) -> None:
    async with running(animals) as (app, pilot):
        await built(app, pilot)
        app.open_file(small_notes)
        await asked_before_leaving(app, pilot)
        await pilot.click("#leave")
        await until(pilot, lambda: app.session.data.name == "notes.edgevec", "the other file")


# ---- writing -------------------------------------------------------------------------------------------------------


async def test_what_is_open_is_not_written_over(folder: Path) -> None:
    data = folder / "mine.ev.npy"
    np.save(data, np.eye(8, dtype=np.float32))
    link = folder / "link.ev"
    os.link(data, link)
    async with running(data) as (app, pilot):
        await built(app, pilot)
        before = data.read_bytes()
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(link)
        for _ in range(2):
            await pilot.press("enter")
            await until(pilot, lambda: "is open here" in shown(app), "the refusal")
        await pilot.press("escape")
    assert data.read_bytes() == before


async def test_a_collection_in_the_way_is_named(animals: Path, folder: Path) -> None:
    with edgevec.open(folder / "notes.ev") as made:
        made.upsert([1], [[1.0, 0.0]])
    before = (folder / "notes.ev").read_bytes()
    async with running(animals) as (app, pilot):
        await built(app, pilot)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, PathDialog), "the question where to")
        app.screen.query_one(Input).value = str(folder / "notes.ev")
        await pilot.press("enter")
        await until(pilot, lambda: "exists and is a collection" in shown(app), "what it is")
        await pilot.press("escape")
    assert (folder / "notes.ev").read_bytes() == before


# ---- files that change ---------------------------------------------------------------------------------------------


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watch, "POLL_SECONDS", 0.05)


@pytest.mark.usefixtures("watchful")
async def test_an_index_that_was_replaced_is_noticed_and_read_again(folder: Path) -> None:
    path = folder / "mine.ev"
    index = edgevec.Index(4, "l2")
    index.add(np.eye(4, dtype=np.float32))
    index.save(path)
    async with running(path, notifications=True) as (app, pilot):
        await on_search(app, pilot)
        await pilot.pause(0.3)
        assert "changed on disk" not in shown(app)
        index.add(np.ones((3, 4), np.float32))
        index.save(path)
        await until(pilot, lambda: "mine.ev changed on disk: F6 reads it" in shown(app), "the notice")
        await pilot.press("f6")
        await until(pilot, lambda: len(app.session.backend) == 7, "the new index")
        await on_search(app, pilot)
        assert "changed on disk" not in shown(app)


@pytest.mark.usefixtures("watchful")
async def test_vectors_that_changed_are_noticed_and_own_saves_are_not(folder: Path, animals: Path) -> None:
    async with running(animals, size=(140, 40)) as (app, pilot):
        await built(app, pilot)
        app.screen._save(folder / "mine.ev")
        await until(pilot, lambda: not app.session.unsaved, "that it is saved")
        app.screen._save(folder / "mine.ev")
        await pilot.pause(0.5)
        assert app.session.changed is None
        animals.write_text(animals.read_text().replace("animal number", "beast number"))
        await until(pilot, lambda: "animals.jsonl changed on disk" in shown(app), "the notice")


@pytest.mark.usefixtures("watchful")
async def test_a_collection_is_noticed_when_replaced_and_not_when_written(small_notes: Path, folder: Path) -> None:
    async with running(small_notes) as (app, pilot):
        await on_search(app, pilot)
        with edgevec.open(small_notes) as made:
            made.upsert([4], [[1.0, 1.0, 1.0]], None, ["four newts"])
            made.checkpoint()
        await pilot.pause(0.5)
        assert app.session.changed is None
        with edgevec.open(folder / "new.edgevec") as made:
            made.upsert([9], [[1.0, 1.0, 1.0]], None, ["nine newts"])
        os.replace(folder / "new.edgevec", small_notes)
        await until(pilot, lambda: "notes.edgevec changed on disk" in shown(app), "the notice")


TAKE_LOCK = """
import sqlite3, sys
try:
    print(sqlite3.connect(sys.argv[1], timeout=0).execute("PRAGMA journal_mode = DELETE").fetchone()[0])
except sqlite3.OperationalError as error:
    print(error)
"""


def another_process_takes_it(path: Path) -> bool:
    """Whether SQLite, in a process of its own, finds that nobody else has the file open."""
    done = subprocess.run([sys.executable, "-c", TAKE_LOCK, str(path)], capture_output=True, text=True, check=True)
    return "locked" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
async def test_the_locks_of_an_open_collection_are_kept(small_notes: Path, folder: Path) -> None:
    with edgevec.open(small_notes) as made:
        made.upsert([4], [[1.0, 1.0, 1.0]], None, ["four newts"])
        assert not another_process_takes_it(small_notes)
        async with running(small_notes) as (app, pilot):
            await on_search(app, pilot)
            assert not another_process_takes_it(small_notes)
            app.open_file(small_notes)  # beside the connection that is open
            await until(pilot, lambda: app.current_mode == "search" and app.session.stamps, "that it is open again")
            await pilot.pause(0.2)
            assert not another_process_takes_it(small_notes)
            os.link(small_notes, folder / "notes.npy")
            await ask(app, pilot, "owls")
            app.screen.query_one("#query", Input).value = "@notes.npy 1"
            await until(pilot, lambda: "a collection, not a file of vectors" in told(app), "what it is")
            assert not another_process_takes_it(small_notes)
        assert not another_process_takes_it(small_notes)
        made.upsert([5], [[1.0, 1.0, 2.0]])


# ---- the window ----------------------------------------------------------------------------------------------------


def words(app: Any) -> str:
    """What is shown, as if the lines were one."""
    return " ".join(shown(app).split())


async def test_a_window_that_is_too_small_says_which_size_it_needs(sample_index: Path) -> None:
    async with running(sample_index, size=(40, 10), settings_file=knows(sample_index)) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        await until(pilot, lambda: "needs at least" in words(app), "the size it needs")
        assert "This window is 40 × 10" in words(app)
        assert "60 × 16" in words(app)
        for key, place in (("f1", "open"), ("f2", "data"), ("f4", "latency"), ("f5", "compare")):
            await pilot.press(key)
            await until(pilot, lambda place=place: app.current_mode == place, place)
            await until(pilot, lambda: "needs at least" in words(app), f"the size on {place}")
        await pilot.press("f3")
        await until(pilot, lambda: app.current_mode == "search", "the search screen again")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "needs at least" not in words(app) and "F1 Open" in shown(app), "the screen")
        await ask(app, pilot, "yellow fruit")
        assert "lemon" in shown(app)
        await pilot.press("f1")
        await until(pilot, lambda: app.current_mode == "open", "another screen")
        await pilot.resize_terminal(50, 12)
        await until(pilot, lambda: "This window is 50 × 12" in words(app), "the new size")
        await pilot.press("f3")
        await until(pilot, lambda: "This window is 50 × 12" in words(app), "it on a screen that was not shown")
        await pilot.resize_terminal(60, 16)
        await until(pilot, lambda: "needs at least" not in words(app) and "yellow" in shown(app), "what just fits")
