"""edgevec in headless Chromium: in the page and in a worker, with files that outlive both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import PATIENCE, PYODIDE, Visit
from build import built_wheel
from playwright.sync_api import BrowserContext

PLACES = ("page", "worker")

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
    assert visit.run(mount + "result = kept.exists()", place) is False
    visit.run("kept.write_text('first'); await browser.persist(); kept.write_text('second')", place)
    visit.page.reload()
    assert visit.run(mount + "result = kept.read_text()", place) == "first"
    visit.run("kept.unlink(); await browser.persist()", place)
    visit.page.reload()
    assert visit.run(mount + "result = kept.exists()", place) is False


@pytest.mark.parametrize("storage", ["indexeddb", "opfs"])
def test_full_storage_is_an_error_and_old_files_stay(visit: Visit, context: BrowserContext, storage: str) -> None:
    mount = MOUNT.format(storage=storage)
    # Before the first write, because Chromium remembers for a while how much room there was.
    devtools = context.new_cdp_session(visit.page)
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": visit.address.rstrip("/"), "quotaSize": 100_000})
    visit.run(mount + "kept.write_bytes(b'old' * 1000); await browser.persist()")
    message = visit.run("""
        kept.write_bytes(bytes(range(256)) * 4000)
        try:
            await browser.persist()
        except OSError as error:
            result = f"{type(error).__name__}: {error}"
    """)
    assert message == "StorageError: the browser's storage is full; what it held before is untouched"
    visit.page.reload()
    assert visit.run(mount + "result = kept.read_bytes() == b'old' * 1000") is True


TWO = """
from pathlib import Path
from edgevec import browser
await browser.mount("/edgevec", storage="{storage}")
def held():
    return {{str(file): file.read_text() for file in sorted(Path("/edgevec").rglob("*")) if file.is_file()}}
def write(name, text):
    file = Path("/edgevec") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
async def conflict(call):
    try:
        await call
    except browser.ConflictError as error:
        assert isinstance(error, OSError)
        return [error.paths, str(error)]
