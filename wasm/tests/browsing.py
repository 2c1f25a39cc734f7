"""A page that is open in a browser, for tests to use."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

from playwright.sync_api import ConsoleMessage, Page

PATIENCE = 120


class Tab:
    """One page. What it prints as an error fails the test that caused it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


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
