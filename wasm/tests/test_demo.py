"""The demo page in headless Chromium, used as a person would: typed, clicked, dropped into, reloaded."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import PATIENCE, SLOW, THERMOMETER, Demo, eventually, eventually_finds
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext, Route, expect

import edgevec

DEMO = Path(__file__).resolve().parent.parent / "demo"
ARTIFACTS = Path(__file__).resolve().parent / "artifacts"

# How many searches the worker had to do at once, at most, and how many in all.
WATCH_SEARCHES = """
    globalThis.searches = { most: 0, all: 0 };
    const waiting = new Set();
    globalThis.Worker = class extends Worker {
        constructor(...given) {
            super(...given);
            this.addEventListener("message", ({ data }) => waiting.delete(data.id));
        }
        postMessage(message, ...rest) {
            if (message.name === "search") {
                searches.all++;
                searches.most = Math.max(searches.most, waiting.add(message.id).size);
            }
            super.postMessage(message, ...rest);
        }
    };
"""


@cache
def wordnet() -> edgevec.samples.WordNet:
    return edgevec.samples.wordnet()


def nearest(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[int]:
    """By cosine, in float64 NumPy: rows, nearest first."""
    rows = vectors.astype(np.float64)
    near = rows @ query / np.linalg.norm(rows, axis=1)
    return np.argsort(-near, kind="stable")[:k].tolist()


def entries(text: str, k: int = 10, topic: str | None = None) -> list[int]:
    sample = wordnet()
    allowed = [i for i, held in enumerate(sample.topics) if topic in (None, held)]
    return [allowed[at] for at in nearest(sample.vectors[allowed], sample.encode(text), k)]


def test_a_first_visit(demo: Demo, context: BrowserContext, folder: Path, demo_address: str) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = demo.page
    held: list[Route] = []
    page.route("**/data/wordnet25k.npz", lambda route: held.append(route))
    page.goto(demo_address)
    total = sum(
        file["bytes"] for group in page.request.get(f"{demo_address}manifest.json").json().values() for file in group
    )
    sample = (folder / "some" / "where" / "data" / "wordnet25k.npz").stat().st_size
    expected = "\u202fMB of ".join(f"{bytes / 1e6:.1f}" for bytes in (total - sample, total)) + "\u202fMB"
    expect(page.locator("#loading-text")).to_have_text(expected, timeout=SLOW)
    held[0].continue_()
    demo.wait_until_built()
    eventually_finds(demo, entries(THERMOMETER))
    expect(page.get_by_role("searchbox")).to_be_focused()

    context.set_offline(True)
    demo.type("yellow fruit that monkeys like")
    wanted = entries("yellow fruit that monkeys like")
    eventually_finds(demo, wanted)
    first = page.locator("#results button").first.inner_text()
    word, _, definition = wordnet().texts[wanted[0]].partition(": ")
    assert word in first
    assert definition in first
    assert wordnet().topics[wanted[0]] in first
    exact = 1 - wordnet().vectors[demo.ids()] @ wordnet().encode("yellow fruit that monkeys like")
    assert demo.distances() == pytest.approx(exact, abs=1e-3)

    assert page.locator("#facts").inner_text().split("\n")[1] == "SIMD wasm128"
    facts = demo.facts()
    assert facts["rows"] == "25,000"
    assert "rows/s" in facts["build rate"]
    assert all(facts[name].endswith("MB") for name in ("index in memory", "worker's heap"))
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "demo.png", full_page=True)
    assert asked
    assert [url for url in asked if not url.startswith(demo_address)] == []


def test_filter_ef_and_k(sample_demo: Demo) -> None:
    demo = sample_demo
    page = demo.page
    options = page.get_by_label("Topic").locator("option")
    assert len(options.all()) == 46
    for topic in ("noun.plant", "noun.motive"):
        page.get_by_label("Topic").select_option(topic)
        eventually_finds(demo, entries(THERMOMETER, topic=topic))
    assert len(demo.ids()) == wordnet().topics.count("noun.motive") == 7
    page.get_by_label("Topic").select_option("")

    expect(page.locator("#p50")).to_have_text(re.compile("[µm]s"))
    for key, ef in (("Home", "10"), ("End", "1,000")):
        page.get_by_label("ef", exact=True).press(key)
        expect(page.locator("#ef-value")).to_have_text(ef)
    expect(page.locator("#recall")).to_have_text("100\u202f%")
    page.get_by_label("k", exact=True).press("End")
    eventually_finds(demo, entries(THERMOMETER, k=50))
    expect(page.locator("#recall-note")).to_contain_text("recall@50")


def test_figures_are_measured(sample_demo: Demo) -> None:
    demo = sample_demo
    recalls = []
    for key in ("Home", "End"):
        demo.page.get_by_label("ef", exact=True).press(key)
        demo.page.get_by_role("button", name="Measure 200 queries").click()
        eventually(lambda: demo.facts("latencies").get("searches"), "200", PATIENCE)
        recalls.append(float(demo.page.locator("#recall").inner_text().rstrip("\u202f%")))
        demo.page.get_by_label("k", exact=True).press("ArrowRight")  # starts the figures anew
        eventually(lambda: demo.facts("latencies").get("searches"), "1")
    assert recalls[0] < recalls[1] == 100
    assert demo.page.locator("#spark path").count() == 1


def test_typing_is_answered_and_never_queued(demo: Demo, demo_address: str) -> None:
    demo.page.add_init_script(WATCH_SEARCHES)
    demo.open(demo_address)
    text = "a large animal with a long trunk that lives in africa"
    demo.page.get_by_role("searchbox").fill("")
    demo.page.get_by_role("searchbox").press_sequentially(text)
    eventually_finds(demo, entries(text))
    searches = demo.page.evaluate("searches")
    assert searches["most"] == 1
    assert searches["all"] > 1
    demo.type("qwrtzx")
    expect(demo.page.get_by_role("status")).to_contain_text("no known word in the query 'qwrtzx'")
    demo.type("")
    eventually_finds(demo, [])


def test_the_keyboard_alone(sample_demo: Demo) -> None:
    demo = sample_demo
    page = demo.page
    wanted = entries(THERMOMETER)
    eventually_finds(demo, wanted)
    expect(page.get_by_role("searchbox")).to_be_focused()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#results button").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    sample = wordnet()
    around = nearest(sample.vectors, sample.vectors[wanted[1]], 11)
    eventually_finds(demo, [id for id in around if id != wanted[1]])
    expect(page.locator("#about")).to_contain_text(sample.texts[wanted[1]].partition(":")[0])
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("to walk slowly without purpose")
    eventually_finds(demo, entries("to walk slowly without purpose"))


def test_a_first_build_answers_while_it_runs_and_when_it_is_stopped(demo: Demo, demo_address: str) -> None:
    page = demo.page
    page.goto(demo_address)
    page.get_by_role("button", name="Stop").click(timeout=SLOW)
    demo.wait_until_built()
    rows, total = (int(number.replace(",", "")) for number in demo.facts()["rows"].split(" of "))
    assert 0 < rows < total == 25_000
    sample = wordnet()
    eventually_finds(demo, nearest(sample.vectors[:rows], sample.encode(THERMOMETER), 10))
    page.get_by_role("button", name="Build over all rows").click()
    demo.wait_until_built()
    eventually_finds(demo, entries(THERMOMETER))


def test_quantizations_are_built_and_a_build_can_be_stopped(demo: Demo, demo_address: str) -> None:
    demo.open(demo_address)
    page = demo.page
    eight_bit = demo.facts()
    page.get_by_label("1 bit").check()
    page.get_by_role("button", name="Stop").click()
    demo.wait_until_built()
    expect(page.get_by_label("8 bit")).to_be_checked()
    assert demo.facts() == eight_bit

    page.get_by_label("1 bit").check()
    expect(page.get_by_role("progressbar", name="Building the index")).to_be_visible()
    demo.type("yellow fruit that monkeys like")  # the old index answers meanwhile
    eventually_finds(demo, entries("yellow fruit that monkeys like"))
    expect(page.locator("#building")).to_be_visible()
    demo.wait_until_built()
    expect(page.get_by_label("1 bit")).to_be_checked()
    assert megabytes(demo.facts()["its codes"]) < megabytes(eight_bit["its codes"])
    page.get_by_label("float32").check()
    demo.wait_until_built()
    assert demo.facts()["its codes"] == "0\u202fB"
    eventually_finds(demo, entries("yellow fruit that monkeys like"))


def megabytes(text: str) -> float:
    return float(text.removesuffix("\u202fMB"))


def test_what_is_saved_outlives_a_reload(demo: Demo, demo_address: str) -> None:
    demo.open(demo_address)
    page = demo.page
    expect(page.locator("#saved-index")).to_contain_text("Nothing yet")
    expect(page.get_by_role("button", name="Restore")).to_be_disabled()
    page.get_by_label("1 bit").check()
    demo.wait_until_built()
    page.get_by_label("k", exact=True).press("Home")
    demo.type("a small house")
    eventually_finds(demo, entries("a small house", k=1))
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#saved-index")).to_contain_text("Saved just now: WordNet, 25,000 rows")

    page.reload()
    demo.wait_until_built()
    expect(page.locator("#saved-index")).to_contain_text("Restored from this browser")
    expect(page.get_by_role("searchbox")).to_have_value("a small house")
    expect(page.get_by_label("1 bit")).to_be_checked()
    eventually_finds(demo, entries("a small house", k=1))
    assert demo.facts()["built"] == "read from a file"

    page.get_by_label("float32").check()
    demo.wait_until_built()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_label("1 bit")).to_be_checked()
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#saved-index")).to_contain_text("Nothing yet")
    page.reload()
    demo.wait_until_built()
    expect(page.locator("#saved-index")).to_contain_text("Nothing yet")
    assert "rows/s" in demo.facts()["build rate"]


def test_full_storage_is_told_and_what_was_saved_stays(
    demo: Demo, context: BrowserContext, site: str, demo_address: str, tmp_path: Path
) -> None:
    # Before the first write, because Chromium remembers for a while how much room there was.
    demo.page.goto(demo_address)
    devtools = context.new_cdp_session(demo.page)
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": site.rstrip("/"), "quotaSize": 1_000_000})
    demo.wait_until_built()
    page = demo.page
    demo.choose_file(own_rows(tmp_path))
    eventually(lambda: page.locator("#dataset").inner_text(), "own.jsonl")
    demo.wait_until_built()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#saved-index")).to_contain_text("Saved just now: own.jsonl, 300 rows")
    page.get_by_role("button", name="WordNet sample").click()
    eventually(lambda: page.locator("#dataset").inner_text(), "WordNet")
    demo.wait_until_built()
    page.get_by_role("button", name="Save").click()
    assert "storage is full" in demo.notice()
    expect(page.locator("#saved-index")).to_contain_text("own.jsonl, 300 rows")
    page.reload()
    eventually(lambda: page.locator("#dataset").inner_text(), "own.jsonl", PATIENCE)
    expect(page.locator("#saved-index")).to_contain_text("Restored from this browser")


def own_rows(folder: Path) -> Path:
    """A file of 300 rows with ids, texts and topics; row i is number 1000 + i and called "thing i"."""
    vectors = np.random.default_rng(3).standard_normal((300, 24)).round(4)
    path = folder / "own.jsonl"
    rows = (
        {"id": 1000 + i, "vector": vector.tolist(), "text": f"thing {i}", "label": "odd" if i % 2 else "even"}
        for i, vector in enumerate(vectors)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_ones_own(demo: Demo, demo_address: str, tmp_path: Path) -> None:
    path = own_rows(tmp_path)
    vectors = np.array([json.loads(line)["vector"] for line in path.read_text().splitlines()], np.float32)
    demo.open(demo_address)
    page = demo.page
    demo.drop_file(path)
    eventually(lambda: page.locator("#dataset").inner_text(), "own.jsonl")
    demo.wait_until_built()
    eventually(lambda: len(demo.ids()), 10)  # the neighbors of a random row

    around = [1000 + i for i in nearest(vectors, vectors[17], 11)[1:]]
    for text in ("1017", "thing 17"):
        demo.type(text)
        eventually_finds(demo, around)
        expect(page.locator("#about")).to_contain_text("thing 17")
    demo.type(json.dumps(vectors[17].tolist()))
    eventually_finds(demo, [1017, *around[:9]])
    page.get_by_label("Topic").select_option("odd")
    eventually_finds(demo, [1001 + 2 * i for i in nearest(vectors[1::2], vectors[17], 10)])
    page.locator("#results button").nth(3).click()
    expect(page.locator("#about")).to_be_visible()
    demo.type("[1, 2, 3]")
    expect(page.get_by_role("status")).to_have_text("queries have 3 dimensions, the index has 24")

    page.get_by_label("Topic").select_option("")
    page.get_by_label("Metric").select_option("l2")
    demo.wait_until_built()
    demo.type("1017")
    squared = ((vectors - vectors[17]) ** 2).sum(axis=1)
    eventually_finds(demo, [1000 + i for i in np.argsort(squared).tolist()[1:11]])

    page.get_by_role("button", name="Save").click()
    expect(page.locator("#saved-index")).to_contain_text("own.jsonl, 300 rows")
    page.reload()
    eventually(lambda: page.locator("#dataset").inner_text(), "own.jsonl", PATIENCE)
    demo.type("thing 17")
    eventually_finds(demo, [1000 + i for i in np.argsort(squared).tolist()[1:11]])


def test_a_file_that_cannot_be_used_is_told_and_changes_nothing(sample_demo: Demo, tmp_path: Path) -> None:
    demo = sample_demo
    rows = np.ones((5, 4), np.float32)
    rows[3, 2] = np.nan
    files = {
        "nan.npy": ("row 3 of nan.npy holds NaN", rows),
        "zero.npy": ("row 1 of zero.npy is all zeros", np.eye(4, dtype=np.float32) * [[1], [0], [1], [1]]),
        "flat.npy": ("flat.npy", np.ones(5, np.float32)),
    }
    for name, (_, array) in files.items():
        np.save(tmp_path / name, array)
    (tmp_path / "ragged.jsonl").write_text('{"vector": [1, 2]}\n{"vector": [1, 2, 3]}\n')
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "torn.ev").write_bytes(b"\0" * 1000)
    messages = {name: message for name, (message, _) in files.items()}
    messages |= {"ragged.jsonl": "ragged.jsonl", "notes.txt": "unknown ending", "torn.ev": "torn.ev"}
    for name, message in messages.items():
        demo.choose_file(tmp_path / name)
        expect(demo.page.get_by_role("alert")).to_contain_text(f"{name} cannot be opened")
        expect(demo.page.get_by_role("alert")).to_contain_text(message)
        demo.page.get_by_role("button", name="Dismiss").click()
    demo.type("a small house")
    eventually_finds(demo, entries("a small house"))


def test_a_file_that_memory_cannot_hold_is_told_and_the_page_lives_on(
    demo: Demo, demo_address: str, tmp_path: Path
) -> None:
    path = tmp_path / "huge.npy"
    # A file of holes; as float32 it would take more than a 32-bit heap has addresses for.
    np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=(1_100_000, 1000))
    demo.open(demo_address)
    demo.choose_file(path)
    assert demo.notice().startswith("Not enough memory")
    demo.type("a small house")
    eventually_finds(demo, entries("a small house"))


def test_index_files_go_out_and_come_in(demo: Demo, demo_address: str, tmp_path: Path) -> None:
    demo.open(demo_address)
    page = demo.page
    with page.expect_download() as download:
        page.get_by_role("button", name="Export the index").click()
    assert download.value.suggested_filename == "wordnet-sq8.ev"
    index = edgevec.Index.load(download.value.path())
    sample = wordnet()
    assert len(index) == len(sample)
    query = sample.encode("a small house")
    assert index.search(query, ef=1000).ids.tolist() == entries("a small house")

    # Built natively over the same rows: the page knows their texts.
    own = edgevec.Index(sample.dim, quantization="binary")
    own.add(sample.vectors, sample.ids)
    own.save(tmp_path / "native.ev")
    demo.choose_file(tmp_path / "native.ev")
    expect(page.get_by_label("1 bit")).to_be_checked()
    assert page.locator("#dataset").inner_text() == "WordNet"
    demo.type("a small house")
    eventually_finds(demo, entries("a small house"))

    # Over other rows: numbers are all that is known.
    rows = np.random.default_rng(8).standard_normal((500, 128), dtype=np.float32)
    other = edgevec.Index(128, "l2")
    other.add(rows)
    other.save(tmp_path / "other.ev")
    demo.drop_file(tmp_path / "other.ev")
    eventually(lambda: page.locator("#dataset").inner_text(), "other.ev")
    demo.type("42")
    eventually_finds(demo, np.argsort(((rows - rows[42]) ** 2).sum(axis=1)).tolist()[1:11])
    expect(page.locator("#results button").first).to_contain_text("row ")


def test_a_file_that_is_missing_is_named(demo: Demo, demo_address: str) -> None:
    demo.page.route("**/data/wordnet25k.npz", lambda route: route.fulfill(status=404))
    demo.page.goto(demo_address)
    message = demo.notice()
    assert "data/wordnet25k.npz cannot be fetched: the server answers 404" in message
    demo.page.unroute("**/data/wordnet25k.npz")
    demo.page.get_by_role("button", name="Try again").click()
    demo.wait_until_built()
    eventually_finds(demo, entries(THERMOMETER))
    assert all("404" in error for error in demo.errors)  # the browser's own line about it
    demo.errors.clear()


def test_a_browser_without_simd_is_told(demo: Demo, demo_address: str) -> None:
    demo.page.add_init_script("WebAssembly.validate = () => false")
    demo.page.goto(demo_address)
    assert "needs WebAssembly SIMD" in demo.notice()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(sample_demo: Demo, scheme: Any) -> None:
    page = sample_demo.page
    before, devtools = page.viewport_size, page.context.new_cdp_session(page)
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        eventually_finds(sample_demo, entries(THERMOMETER))
        assert page.evaluate("matchMedia('(hover: none)').matches") is True
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"phone-{scheme}.png")
    finally:
        devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
        devtools.detach()
        page.emulate_media(color_scheme="null")
        page.set_viewport_size(before or {"width": 1280, "height": 720})


def test_serve_builds_the_folder_and_serves_it_with_the_types_that_browsers_want(tmp_path: Path) -> None:
    command = [sys.executable, DEMO.parent / "serve.py", "--port", "0", "--out", tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = next(line.split()[2] for line in process.stdout if " open http" in line)
            for path, kind in {
                "": "text/html",
                "app.mjs": "text/javascript",
                "pyodide/pyodide.asm.wasm": "application/wasm",
                "manifest.json": "application/json",
            }.items():
                with urllib.request.urlopen(address + path) as response:
                    assert response.headers.get_content_type() == kind
                    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        finally:
            process.terminate()


def test_serve_leaves_a_folder_with_other_things_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    command = [sys.executable, DEMO.parent / "serve.py", "--no-serve", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "holds other things than a demo" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks(scheme: str) -> None:
    colors = palette()[scheme]
    for ground, inks in {
        "paper": ("ink", "soft", "accent", "bad"),
        "sheet": ("ink", "accent"),
        "wash": ("ink", "soft", "accent"),
        "bad-wash": ("ink", "bad"),
        "accent": ("accent-ink",),
    }.items():
        for ink in inks:
            assert contrast(colors[ink], colors[ground]) >= 4.5, f"{ink} on {ground}"


def palette() -> dict[str, dict[str, str]]:
    style = (DEMO / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in re.findall(r":root {(.*?)}", style, re.S)
    )
    return {"light": light, "dark": light | dark}


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """Relative, as WCAG 2 defines it."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
