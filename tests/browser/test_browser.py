"""edgevec.browser where there is no browser; with one it is tested in wasm/tests."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from edgevec import EdgevecError, ParameterError, StorageError, browser

in_pyodide = pytest.mark.skipif(sys.platform != "emscripten", reason="edgevec.browser refuses everything elsewhere")


def start(call: Coroutine[Any, Any, None]) -> None:
    """Run a call up to where it would wait for the first time."""
    try:
        call.send(None)
    finally:
        call.close()


@pytest.mark.skipif(sys.platform == "emscripten", reason="this is Pyodide")
@pytest.mark.parametrize("call", [browser.mount, browser.persist])
def test_outside_pyodide_it_says_so(call: Any) -> None:
    with pytest.raises(EdgevecError, match="works in Pyodide"):
        start(call())


@in_pyodide
@pytest.mark.parametrize("storage", ["indexeddb", "opfs"])
def test_an_engine_without_storage_is_a_clear_error(storage: browser.Storage) -> None:
    with pytest.raises(StorageError, match="offers no"):
        start(browser.mount("/nothing", storage=storage))


@in_pyodide
def test_persisting_without_a_folder_is_a_clear_error() -> None:
    with pytest.raises(StorageError, match="mount"):
        start(browser.persist())


@in_pyodide
@pytest.mark.parametrize("path", ["", "notes", "/", "/a/../b"])
def test_only_absolute_folders_are_mounted(path: str) -> None:
    with pytest.raises(ParameterError, match="absolute"):
        start(browser.mount(path))


@in_pyodide
def test_unknown_storage_is_refused() -> None:
    with pytest.raises(ParameterError, match="indexeddb"):
        start(browser.mount(storage="disk"))  # type: ignore[arg-type]