"""


@pytest.fixture(params=["indexeddb", "opfs"])
def pages(visit: Visit, context: BrowserContext, site: str, request: pytest.FixtureRequest) -> Iterator[list[Visit]]:
    """Two pages of one origin that have mounted the same folder, holding the files one, two and deep/three."""
    mount = TWO.format(storage=request.param)
    visit.run(mount + "for name in ('one', 'two', 'deep/three'): write(name, 'old')\nawait browser.persist()")
    other = Visit(context.new_page(), site)
    other.run(mount)
    yield [visit, other]
    assert other.errors == []


OLD = {"/edgevec/deep/three": "old", "/edgevec/one": "old", "/edgevec/two": "old"}


def stored(context: BrowserContext, site: str, like: Visit) -> dict[str, str]:
    """What a new page finds."""
    fresh = Visit(context.new_page(), site)
    storage = like.run("result = browser._mounted['/edgevec']")
    files: dict[str, str] = fresh.run(TWO.format(storage=storage) + "result = held()")
    fresh.page.close()
    return files


def test_a_page_that_persists_takes_in_what_another_persisted(
    pages: list[Visit], context: BrowserContext, site: str
) -> None:
    first, second = pages
    first.run("write('one', 'first'); write('new/er', 'first'); await browser.persist()")
    taken = second.run("write('two', 'second'); result = await browser.persist()")
    assert taken == ["/edgevec/new/er", "/edgevec/one"]
    both = OLD | {"/edgevec/one": "first", "/edgevec/new/er": "first", "/edgevec/two": "second"}
    assert second.run("result = held()") == both
    assert stored(context, site, first) == both
    assert first.run("result = await browser.refresh()") == ["/edgevec/two"]
    assert first.run("result = held()") == both
    assert first.run("result = await browser.persist()") == []


def test_a_file_that_another_page_removed_stays_removed(pages: list[Visit], context: BrowserContext, site: str) -> None:
    first, second = pages
    first.run("import shutil; shutil.rmtree('/edgevec/deep'); Path('/edgevec/one').unlink(); await browser.persist()")
    taken = second.run("write('two', 'second'); result = await browser.persist()")
    assert taken == ["/edgevec/deep/three", "/edgevec/one"]
    assert second.run("result = held()") == {"/edgevec/two": "second"}
    assert stored(context, site, first) == {"/edgevec/two": "second"}


def test_a_file_that_a_page_removes_is_removed_although_another_page_persisted_others(
    pages: list[Visit], context: BrowserContext, site: str
) -> None:
    first, second = pages
    first.run("write('one', 'first'); await browser.persist()")
    second.run("Path('/edgevec/two').unlink(); await browser.persist()")
    assert stored(context, site, first) == {"/edgevec/deep/three": "old", "/edgevec/one": "first"}


@pytest.mark.parametrize("change", ["write('one', 'second')", "Path('/edgevec/one').unlink()"])
def test_a_file_that_two_pages_changed_is_an_error_that_names_it(
    pages: list[Visit], context: BrowserContext, site: str, change: str
) -> None:
    first, second = pages
    first.run("write('one', 'first'); await browser.persist()")
    paths, message = second.run(f"{change}; write('two', 'second'); result = await conflict(browser.persist())")
    assert paths == ["/edgevec/one"]
    assert "/edgevec/one: changed here, and by another page" in message
    assert second.run("result = (await conflict(browser.refresh()))[0]") == ["/edgevec/one"]
    assert stored(context, site, first) == OLD | {"/edgevec/one": "first"}
    mine = second.run("result = held()")
    second.run("await browser.persist(overwrite=True)")
    assert second.run("result = held()") == mine
    assert stored(context, site, first) == mine


def test_pages_that_persist_at_the_same_time_lose_nothing(
    pages: list[Visit], context: BrowserContext, site: str
) -> None:
    first, second = pages
    program = (
        "import asyncio\nfor i in range(5):\n    write(f'{name}-{i}', 'x' * 1000); await browser.persist()\nresult = 1"
    )
    for visit, name in ((first, "a"), (second, "b")):
        visit.page.evaluate(
            "([program]) => void (globalThis.running = runIn.page(program))",
            [f"import json\nname = {name!r}\n{program}\njson.dumps(result)"],
        )
    for visit in pages:
        visit.page.evaluate("() => running")
    names = {f"/edgevec/{name}-{i}" for name in "ab" for i in range(5)}
    assert set(stored(context, site, first)) == names | set(OLD)


def test_mounting_a_folder_leaves_what_others_have_not_persisted(visit: Visit) -> None:
    result = visit.run("""
        from pathlib import Path
        from edgevec import browser
        await browser.mount("/one")
        Path("/one/unsaved").write_text("still here")
        await browser.mount("/two")
        await browser.mount("/three", storage="opfs")
        result = Path("/one/unsaved").read_text()
    """)
    assert result == "still here"


BUILD = """
import numpy as np
from edgevec import Index, browser, recall, simd_info
rows = np.random.default_rng(5).standard_normal((3000, 48), dtype=np.float32)
queries = rows[:50] + np.float32(0.1)
"""


@pytest.mark.parametrize("place", PLACES)
def test_an_index_outlives_a_reload_with_the_same_answers(visit: Visit, place: str) -> None:
    missing = visit.run(
        BUILD
        + """
await browser.mount()
try:
    Index.load("/edgevec/rows")
except FileNotFoundError as error:
    result = type(error).__name__
""",
        place,
    )
    assert missing == "IndexNotFoundError"
    before = visit.run(
        """
        index = Index(48, "l2")
        index.add(rows)
        index.save("/edgevec/rows")
        await browser.persist()
        found = index.search(queries, ef=200)
        truth = np.argsort(((queries[:, None] - rows) ** 2).sum(2), axis=1)[:, :10]
        result = {"simd": simd_info().active, "recall": recall(found.ids, truth), "ids": found.ids.tolist()}
        """,
        place,
    )
    assert before["simd"] == "wasm128"
    assert before["recall"] > 0.95
    visit.page.reload()
    after = visit.run(
        BUILD
        + """
