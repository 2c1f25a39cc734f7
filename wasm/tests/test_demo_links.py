"""What the demo page says of itself: its address, its conditions, its lines of Python, and what went wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import numpy as np
import pytest
from browsing import PATIENCE, SLOW, THERMOMETER, Demo, eventually, eventually_finds
from playwright.sync_api import Browser, BrowserContext, Route, expect
from test_demo import ARTIFACTS, entries, nearest, own_rows, wordnet

BIG = 2**53 + 1


def address_of(demo: Demo) -> dict[str, str]:
    """Asked of the page itself: what Playwright knows stands still while Python sleeps."""
    search = str(demo.page.evaluate("location.search"))
    return {name: values[0] for name, values in parse_qs(search[1:], keep_blank_values=True).items()}


def test_ids_of_64_bits_are_shown_opened_and_linked(demo: Demo, demo_address: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).standard_normal((40, 6)).astype(np.float32).round(3)
    ids = [*range(BIG, BIG + 76, 2), 2**63 - 1, -(2**63)]
    rows = ({"id": id, "vector": row.tolist(), "text": f"doc {id}"} for id, row in zip(ids, vectors, strict=True))
    (tmp_path / "big.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    demo.open(demo_address)
    demo.choose_file(tmp_path / "big.jsonl")
    eventually(lambda: demo.page.locator("#dataset").inner_text(), "big.jsonl", PATIENCE)
    demo.wait_until_built()
    for row in (7, 38, 39):
        around = [ids[at] for at in nearest(vectors, vectors[row], 11)[1:]]
        demo.type(str(ids[row]))
        eventually(demo.ids, around)
        expect(demo.page.locator("#results button").first).to_contain_text(f"doc {around[0]}")
        demo.page.locator("#results button").first.click()
        expect(demo.page.locator("#about")).to_contain_text(f"doc {around[0]}")
        eventually(lambda id=around[0]: address_of(demo).get("row"), str(around[0]))
    demo.page.get_by_label("Condition").fill(f"id = {BIG + 2}")
    eventually(demo.ids, [BIG + 2])
    demo.type(str(2**70))
    expect(demo.page.locator("#status")).to_contain_text(f"there is no row with the id {2**70}")


MISSING = {
    "pyodide/pyodide.asm.wasm": ("404", "dropped", "torn"),
    "pyodide/pyodide.asm.js": ("404",),
    "pyodide/numpy-*.whl": ("dropped", "page"),
    "manifest.json": ("404", "page"),
    "python/session.py": ("404",),
    "worker.mjs": ("404",),
    "download.mjs": ("dropped",),
    "app.mjs": ("404",),
    "metrics.mjs": ("dropped", "page"),
    "style.css": ("404",),
}


@pytest.mark.parametrize(("path", "how"), [(path, how) for path, hows in MISSING.items() for how in hows])
def test_a_file_that_does_not_arrive_is_named(demo: Demo, demo_address: str, path: str, how: str) -> None:
    def spoil(route: Route) -> None:
        if how == "404":
            route.fulfill(status=404, body="no such file")
        elif how == "dropped":
            route.abort("connectionreset")
        elif how == "page":  # what some servers send for all that they do not have
            route.fulfill(status=200, content_type="text/html", body="<!doctype html><p>Welcome</p>")
        else:
            whole = route.fetch()
            route.fulfill(status=200, headers={"content-type": "application/wasm"}, body=whole.body()[:100_000])

    demo.page.route(f"**/{path}", spoil)
    demo.page.goto(demo_address)
    notice = demo.page.get_by_role("alert").locator(".notice")
    expect(notice).to_contain_text("did not arrive", timeout=SLOW)
    expect(notice).to_contain_text(path.partition("*")[0])
    expect(notice.get_by_role("button", name="Try again")).to_be_visible()
    expect(demo.page.locator("#loading-bar")).to_be_hidden(timeout=SLOW) if path != "style.css" else None
    demo.errors.clear()  # the browser's own lines about it


def test_the_address_says_what_is_asked_and_back_works(demo: Demo, context: BrowserContext, demo_address: str) -> None:
    demo.open(demo_address)
    page = demo.page
    assert address_of(demo) == {"q": THERMOMETER, "k": "10", "ef": "64"}
    demo.type("yellow fruit")
    eventually(lambda: address_of(demo)["q"], "yellow fruit")
    page.get_by_label("Topic").select_option("noun.plant")
    eventually(lambda: address_of(demo).get("topic"), "noun.plant")
    page.get_by_label("Condition").fill("text LIKE '%tree%'")
    eventually(lambda: address_of(demo).get("where"), "text LIKE '%tree%'")
    page.get_by_label("k", exact=True).press("Home")
    eventually(lambda: address_of(demo)["k"], "1")
    expect(page.locator("#status")).to_contain_text("that pass", timeout=SLOW)
    eventually(lambda: len(demo.ids()), 1, PATIENCE)
    shown, link = demo.ids(), str(page.evaluate("location.href"))
    page.locator("#results button").first.click()
    eventually(lambda: address_of(demo).get("row"), str(shown[0]))

    other = Demo(context.new_page())
    other.open(link)
    expect(other.page.get_by_role("searchbox")).to_have_value("yellow fruit")
    expect(other.page.get_by_label("Topic")).to_have_value("noun.plant")
    expect(other.page.get_by_label("Condition")).to_have_value("text LIKE '%tree%'")
    expect(other.page.locator("#k-value")).to_have_text("1")
    eventually_finds(other, shown)
    assert other.errors == []
    other.page.close()

    page.go_back()
    eventually_finds(demo, shown)
    expect(page.get_by_role("searchbox")).to_have_value("yellow fruit")
    for _ in range(3):  # condition, topic, question
        page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value(THERMOMETER)
    expect(page.get_by_label("Condition")).to_have_value("")
    expect(page.get_by_label("Topic")).to_have_value("")


def test_what_is_wrong_in_an_address_is_named(demo: Demo, demo_address: str) -> None:
    wrong = {"row": "x", "k": "0", "ef": "1e9", "topic": "noun.nothing", "q": "a small house"}
    demo.open(f"{demo_address}?{urlencode(wrong)}")
    notice = demo.page.get_by_role("alert").locator(".notice.news")
    for text in ("row=x is not", "k=0 is not", "ef=1e9 is not", "no topic noun.nothing"):
        expect(notice).to_contain_text(text)
    eventually_finds(demo, entries("a small house"))
    assert address_of(demo) == {"q": "a small house", "k": "10", "ef": "64"}
    demo.page.goto(f"{demo_address}?q=thing&data=own.jsonl")
    demo.wait_until_built()
    expect(notice).to_contain_text("it is about own.jsonl, and what is open is WordNet")


def test_conditions_filter_and_are_explained_and_an_error_goes_away(sample_demo: Demo) -> None:
    demo = sample_demo
    page = demo.page
    sample = wordnet()
    page.get_by_label("Condition").fill("topic LIKE 'noun.%' AND text LIKE '%tree%' AND id > 100")
    passing = [
        at
        for at, text in enumerate(sample.texts)
        if sample.topics[at].startswith("noun.") and "tree" in text and at > 100
    ]
    near = [passing[at] for at in nearest(sample.vectors[passing], sample.encode(THERMOMETER), 10)]
    eventually_finds(demo, near, PATIENCE)
    expect(page.locator("#status")).to_contain_text(f"{len(passing)} that pass")
    page.get_by_label("Topic").select_option("noun.plant")
    plants = [at for at in passing if sample.topics[at] == "noun.plant"]
    expect(page.locator("#status")).to_contain_text(f"{len(plants)} that pass")

    page.get_by_label("Condition").fill("topic = ")
    error = page.locator("#where-error")
    expect(error).to_contain_text("topic = ")
    lines = error.inner_text().split("\n")
    assert lines[-1].strip() == "^"
    assert lines[-1].index("^") - lines[-2].index("topic") == len("topic = ")
    page.get_by_label("Condition").fill("")
    expect(error).to_be_hidden()

    page.get_by_label("Topic").select_option("")
    demo.choose_file(Path(__file__))
    expect(page.get_by_role("alert")).to_contain_text("cannot be opened")
    demo.type("a small house")
    expect(page.get_by_role("alert")).not_to_contain_text("cannot be opened")
    eventually_finds(demo, entries("a small house"))
    expect(page.locator("#legend")).to_contain_text(re.compile("Distance at the right, 1 . cos: lower is closer"))


def run_natively(program: str, folder: Path) -> list[str]:
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{program}\n{done.stderr}"
    return done.stdout.splitlines()


def test_the_lines_of_python_find_what_the_page_shows(demo: Demo, demo_address: str, tmp_path: Path) -> None:
    def check() -> None:
        program = demo.page.locator("#python").text_content() or ""
        wanted = [round(distance, 2) for distance in demo.distances()]
        found = [round(float(line.split()[0]), 2) for line in run_natively(program, tmp_path)]
        if "k=11" in program:  # the row itself is among them, unless the filter leaves it out
            found = (found[1:] if found[0] < 0.01 else found)[:10]
        assert len(found) == len(wanted) == 10
        assert sum(abs(one - other) < 0.02 for one, other in zip(found, wanted, strict=True)) >= 8, program

    demo.open(demo_address)
    page = demo.page
    eventually_finds(demo, entries(THERMOMETER))
    page.locator(".code summary").click()
    check()
    page.get_by_label("Topic").select_option("noun.plant")
    eventually_finds(demo, entries(THERMOMETER, topic="noun.plant"))
    check()
    page.get_by_label("Condition").fill("text LIKE '%tree%'")
    expect(page.locator("#status")).to_contain_text("that pass", timeout=SLOW)
    check()

    demo.choose_file(own_rows(tmp_path))
    eventually(lambda: page.locator("#dataset").inner_text(), "own.jsonl", PATIENCE)
    demo.wait_until_built()
    demo.type("1017")
    expect(page.locator("#about")).to_contain_text("thing 17")
    eventually(lambda: len(demo.ids()), 10)
    check()
    page.get_by_label("Topic").select_option("odd")
    expect(page.locator("#status")).to_contain_text("in odd")
    check()
    page.get_by_label("Condition").fill("id > 1100")
    expect(page.locator("#status")).to_contain_text("that pass")
    check()


def test_two_tabs_follow_one_another(demo: Demo, context: BrowserContext, demo_address: str, tmp_path: Path) -> None:
    demo.open(demo_address)
    other = Demo(context.new_page())
    other.open(demo_address)
    demo.choose_file(own_rows(tmp_path))
    eventually(lambda: demo.page.locator("#dataset").inner_text(), "own.jsonl", PATIENCE)
    demo.wait_until_built()
    demo.page.get_by_role("button", name="Save").click()
    expect(demo.page.locator("#saved-index")).to_contain_text("Saved just now: own.jsonl", timeout=SLOW)
    expect(other.page.locator("#saved-index")).to_contain_text("Saved by another tab just now: own.jsonl", timeout=SLOW)
    expect(other.page.get_by_role("alert")).to_contain_text("Another tab changed what is kept")
    other.page.get_by_role("button", name="Save").click()
    expect(other.page.locator("#saved-index")).to_contain_text("Saved just now: WordNet", timeout=SLOW)
    expect(demo.page.locator("#saved-index")).to_contain_text("Saved by another tab just now: WordNet", timeout=SLOW)
    other.page.get_by_role("button", name="Forget").click()
    expect(demo.page.locator("#saved-index")).to_contain_text("Nothing yet", timeout=SLOW)
    assert other.errors == []


def test_a_tab_that_did_not_hear_of_another_is_told_before_it_overwrites(
    demo: Demo, context: BrowserContext, demo_address: str, tmp_path: Path
) -> None:
    demo.page.add_init_script("globalThis.BroadcastChannel = class { postMessage() {} }")
    demo.open(demo_address)
    other = Demo(context.new_page())
    other.open(demo_address)
    other.choose_file(own_rows(tmp_path))
    eventually(lambda: other.page.locator("#dataset").inner_text(), "own.jsonl", PATIENCE)
    other.wait_until_built()
    other.page.get_by_role("button", name="Save").click()
    expect(other.page.locator("#saved-index")).to_contain_text("Saved just now: own.jsonl", timeout=SLOW)
    demo.page.get_by_role("button", name="Save").click()
    expect(demo.page.get_by_role("alert")).to_contain_text("Another tab was first", timeout=SLOW)
    expect(demo.page.locator("#saved-index")).to_contain_text("Saved by another tab just now: own.jsonl")
    demo.page.get_by_role("button", name="Save over it").click()
    expect(demo.page.locator("#saved-index")).to_contain_text("Saved just now: WordNet", timeout=SLOW)
    assert other.errors == []


def test_without_javascript_the_page_says_so_and_nothing_else(chromium: Browser, demo_address: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(demo_address)
    expect(page.locator("noscript .notice")).to_be_visible()
    expect(page.locator("noscript .notice")).to_contain_text("This page needs JavaScript.")
    assert "Starting" not in page.locator("body").inner_text()
    context.close()


@pytest.fixture(params=["light", "dark"])
def forced_colors(sample_demo: Demo, request: pytest.FixtureRequest) -> Iterator[str]:
    """The scheme, while the page is shown in the few colors that someone chose for all pages."""
    sample_demo.page.emulate_media(forced_colors="active", color_scheme=request.param)
    yield request.param
    sample_demo.page.emulate_media(forced_colors="null", color_scheme="null")


def test_forced_colors_leave_what_is_selected_and_the_bars_visible(sample_demo: Demo, forced_colors: str) -> None:
    demo = sample_demo
    eventually_finds(demo, entries(THERMOMETER))

    def style(selector: str, name: str) -> str:
        script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
        return str(demo.page.evaluate(script, [selector, name]))

    selected, other = (
        style(f".choice input{state} + span", "backgroundColor") for state in (":checked", ":not(:checked)")
    )
    assert selected != other
    for bar in (".far i", ".split i"):
        assert style(bar, "backgroundImage").startswith("linear-gradient")
        assert style(bar, "forcedColorAdjust") == "none"
    assert style("progress", "borderTopStyle") == "solid"
    ARTIFACTS.mkdir(exist_ok=True)
    demo.page.screenshot(path=ARTIFACTS / f"forced-{forced_colors}.png")
