"""Files that outlive the page: the file system of Pyodide, kept in the browser's storage.

    from edgevec import Index, browser

    await browser.mount("/edgevec")             # once per page; brings back what was kept
    index = Index.load("/edgevec/notes.ev")     # IndexNotFoundError on the first visit
    index.save("/edgevec/notes.ev")             # into the page's memory
    await browser.persist()                     # into the browser's storage

A page has its files in memory, so `save()` alone does not outlive it. `persist()` keeps every file below the mounted
folders. When it fails, or the page is closed meanwhile, the files of the last successful one stay good. Pages of one
origin share the storage and the last to persist wins, even over files that it never saw: let one page at a time write.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .errors import EdgevecError, ParameterError, StorageError

__all__ = ["Storage", "mount", "persist"]

Storage = Literal["indexeddb", "opfs"]

_mounted: dict[str, Storage] = {}
_turn = asyncio.Lock()

# A rejection comes back as a value: Pyodide 0.27 waits forever for a promise that rejects with a DOMException.
_SETTLE = """(work) => async (...inputs) => {
    try {
        await work(...inputs);
        return { failure: "", message: "" };
    } catch (error) {
        return { failure: error?.name ?? "Error", message: String(error?.message ?? error) };
    }
}"""

_ATTACH = """async (FS, path, storage) => {
    if (storage === "indexeddb") {
        FS.mount(FS.filesystems.IDBFS, {}, path);
        return;
    }
    let folder = await navigator.storage.getDirectory();
    for (const name of path.split("/").filter(Boolean)) {
        folder = await folder.getDirectoryHandle(name, { create: true });
    }
    FS.mount(FS.filesystems.NATIVEFS_ASYNC, { fileSystemHandle: folder }, path);
}"""

# One folder alone: FS.syncfs takes them all, and reading would throw away what others have not persisted yet.
_SYNC = """(FS, path, read) => new Promise((resolve, reject) => {
    const { mount } = FS.lookupPath(path).node;
    mount.type.syncfs(mount, read, (error) => (error ? reject(error) : resolve()));
})"""

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


async def mount(path: str = "/edgevec", *, storage: Storage = "indexeddb") -> None:
    """Make the folder `path` one that `persist()` keeps, and bring back what it held.

    path     absolute, "/" excepted; made when it does not exist, else empty. It also names the place in the storage.
    storage  "indexeddb" is there in every page and worker. "opfs", the origin-private file system, is at its best in a
             worker and with big files. What is kept in one is not seen in the other.

    Mounting a folder twice does nothing. Raises EdgevecError outside Pyodide, ParameterError, and StorageError when the
    browser offers no such storage (some do not in private windows) or cannot read it.
    """
    files = _file_system()
    folder = PurePosixPath(path)
    if storage not in ("indexeddb", "opfs"):
        raise ParameterError(f"storage must be 'indexeddb' or 'opfs', not {storage!r}")
    if not folder.is_absolute() or folder == PurePosixPath("/") or ".." in folder.parts:
        raise ParameterError(f"path must be absolute and below '/', not {path!r}")
    name = str(folder)
    async with _turn:
        if _mounted.get(name) == storage:
            return
        if name in _mounted:
            raise ParameterError(f"{name} is mounted already, from {_mounted[name]}")
        await _attach(files, name, storage)
        _mounted[name] = storage


async def persist() -> None:
    """Keep every file below the mounted folders. Once this returns, they outlive a reload and a crash of the browser.

    Raises StorageError when the storage is full or the browser refuses; what was kept before stays as it was.
    """
    files = _file_system()
    if not _mounted:
        raise StorageError("no folder is mounted: await edgevec.browser.mount() first")
    async with _turn:
        for path, storage in _mounted.items():
            await _run(_SYNC, files, path, False)
            if storage == "indexeddb":
                await _run(_FLUSH, path)


def _file_system() -> Any:
    if sys.platform != "emscripten":
        raise EdgevecError("edgevec.browser works in Pyodide; elsewhere, files outlive the program by themselves")
    return importlib.import_module("pyodide_js").FS


async def _attach(files: Any, path: str, storage: Storage) -> None:
    if not _offers(storage):
        raise StorageError(f"this JavaScript engine offers no {storage} storage")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ParameterError(f"{path} is not empty: what it holds would be hidden")
    await _run(_ATTACH, files, path, storage)
    try:
        await _run(_SYNC, files, path, True)
    except StorageError:
        files.unmount(path)
        raise


def _offers(storage: Storage) -> bool:
    js = importlib.import_module("js")
    if storage == "indexeddb":
        return hasattr(js, "indexedDB")
    return hasattr(js, "navigator") and hasattr(getattr(js.navigator, "storage", None), "getDirectory")


async def _run(function: str, *inputs: Any) -> None:
    """Run an asynchronous JavaScript function; its failure becomes a StorageError."""
    run_js = importlib.import_module("pyodide.code").run_js
    outcome = await run_js(_SETTLE)(run_js(function))(*inputs)
    if outcome.failure == "QuotaExceededError":
        raise StorageError("the browser's storage is full; what it held before is untouched")
    if outcome.failure:
        raise StorageError(f"the browser's storage failed: {outcome.failure}: {outcome.message}")
