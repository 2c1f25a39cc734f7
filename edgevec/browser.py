"""Files that outlive the page: the file system of Pyodide, kept in the browser's storage.

    from edgevec import Index, browser

    await browser.mount("/edgevec")             # once per page; brings back what was kept
    index = Index.load("/edgevec/notes.ev")     # IndexNotFoundError on the first visit
    index.save("/edgevec/notes.ev")             # into the page's memory
    await browser.persist()                     # into the browser's storage

A page has its files in memory, so `save()` alone does not outlive it. `persist()` keeps every file below the mounted
folders. When it fails, or the page is closed meanwhile, the files of the last successful one stay good. Pages of one
origin share the storage and the last to persist wins, even over files that it never saw, so let one page at a time write.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import PurePosixPath
from typing import Any, Literal

from .errors import EdgevecError, ParameterError, StorageError

__all__ = ["Storage", "mount", "persist"]

Storage = Literal["indexeddb", "opfs"]

_mounted: dict[str, Storage] = {}
_turn = asyncio.Lock()

_SYNC = """(FS, populate) => new Promise((resolve, reject) =>
    FS.syncfs(populate, (error) => (error ? reject(error) : resolve())))"""

# A browser calls a transaction complete before it is on the disk, unless asked to be strict, which Emscripten does not.
# A strict one in the same database takes everything before it along. Its record has no timestamp, and so is no file.
_FLUSH = """(path) => new Promise((resolve, reject) => {
    const opened = indexedDB.open(path);
    opened.onerror = () => reject(opened.error);
    opened.onsuccess = () => {
        const database = opened.result;
        const transaction = database.transaction(["FILE_DATA"], "readwrite", { durability: "strict" });
        transaction.objectStore("FILE_DATA").put({}, "flushed");
        transaction.oncomplete = () => { database.close(); resolve(); };
        transaction.onabort = () => { database.close(); reject(transaction.error); };
    };
})"""

_OPFS = """async (path) => {
    let folder = await navigator.storage.getDirectory();
    for (const name of path.split("/").filter(Boolean)) {
        folder = await folder.getDirectoryHandle(name, { create: true });
    }
    return folder;
}"""


async def mount(path: str = "/edgevec", *, storage: Storage = "indexeddb") -> None:
    """Make the folder `path` one that `persist()` keeps, and bring back what it held.

    path     absolute, "/" excepted; made when it does not exist, else empty. It also names the place in the storage.
    storage  "indexeddb" is there in every page and worker. "opfs", the origin-private file system, is at its best in a
             worker and with big files. What is kept in one is not seen in the other.

    Mounting a folder twice does nothing. Raises EdgevecError outside Pyodide, ParameterError, and StorageError when the
    browser offers no such storage (some do not in private windows) or cannot read it.
    """
    pyodide = _pyodide()
    folder = PurePosixPath(path)
    if storage not in ("indexeddb", "opfs"):
        raise ParameterError(f"storage must be 'indexeddb' or 'opfs', not {storage!r}")
    if not folder.is_absolute() or folder == PurePosixPath("/") or ".." in folder.parts:
        raise ParameterError(f"path must be absolute and below '/', not {path!r}")
    async with _turn:
        name = str(folder)
        if name in _mounted:
            if _mounted[name] != storage:
                raise ParameterError(f"{name} is mounted already, from {_mounted[name]}")
            return
        await _attach(pyodide, name, storage)
        _mounted[name] = storage


async def persist() -> None:
    """Keep every file below the mounted folders. Once this returns, they are there after a reload or a crash.

    Raises StorageError when the storage is full or the browser refuses; what was kept before stays as it was.
    """
    pyodide = _pyodide()
    if not _mounted:
        raise StorageError("no folder is mounted: await edgevec.browser.mount() first")
    async with _turn:
        await _call(_SYNC, pyodide.FS, False)
        for path, storage in _mounted.items():
            if storage == "indexeddb":
                await _call(_FLUSH, path)


def _pyodide() -> Any:
    if sys.platform != "emscripten":
        raise EdgevecError("edgevec.browser works in Pyodide; elsewhere, files outlive the program by themselves")
    return importlib.import_module("pyodide_js")


async def _attach(pyodide: Any, path: str, storage: Storage) -> None:
    if not _offers(storage):
        raise StorageError(f"this JavaScript engine offers no {storage} storage")
    if storage == "opfs":
        await _guard(pyodide.mountNativeFS(path, await _call(_OPFS, path)))
        return
    pyodide.FS.mkdirTree(path)
    pyodide.FS.mount(pyodide.FS.filesystems.IDBFS, importlib.import_module("js").Object.new(), path)
    try:
        await _call(_SYNC, pyodide.FS, True)
    except StorageError:
        pyodide.FS.unmount(path)
        raise


def _offers(storage: Storage) -> bool:
    js = importlib.import_module("js")
    if storage == "indexeddb":
        return hasattr(js, "indexedDB")
    return hasattr(js, "navigator") and hasattr(getattr(js.navigator, "storage", None), "getDirectory")


async def _call(function: str, *arguments: Any) -> Any:
    return await _guard(importlib.import_module("pyodide.code").run_js(function)(*arguments))


async def _guard(promise: Any) -> Any:
    """Await a promise; its rejection becomes a StorageError."""
    try:
        return await promise
    except importlib.import_module("pyodide.ffi").JsException as error:
        name = getattr(error, "name", "")
        if name == "QuotaExceededError":
            raise StorageError("the browser's storage is full; what it held before is untouched") from error
        raise StorageError(f"the browser's storage failed: {error}") from error