await browser.mount()
result = Index.load("/edgevec/rows").search(queries, ef=200).ids.tolist()
""",
        place,
    )
    assert after == before["ids"]


def test_micropip_installs_the_wheel_from_an_address(visit: Visit) -> None:
    wheel = f"{visit.address}pyodide/{built_wheel(PYODIDE).name}"
    answer = visit.page.evaluate(
        """async (wheel) => {
            const { loadPyodide } = await import("./pyodide/pyodide.mjs");
            const pyodide = await loadPyodide();
            await pyodide.loadPackage(["micropip", "numpy", "cffi"], { messageCallback: () => {} });
            await pyodide.pyimport("micropip").install(wheel);
            return pyodide.runPython(`
                import edgevec
                index = edgevec.Index(2, "l2")
                index.add([[0, 0], [3, 4]])
                index.search([3, 3], k=1).ids.tolist()[0]
            `);
        }""",
        wheel,
    )
    assert answer == 1


def test_typed_arrays_go_in_and_out_as_buffers(visit: Visit) -> None:
    answer = visit.page.evaluate(
        """async () => {
            const { boot } = await import("./boot.mjs");
            const pyodide = await boot();
            const dim = 4, rows = Float32Array.from({ length: 100 * dim }, (_, i) => Math.sin(i));
            pyodide.globals.set("given", rows);
            pyodide.runPython(`
                import numpy as np
                from edgevec import Index
                index = Index(4, "l2")
                index.add(np.asarray(given.to_py()).reshape(-1, 4))
            `);
            pyodide.globals.set("query", rows.subarray(7 * dim, 8 * dim));
            const found = pyodide.runPython("index.search(np.asarray(query.to_py()), k=3)");
            const [ids, distances] = [found.get(0).getBuffer(), found.get(1).getBuffer("f32")];
            return [Number(ids.data[0]), ids.data.constructor.name, distances.data[0], distances.data.constructor.name];
        }"""
    )
    assert answer == [7, "BigInt64Array", 0, "Float32Array"]


def test_an_index_that_the_heap_cannot_hold_is_a_memory_error_and_the_page_lives_on(visit: Visit) -> None:
    result = visit.run("""
        import numpy as np
        from edgevec import Index
        rows = np.random.default_rng(1).standard_normal((40_000, 4096), dtype=np.float32)
        indexes = []
        try:
            for _ in range(8):
                indexes.append(Index(4096, "l2", quantization="none", M=4, ef_construction=1))
                indexes[-1].add(rows, threads=1)
        except MemoryError as error:
            result = [type(error).__name__, str(error)]
        del indexes, rows
        small = Index(2)
        small.add([[1, 0], [0, 1]])
        result.append(small.search([0, 1], k=1).ids.tolist()[0])
    """)
    name, message, found = result
    assert name == "OutOfMemoryError"
    assert "bytes" in message
    assert found == 1


def test_the_worker_of_the_readme_answers_calls_also_those_that_raise(visit: Visit, folder: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```js\n(.*?)```", readme, re.DOTALL)
    assert block
    named = f"./pyodide/{built_wheel(PYODIDE).name}"
    assert "./edgevec-...wasm32.whl" in block[1]
    (folder / "readme.mjs").write_text(block[1].replace("./edgevec-...wasm32.whl", named), encoding="utf-8")
    answers = visit.page.evaluate(
        """async (seconds) => {
            const worker = new Worker("./readme.mjs", { type: "module" });
            const dim = 384, rows = Float32Array.from({ length: 50 * dim }, (_, i) => Math.sin(i * i));
            const calls = [
                { id: 1, add: rows },
                { id: 2, search: rows.slice(7 * dim, 8 * dim), k: 3 },
                { id: 3, search: rows.slice(0, 5), k: 3 },
                { id: 4, add: rows.slice(0, dim), search: rows.slice(9 * dim, 10 * dim), k: 1 },
            ];
            const answers = [];
            const all = new Promise((resolve) => {
                worker.onmessage = ({ data }) => {
                    answers.push({ ...data, ids: data.ids && [...data.ids].map(Number), distances: undefined });
                    if (answers.length === calls.length) resolve(answers);
                };
            });
            for (const call of calls) worker.postMessage(call);
            const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no answer")), 1000 * seconds));
            return Promise.race([all, late]);
        }""",
        PATIENCE,
    )
    added, found, refused, after = sorted(answers, key=lambda answer: answer["id"])
    assert "error" not in added
    assert found["ids"][0] == 7
    assert "queries have 5 dimensions, the index has 384" in refused["error"]
    assert after["ids"] == [9]
