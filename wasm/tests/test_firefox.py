"""The demo page in headless Firefox, driven through Marionette, the protocol that every Firefox speaks by itself."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevec import samples

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the driver's own dependencies
    if os.environ.get("CI") != "true":
        pytest.importorskip("marionette_driver")
    from marionette_driver.marionette import Marionette

ARTIFACTS = Path(__file__).resolve().parent / "artifacts"
PATIENCE = 300
QUERY = "yellow fruit that monkeys like"


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Marionette]:
    """A session in a profile of its own, with empty storage."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Firefox is missing: python wasm/toolchain --browser")
        pytest.skip("Firefox is not installed")
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "user.js").write_text('user_pref("marionette.port", 0);\n')  # any that is free
    command = [program, "--headless", "--marionette", "--no-remote", "--profile", profile]
    with subprocess.Popen(command, env=os.environ | {"HOME": str(tmp_path)}, stderr=subprocess.DEVNULL) as process:
        try:
            port = profile / "MarionetteActivePort"
            eventually(lambda: port.exists() and port.read_text().isdigit(), True)
            session = Marionette(host="127.0.0.1", port=int(port.read_text()))
            session.start_session()
            yield session
            session.delete_session()
        finally:
            process.terminate()


def eventually(get: Callable[[], Any], wanted: Any) -> None:
    end = time.monotonic() + PATIENCE
    while get() != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert get() == wanted


def text(firefox: Marionette, selector: str) -> str:
    return str(firefox.execute_script("return document.querySelector(arguments[0]).textContent", [selector]))


def element(firefox: Marionette, selector: str) -> Any:
    return firefox.find_element("css selector", selector)


def ids(firefox: Marionette) -> list[int]:
    found = firefox.execute_script(
        "return [...document.querySelectorAll('#results button')].map((button) => Number(button.dataset.id))"
    )
    return list(found)


def facts(firefox: Marionette) -> dict[str, str]:
    rows = "[...document.querySelectorAll('#index-facts div')]"
    return dict(
        firefox.execute_script(f"return {rows}.map((row) => [...row.children].map((cell) => cell.textContent))")
    )


def finds(firefox: Marionette, wanted: list[int]) -> bool:
    """The nearest first, and of the others at least eight of ten: a walk of the graph may miss a few."""
    found = ids(firefox)
    return len(found) == len(wanted) and found[0] == wanted[0] and len({*found} & {*wanted}) >= 0.8 * len(wanted)


def test_build_search_save_and_reload(firefox: Marionette, demo_address: str) -> None:
    sample = samples.wordnet()
    wanted = (-sample.vectors @ sample.encode(QUERY)).argsort(kind="stable")[:10].tolist()
    firefox.navigate(demo_address)
    eventually(lambda: "rows/s" in facts(firefox).get("build rate", ""), True)
    assert "SIMD wasm128" in text(firefox, "#facts")

    field = element(firefox, "#query")
    field.clear()
    field.send_keys(QUERY)
    eventually(lambda: finds(firefox, wanted), True)
    element(firefox, "#save-index").click()
    eventually(lambda: text(firefox, "#saved-index").startswith("Saved just now: WordNet, 25,000 rows"), True)
    assert text(firefox, "#notices") == ""
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / "firefox.png").write_bytes(base64.b64decode(firefox.screenshot(full=False)))

    firefox.refresh()
    eventually(lambda: facts(firefox).get("built"), "read from a file")
    eventually(lambda: finds(firefox, wanted), True)
    assert text(firefox, "#saved-index").startswith("Restored from this browser")
    assert text(firefox, "#notices") == ""
