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
    from website import build_site

    folder = build_site(tmp_path_factory.mktemp("site") / "site")
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
