from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browsing import Demo, Visit
    from playwright.sync_api import Browser, BrowserContext

HERE = Path(__file__).resolve().parent
# The scripts beside this folder import one another by name.
sys.path.insert(0, str(HERE.parent))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the loopback server serves: the test page, Pyodide and the built wheel."""
    from browsing import PYODIDE
    from toolchain import runtime
    from website import build_newer_site, build_site

    folder = tmp_path_factory.mktemp("site") / "site"
    if PYODIDE == runtime.PYODIDE:
        build_site(folder)
    else:
        build_newer_site(folder, PYODIDE)
    shutil.copytree(HERE / "pages", folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def site(folder: Path) -> Iterator[str]:
    """The address of that folder."""
    from hosts.static_server import served

    with served(folder) as address:
        yield address


@pytest.fixture(scope="session")
def demo_address(site: str, folder: Path) -> str:
    """The demo page, hosted somewhere below the root."""
    from website import build_demo

    build_demo(folder / "some" / "where")
    return f"{site}some/where/"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    from hosts.chromium import launch
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
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
    from browsing import Visit

    visit = Visit(context.new_page(), site)
    yield visit
    assert visit.errors == []


@pytest.fixture
def demo(context: BrowserContext) -> Iterator[Demo]:
    """The demo page, not opened yet."""
    from browsing import Demo

    demo = Demo(context.new_page())
    yield demo
    assert demo.errors == []


class SharedPage:
    """One demo page that many tests use in turn; replaced when one leaves it otherwise than it was."""

    def __init__(self, chromium: Browser, address: str) -> None:
        self._chromium, self._address = chromium, address
        self._demo: Demo | None = None
        self._facts: dict[str, str] = {}

    def open(self) -> Demo:
        from browsing import Demo

        if self._demo is None:
            self._demo = Demo(self._chromium.new_context().new_page())
            self._demo.open(self._address)
            self._facts = self._demo.facts()
        return self._demo

    def close(self) -> None:
        if self._demo is not None:
            self._demo.page.context.close()
            self._demo = None

    def is_as_it_was(self) -> bool:
        return self._demo is not None and self._demo.facts() == self._facts and not self._demo.errors


@pytest.fixture(scope="session")
def shared_page(chromium: Browser, demo_address: str) -> Iterator[SharedPage]:
    page = SharedPage(chromium, demo_address)
    yield page
    page.close()


@pytest.fixture
def sample_demo(shared_page: SharedPage) -> Iterator[Demo]:
    """The demo page with the sample open, as after a first visit, for tests that leave data and index as they are."""
    demo = shared_page.open()
    demo.start_over()
    try:
        yield demo
        assert demo.errors == []
    finally:
        if not shared_page.is_as_it_was():
            shared_page.close()
