"""The demo page on a machine that stands still for a while, has no memory left, or whose worker breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import THERMOMETER, Demo, eventually, eventually_finds
from hypothesis import example, given
from hypothesis import strategies as st
from playwright.sync_api import expect
from test_demo import entries

DEMO = Path(__file__).resolve().parent.parent / "demo"

# The clock that Python's is made of jumps by a second whenever it is read, for some thousand times.
JUMPING_CLOCK = """() => {
    const now = performance.now.bind(performance);
    let jumps = 0;
    performance.now = () => now() + 1000 * Math.min(++jumps, 4000);
}"""
MEMORY_DOES_NOT_GROW = """() => {
    WebAssembly.Memory.prototype.grow = () => { throw new RangeError("no more of it"); };
}"""
SOMETHING_FAILS_BETWEEN_CALLS = """() => { Promise.reject(new Error("the loop of events broke")); }"""


def test_a_machine_that_stood_still_builds_on(demo: Demo, demo_address: str) -> None:
    demo.open(demo_address)
    demo.page.workers[0].evaluate(JUMPING_CLOCK)
    demo.page.get_by_label("float32").check()
    demo.wait_until_built()
    assert demo.facts()["rows"] == "25,000"
    assert demo.facts()["its codes"] == "0\u202fB"


@example(1, 60.0, 0.03)
@given(st.integers(1, 10**6), st.floats(0, 1e6), st.floats(0.001, 1))
def test_the_next_step_has_rows(step: int, took: float, wanted: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DEMO / "python"))
        from timing import next_step

    rows = next_step(step, took, wanted)
    assert 1 <= rows <= 2 * step
    assert rows >= step // 2


def test_memory_that_does_not_grow_is_told_and_the_old_index_answers_on(demo: Demo, demo_address: str) -> None:
    demo.open(demo_address)
    before = demo.facts()
    demo.page.workers[0].evaluate(MEMORY_DOES_NOT_GROW)
    demo.page.get_by_label("1 bit").check()
    assert demo.notice().startswith("Not enough memory")
    expect(demo.page.locator("#building")).to_be_hidden()
    expect(demo.page.get_by_label("8 bit")).to_be_checked()
    assert demo.facts() == before
    demo.type("a small house")
    eventually_finds(demo, entries("a small house"))


def test_a_worker_that_breaks_is_told_whatever_is_asked_next(demo: Demo, demo_address: str) -> None:
    demo.open(demo_address)
    page = demo.page
    page.get_by_label("1 bit").check()
    expect(page.get_by_role("progressbar", name="Building the index")).to_be_visible()
    page.workers[0].evaluate(SOMETHING_FAILS_BETWEEN_CALLS)
    assert "the loop of events broke" in demo.notice()
    expect(page.locator("#building")).to_be_hidden()
    eventually(lambda: ["the loop of events broke" in error for error in demo.errors], [True])
    demo.errors.clear()

    page.get_by_role("button", name="Dismiss").click()
    demo.type("a small house")
    assert "the loop of events broke" in demo.notice()
    page.get_by_role("button", name="Start again").click()
    demo.wait_until_built()
    demo.type(THERMOMETER)
    eventually_finds(demo, entries(THERMOMETER))
