"""Files that outlive the page: Pyodide's file system, kept in the browser's storage.

A page has its files in memory, so `Index.save` alone does not outlive it. `persist` writes every file below the mounted
folders to the storage. When it fails, or the page is closed meanwhile, the files of the last successful call stay good.

Pages of one origin share the storage and take turns (Web Locks). `persist` writes the files that this page changed and
reads those that others have persisted since; a file that both changed is a `ConflictError`, and then nothing was
written. `refresh` only reads. An open index does not follow its file: load it again.

Example:
    In Pyodide, where `await` may stand at the top level::

        from edgevec import Index, browser

        await browser.mount("/edgevec")             # once per page; brings back what was persisted
        index = Index.load("/edgevec/notes.ev")     # IndexNotFoundError on the first visit
        index.save("/edgevec/notes.ev")             # into the page's memory
        await browser.persist()                     # into the browser's storage
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .errors import EdgevecError, ParameterError, StorageError

__all__ = ["ConflictError", "Storage", "mount", "persist", "refresh"]

Storage = Literal["indexeddb", "opfs"]


class ConflictError(StorageError):
    """A file was changed here and persisted by another page meanwhile.

    Attributes:
        paths: All such files, as absolute paths.

    Example:
        Ask the user, then let this page's files win::

            try:
                await browser.persist()
            except browser.ConflictError as error:
                if confirm(f"Overwrite {error.paths}?"):
                    await browser.persist(overwrite=True)
    """

    def __init__(self, paths: list[str]) -> None:
        super().__init__(
            f"{', '.join(paths)}: changed here, and by another page that persisted it first; nothing was written"
        )
        self.paths = paths


_mounted: dict[str, Storage] = {}
_lock = asyncio.Lock()

# A rejection comes back as a value: Pyodide 0.27 waits forever for a promise that rejects with a DOMException.
_SETTLE = """(work) => async (...inputs) => {
    try {
        return { failure: "", message: "", value: await work(...inputs) };
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

# One folder at a time: FS.syncfs takes them all, and reading would discard what other folders have not persisted yet.
#
# `seen` holds the times (ms, by path) of both sides when they were last equal: a path whose time differs has changed.
# A folder counts as changed only when it appears or disappears, since its time follows what is in it.
_EXCHANGE = """async (FS, list, write, overwrite) => {
    const FUTURE = new Date(8.64e15);  // Emscripten copies what differs, Pyodide what is newer
    const withLock = (work) => globalThis.navigator?.locks ? navigator.locks.request("edgevec.browser", work) : work();
    const ask = (mount, name, ...inputs) => new Promise((resolve, reject) => {
        const { type } = mount;
        const settle = (error, value) => (error ? reject(error) : resolve(value));
        if (type === FS.filesystems.IDBFS) type[name](...inputs, settle);
        else Promise.resolve(type[name](...(name === "reconcile" ? [mount, ...inputs] : inputs))).then(resolve, reject);
    });
    const both = async (mount) => [await ask(mount, "getLocalSet", mount), await ask(mount, "getRemoteSet", mount)];
    const times = ({ entries }) =>
        new Map(Object.entries(entries).map(([path, { timestamp }]) => [path, timestamp.getTime()]));
    const remember = (mount, local, remote) => {
        const folders = Object.keys(local.entries).filter((path) => FS.isDir(FS.stat(path).mode));
        mount.seen = { local: times(local), remote: times(remote), folders: new Set(folders) };
    };

    const plan = async (path) => {
        const { mount } = FS.lookupPath(path).node;
        const [local, remote] = await both(mount);
        const seen = mount.seen ?? { local: new Map(), remote: new Map(), folders: new Set() };
        const now = { local: times(local), remote: times(remote) };
        const paths = new Set([...seen.local.keys(), ...seen.remote.keys(), ...now.local.keys(), ...now.remote.keys()]);
        const above = (at) => at.split("/").map((_, i, parts) => parts.slice(0, i).join("/"));
        const parents = new Set([...paths].flatMap(above));
        const isFolder = (at) =>
            parents.has(at) || seen.folders.has(at) || (now.local.has(at) && FS.isDir(FS.stat(at).mode));
        const folders = new Set([...paths].filter(isFolder));
        const changed = (side, at) => folders.has(at)
            ? seen[side].has(at) !== now[side].has(at)
            : seen[side].get(at) !== now[side].get(at);
        const mine = new Set(), taken = new Set(), dropped = new Set(), conflicts = [];
        for (const at of [...paths].sort()) {
            const [here, there] = [changed("local", at), changed("remote", at)];
            const gone = !now.local.has(at) && !now.remote.has(at);
            if (here && there && !folders.has(at) && !gone && !overwrite) conflicts.push(at);
            if (here) mine.add(at);
            else if (there) (now.remote.has(at) ? taken : dropped).add(at);
        }
        const kept = [...now.local.keys()].filter((at) => !dropped.has(at)).concat(...taken);
        for (const at of dropped) if (kept.some((other) => other.startsWith(at + "/"))) dropped.delete(at);
        for (const at of [...taken]) {
            for (const parent of above(at)) if (now.remote.has(parent) && !now.local.has(parent)) taken.add(parent);
        }
        return { mount, local, remote, seen, mine, taken, dropped, conflicts, folders };
    };

    const readChanges = async ({ mount, local, remote, seen, taken, dropped }) => {
        if (!taken.size && !dropped.size) return local;
        const entries = {};
        for (const at of Object.keys(local.entries)) if (!dropped.has(at)) entries[at] = local.entries[at];
        for (const at of taken) entries[at] = { ...remote.entries[at], timestamp: FUTURE };
        await ask(mount, "reconcile", { ...remote, entries }, local);
        const [after] = await both(mount);
        const [localTimes, remoteTimes] = [times(after), times(remote)];
        for (const at of [...taken, ...dropped]) {
            for (const [side, now] of [["local", localTimes], ["remote", remoteTimes]]) {
                now.has(at) ? seen[side].set(at, now.get(at)) : seen[side].delete(at);
            }
        }
        mount.seen = seen;
        return after;
    };

    const writeChanges = async ({ mount, remote, mine }, local) => {
        const entries = {};
        for (const [at, entry] of Object.entries(local.entries)) {
            const there = remote.entries[at];
            const same = there && (!mine.has(at) || FS.isDir(FS.stat(at).mode));
            entries[at] = { ...entry, timestamp: same ? there.timestamp : FUTURE };
        }
        await ask(mount, "reconcile", { ...local, entries }, remote);
        remember(mount, ...(await both(mount)));
    };

    return withLock(async () => {
        const plans = [];
        for (const path of JSON.parse(list)) plans.push(await plan(path));
        const conflicts = plans.flatMap(({ conflicts }) => conflicts);
        if (conflicts.length) throw { name: "ConflictError", message: JSON.stringify(conflicts) };
        for (const each of plans) {
            const local = await readChanges(each);
            if (write) await writeChanges(each, local);
            if (write && each.mount.type === FS.filesystems.IDBFS) await FLUSH(each.mount.mountpoint);
        }
        const files = plans.flatMap((each) => [...each.taken, ...each.dropped].filter((at) => !each.folders.has(at)));
        return JSON.stringify(files.sort());
    });
}"""

# A browser calls a transaction complete before it is on the disk, unless asked to be strict, which Emscripten does not.
# A strict one in the same database flushes everything before it. Its record has no timestamp, so it is not a file.
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


_EXCHANGE_AND_FLUSH = _EXCHANGE.replace("FLUSH(", f"({_FLUSH})(")


async def mount(path: str = "/edgevec", *, storage: Storage = "indexeddb") -> None:
    """Mount a folder that `persist` keeps, and bring back what it held.

    Mounting a folder twice does nothing.

    Args:
        path: An absolute path other than "/". The folder is made when it does not exist, and must be empty else. The
            path also names the place in the storage.
        storage: "indexeddb" is available in every page and worker. "opfs", the origin-private file system, suits
            workers and large files. Files kept in one are not seen in the other.

    Raises:
        EdgevecError: This is not Pyodide.
        ParameterError: The path or the storage is not one that can be mounted.
        StorageError: The browser offers no such storage (some do not in private windows) or cannot read it.

    Example:
        ::

            await browser.mount("/edgevec", storage="opfs")
    """
    files = _file_system()
    folder = PurePosixPath(path)
    if storage not in ("indexeddb", "opfs"):
        raise ParameterError(f"storage must be 'indexeddb' or 'opfs', not {storage!r}")
    if not folder.is_absolute() or folder == PurePosixPath("/") or ".." in folder.parts:
        raise ParameterError(f"path must be absolute and below '/', not {path!r}")
    name = str(folder)
    async with _lock:
        if _mounted.get(name) == storage:
            return
        if name in _mounted:
            raise ParameterError(f"{name} is mounted already, from {_mounted[name]}")
        await _attach(files, name, storage)
        _mounted[name] = storage


async def persist(*, overwrite: bool = False) -> list[str]:
    """Write every file below the mounted folders to the browser's storage.

    Once this returns, the files outlive a reload and a crash of the browser. When it raises, the storage stays as it
    was.

    Args:
        overwrite: Let this page's files win where another page changed them too.

    Returns:
        Paths of the files that other pages had persisted or removed since this page last looked; they were read.

    Raises:
        ConflictError: Another page changed a file that was changed here too. It is a StorageError.
        StorageError: No folder is mounted, the storage is full, or the browser refuses.

    Example:
        ::

            index.save("/edgevec/notes.ev")
            await browser.persist()
    """
    return await _all_folders(write=True, overwrite=overwrite)


async def refresh() -> list[str]:
    """Read the files that other pages have persisted or removed since this page last looked.

    What this page has not persisted stays.

    Returns:
        Paths of those files.

    Raises:
        ConflictError: Another page changed a file that was changed here too. It is a StorageError.
        StorageError: No folder is mounted, or the browser refuses.

    Example:
        ::

            if "/edgevec/notes.ev" in await browser.refresh():
                index = Index.load("/edgevec/notes.ev")
    """
    return await _all_folders(write=False, overwrite=False)


async def _all_folders(*, write: bool, overwrite: bool) -> list[str]:
    files = _file_system()
    if not _mounted:
        raise StorageError("no folder is mounted: await edgevec.browser.mount() first")
    async with _lock:
        return await _exchange(files, list(_mounted), write=write, overwrite=overwrite)


async def _exchange(files: Any, folders: list[str], *, write: bool, overwrite: bool = False) -> list[str]:
    taken: list[str] = json.loads(await _run(_EXCHANGE_AND_FLUSH, files, json.dumps(folders), write, overwrite))
    return taken


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
        await _exchange(files, [path], write=False)
    except StorageError:
        files.unmount(path)
        raise


def _offers(storage: Storage) -> bool:
    js = importlib.import_module("js")
    if storage == "indexeddb":
        return hasattr(js, "indexedDB")
    return hasattr(js, "navigator") and hasattr(getattr(js.navigator, "storage", None), "getDirectory")


async def _run(function: str, *inputs: Any) -> Any:
    """Run an asynchronous JavaScript function; its failure becomes a StorageError."""
    run_js = importlib.import_module("pyodide.code").run_js
    outcome = await run_js(_SETTLE)(run_js(function))(*inputs)
    if outcome.failure == "QuotaExceededError":
        raise StorageError("the browser's storage is full; what it held before is untouched")
    if outcome.failure == "ConflictError":
        raise ConflictError(json.loads(outcome.message))
    if outcome.failure:
        raise StorageError(f"the browser's storage failed: {outcome.failure}: {outcome.message}")
    return outcome.value
