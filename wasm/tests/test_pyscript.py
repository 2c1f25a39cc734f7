"""edgevec in PyScript, in the page and in a worker: on the Pyodide that it starts, with nothing from elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import SLOW, Tab
from build import built_wheel
from hosts.static_server import served
from playwright.sync_api import BrowserContext
from toolchain import pages
from toolchain.runtime import lock_entry
from website import build_newer_site

PAGES = Path(__file__).resolve().parent / "pages"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = build_newer_site(tmp_path_factory.mktemp("pyscript") / "site", pages.PYODIDE)
    shutil.copytree(pages.fetch_pyscript(), folder / "pyscript")
    for name in ("pyscript.html", "pyscript.py"):
        shutil.copy(PAGES / name, folder)
    config = {
        "interpreter": "./pyodide/pyodide.mjs",
        "packages": ["numpy", "cffi", f"./pyodide/{built_wheel(pages.PYODIDE).name}"],
    }
    (folder / "pyscript.json").write_text(json.dumps(config))
    with served(folder) as address:
        yield address


def test_the_page_and_a_worker_answer_as_numpy_does(context: BrowserContext, address: str) -> None:
    tab = Tab(context.new_page())
    outside: list[str] = []
    context.on("request", lambda request: outside.append(request.url) if not is_here(request.url, address) else None)
    for visit in ("first", "with PyScript's cache of packages"):
        tab.page.goto(f"{address}pyscript.html")
        for place in ("page", "worker"):
            tab.page.wait_for_function(f"document.querySelector('#{place}').textContent", timeout=SLOW)
            assert json.loads(tab.page.text_content(f"#{place}") or "") == {
                "numpy": lock_entry("numpy", pages.PYODIDE)["version"],
                "simd": "wasm128",
                "ids": True,
                "where": True,
                "count": True,
                "lark": False,
            }, (visit, place)
    assert tab.errors == []
    assert outside == []


def is_here(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))
