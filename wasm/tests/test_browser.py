"""edgevec in headless Chromium: in the page and in a worker, with files that outlive both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PLACES = ("page", "worker")


class Visit:
    """One open page. What it prints as an error fails the test that caused it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.errors: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def run(self, code: str, place: str = "page") -> Any:
        """Run Python; the value of its last expression, by way of JSON."""
        script = f"import json\n{code}"
        head, _, last = script.strip().rpartition("\n")
        result = self.page.evaluate(f"code => runIn.{place}(code)", f"{head}\njson.dumps({last})")
        return json.loads(result)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser profile of its own, with empty storage."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def visit(context: BrowserContext, site: str) -> Iterator[Visit]:
    visit = Visit(context.new_page(), site)
    yield visit
    assert visit.errors == []


MOUNT = """
from pathlib import Path
from edgevec import browser
await browser.mount("/edgevec", storage="{storage}")
kept = Path("/edgevec/notes")
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("storage", ["indexeddb", "opfs"])
def test_files_outlive_a_reload_once_persisted(visit: Visit, storage: str, place: str) -> None:
    mount = MOUNT.format(storage=storage)
    assert visit.run(mount + "kept.exists()", place) is False
    visit.run(mount + "kept.write_text('first')\nawait browser.persist()\nkept.write_text('second')", place)
    visit.page.reload()
    assert visit.run(mount + "kept.read_text()", place) == "first"
    visit.run("kept.unlink()\nawait browser.persist()", place)
    visit.page.reload()
    assert visit.run(mount + "kept.exists()", place) is False


@pytest.mark.parametrize("storage", ["indexeddb", "opfs"])
def test_full_storage_is_an_error_and_old_files_stay(visit: Visit, context: BrowserContext, storage: str) -> None:
    mount = MOUNT.format(storage=storage)
    # Before the first write, because Chromium remembers for a while how much room there was.
    devtools = context.new_cdp_session(visit.page)
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": visit.address.rstrip("/"), "quotaSize": 100_000})
    visit.run(mount + "kept.write_bytes(b'old' * 1000)\nawait browser.persist()")
    message = visit.run(
        "kept.write_bytes(bytes(range(256)) * 4000)\n"
        "message = None\n"
        "try:\n"
        "    await browser.persist()\n"
        "except OSError as error:\n"
        "    message = f'{type(error).__name__}: {error}'\n"
        "message"
    )
    assert message == "StorageError: the browser's storage is full; what it held before is untouched"
    visit.page.reload()
    assert visit.run(mount + "kept.read_bytes() == b'old' * 1000") is True
