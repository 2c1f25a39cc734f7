"""edgevec in JupyterLite: `%pip install` of the wheel, and an index and a collection that outlive a reload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from browsing import SLOW
from hosts.static_server import served
from playwright.sync_api import BrowserContext
from toolchain import pages
from website import build_notebooks

START = """%pip install edgevec
import numpy as np, edgevec
from edgevec import browser
rows = np.random.default_rng(7).standard_normal((2000, 32), dtype=np.float32)
allowed = [row for row in range(2000) if row % 120 > 100 and row % 120 != 105]
nearest = min(allowed, key=lambda row: ((rows[row] - rows[0]) ** 2).sum())
await browser.mount("/edgevec")
"""
FIRST = """
index = edgevec.Index(32, "l2")
index.add(rows)
index.save("/edgevec/rows.ev")
with edgevec.open("/edgevec/notes.edgevec", dim=32, metric="l2") as notes:
    notes.upsert(range(2000), rows, [{"year": 1900 + row % 120} for row in range(2000)])
await browser.persist()
"""
END = """
index = edgevec.Index.load("/edgevec/rows.ev")
with edgevec.open("/edgevec/notes.edgevec") as notes:
    hit = notes.search(rows[0], 1, where="year > 2000 AND NOT year = 2005")[0]
found = index.search(rows[:5], k=1, ef=200).ids[:, 0].tolist()
print("visit {visit}:", found, hit.id == nearest)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("jupyterlite_pyodide_kernel")
    with served(build_notebooks(tmp_path_factory.mktemp("jupyterlite") / "site", pages.PYODIDE)) as address:
        yield address


def test_what_was_kept_is_there_after_a_reload(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    outside: list[str] = []
    here = (address, "data:", "blob:")
    context.on("request", lambda request: None if request.url.startswith(here) else outside.append(request.url))
    for visit, program in enumerate((START + FIRST, START)):
        query = urlencode({"kernel": "python", "code": program + END.replace("{visit}", str(visit))})
        page.goto(f"{address}repl/index.html?{query}")
        printed = page.locator(".jp-OutputArea-output").last
        printed.filter(has_text=re.compile(r"visit \d:|Error")).wait_for(timeout=SLOW)
        assert printed.inner_text().strip() == f"visit {visit}: [0, 1, 2, 3, 4] True"
    assert outside == []
