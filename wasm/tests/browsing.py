"""A page that is open in a browser, for tests to use."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import ConsoleMessage, Page, expect
from toolchain import runtime

PYODIDE = os.environ.get("EDGEVEC_PYODIDE", runtime.PYODIDE)
"""Which one the test page starts."""
THERMOMETER = "device for measuring temperature"
"""What the page asks first."""
PATIENCE = 300
"""Seconds. Only a failing test waits so long, and a busy machine fails none."""
SLOW = 1000 * PATIENCE
expect.set_options(timeout=SLOW)


class Tab:
    """One page. What it prints as an error fails the test that caused it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        url = message.location["url"]
        # the tab's icon is fetched when the browser has time, which may be after a test has gone offline
        is_late_icon = url.endswith("/icon.svg") and "ERR_INTERNET_DISCONNECTED" in message.text
        if message.type == "error" and not is_late_icon:
            self.errors.append(f"{message.text} ({url})")


class Visit(Tab):
    """The test page, which runs Python in itself and in a worker."""

    def __init__(self, page: Page, address: str) -> None:
        super().__init__(page)
        self.address = address
        page.goto(address)

    def run(self, code: str, place: str = "page") -> Any:
        """Run Python; the value that it leaves in `result`, by way of JSON."""
        program = f"import json\nresult = None\n{dedent(code)}\njson.dumps(result)"
        # A rejected promise would be waited for, but a page that never answers should fail here and not hang.
        answer = self.page.evaluate(
            """([place, program, seconds]) => Promise.race([
                runIn[place](program),
                new Promise((_, reject) => setTimeout(() => reject(new Error("no answer")), 1000 * seconds)),
            ])""",
            [place, program, PATIENCE],
        )
        return json.loads(answer)


class Demo(Tab):
    """The page as a person sees it."""

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.wait_until_built()

    def start_over(self) -> None:
        """Ask the first question again, with the settings of a first visit, as Back in the history would."""
        query = urlencode({"q": THERMOMETER, "k": 10, "ef": 64})
        self.page.evaluate(
            """(query) => {
                history.pushState(null, "", `?${query}`);
                dispatchEvent(new PopStateEvent("popstate"));
            }""",
            query,
        )
        self.page.get_by_role("searchbox").focus()

    def wait_until_built(self) -> None:
        expect(self.page.locator("#index-facts dd").first).to_be_visible(timeout=SLOW)
        expect(self.page.locator("#building")).to_be_hidden(timeout=SLOW)

    def type(self, text: str) -> None:
        self.page.get_by_role("searchbox").fill(text)

    def ids(self) -> list[int]:
        buttons = self.page.locator("#results:not(.stale) button")
        return [int(id) for id in buttons.evaluate_all("all => all.map((button) => button.dataset.id)")]

    def distances(self) -> list[float]:
        return [float(text) for text in self.page.locator("#results .far span").all_inner_texts()]

    def facts(self, of: str = "index-facts") -> dict[str, str]:
        rows = self.page.locator(f"#{of} div").evaluate_all(
            "all => all.map((row) => [...row.children].map(e => e.textContent))"
        )
        return dict(rows)

    def choose_file(self, path: Path) -> None:
        self.page.get_by_label("Open a file").set_input_files(path)

    def drop_file(self, path: Path) -> None:
        transfer = self.page.evaluate_handle(
            """([name, bytes]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([Uint8Array.from(bytes)], name));
                return transfer;
            }""",
            [path.name, list(path.read_bytes())],
        )
        for event in ("dragover", "drop"):
            self.page.dispatch_event("body", event, {"dataTransfer": transfer})

    def notice(self) -> str:
        notice = self.page.get_by_role("alert").locator(".notice p")
        expect(notice).to_be_visible(timeout=SLOW)
        return notice.inner_text()


def eventually(get: Callable[[], Any], wanted: Any, seconds: float = PATIENCE) -> None:
    """Assert that what the page shows becomes what is wanted."""
    end = time.monotonic() + seconds
    while get() != wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert get() == wanted


def as_good(found: list[int], wanted: list[int]) -> bool:
    """As many as wanted, in order; a walk of the graph may miss a few of them."""
    missed = [id for id in wanted if id not in found]
    kept = [id for id in wanted if id in found]
    return len(found) == len(wanted) and len(missed) <= len(wanted) // 5 and [id for id in found if id in kept] == kept


def eventually_finds(demo: Demo, wanted: list[int], seconds: float = PATIENCE) -> None:
    """Assert that the results which the page shows become the ones wanted."""
    end = time.monotonic() + seconds
    while not as_good(demo.ids(), wanted) and time.monotonic() < end:
        time.sleep(0.05)
    found = demo.ids()
    assert as_good(found, wanted), f"{found} for {wanted}"
