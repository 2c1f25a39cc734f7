"""The command line: through click's runner, and as the program that a person starts."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import HANG, cli_runner, need_module

import edgevec

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

import click
from click.testing import Result

from edgevec.cli.app import edgevec as app


def run(*arguments: object, input: str | bytes | None = None) -> Result:
    return cli_runner().invoke(app, [str(argument) for argument in arguments], input=input)


def succeed(*arguments: object, input: str | bytes | None = None) -> Result:
    result = run(*arguments, input=input)
    assert result.exit_code == 0, result.output
    return result


def complaint(*arguments: object, input: str | bytes | None = None) -> str:
    """What a command that must fail says: one line on standard error, nothing on standard output."""
    result = run(*arguments, input=input)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    *_, line, end = result.stderr.split("\n")
    assert end == ""
    assert line.startswith("edgevec: ")
    return line


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(300, 16)).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path, vectors: np.ndarray) -> Path:
    """300 rows with the ids 1000 to 1299 and texts."""
    path = tmp_path / "data.jsonl"
    with path.open("w") as file:
        for row, vector in enumerate(vectors.tolist()):
            file.write(json.dumps({"id": 1000 + row, "text": f"[text] {row}", "vector": vector}) + "\n")
    return path


@pytest.fixture
def index(tmp_path: Path, data: Path) -> Path:
    path = tmp_path / "index.ev"
    succeed("build", data, "-o", path, "--metric", "l2", "-q", "none")
    return path


def nearest(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    return (1000 + np.argsort(((vectors - query) ** 2).sum(axis=1))[:k]).tolist()


# ---- help and info


COMMANDS = app.list_commands(click.Context(app))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_every_command_has_help(arguments: list[str]) -> None:
    assert "Usage: " in succeed(*arguments).stdout


def test_every_promised_command_is_there() -> None:
    assert " ".join(sorted(COMMANDS)) == "bench build convert db demo info mcp search serve shards tui"


def test_the_version_is_that_of_the_package() -> None:
    assert edgevec.__version__ in succeed("--version").stdout


def test_info_names_the_simd_path() -> None:
    simd = edgevec.simd_info()
    shown = succeed("info").stdout
    assert edgevec.__version__ in shown
    assert simd.active in shown
    facts = json.loads(succeed("info", "--json").stdout)
    assert facts["version"] == edgevec.__version__
    assert facts["simd"] == simd.active
    assert facts["compiled"] == list(simd.compiled)


def test_info_of_an_index(index: Path, data: Path, tmp_path: Path) -> None:
    assert json.loads(succeed("info", index, "--json").stdout) == {
        "kind": "index",
        "vectors": 300,
        "dim": 16,
        "metric": "l2",
        "ef": 64,
        "bytes": index.stat().st_size,
        "removed": 0,
        "quantization": "none",
        "keep_vectors": True,
        "M": 16,
        "ef_construction": 200,
        "seed": 0,
    }
    assert "ef construction" in succeed("info", index).stdout
    on_disk = tmp_path / "on.evd"
    succeed("convert", index, "-o", on_disk)
    told = json.loads(succeed("info", on_disk, "--json").stdout)
    assert (told["kind"], told["vectors"], told["dim"], told["metric"]) == ("disk index", 300, 16, "l2")
    assert "a file of vectors" in complaint("info", data.rename(data.with_suffix(".jsonl")))
    assert "no such" in complaint("info", tmp_path / "nothing.ev")


def test_info_of_a_collection_and_of_shards_is_what_their_own_commands_say(data: Path, tmp_path: Path) -> None:
    collection, folder, vectors = tmp_path / "a.edgevec", tmp_path / "shards", tmp_path / "rows.npy"
    np.save(vectors, np.eye(8, dtype=np.float32))
    succeed("db", collection, "import", data)
    succeed("shards", "build", vectors, "-o", folder, "--rows-per-shard", "4")
    for options in ([], ["--json"]):
        assert succeed("info", collection, *options).stdout == succeed("db", collection, "info", *options).stdout
        assert succeed("info", folder, *options).stdout == succeed("shards", "info", folder, *options).stdout
    assert "manifest" in complaint("info", tmp_path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["bulid", "x.npy"], "build"), (["shard", "info"], "shards"), (["shards", "infos", "x"], "info")],
)
def test_a_command_that_is_misspelled(typed: list[str], meant: str) -> None:
    assert complaint(*typed).endswith(f"Did you mean {meant!r}?")
    assert "Did you mean" not in complaint("entirely-else")


def test_a_command_of_a_collection_that_is_misspelled(data: Path, tmp_path: Path) -> None:
    assert complaint("db", tmp_path / "a.edgevec", "imprt", data).endswith("Did you mean 'import'?")


# ---- demo


def test_demo_answers_one_query_with_its_measures() -> None:
    result = succeed("demo", "device", "for", "measuring", "temperature", "--repeats", "3", "-k", "4")
    assert "thermometer" in result.stdout
    assert "noun.artifact" in result.stdout
    assert "P50" in result.stdout
    assert "over 3 searches" in result.stdout
    assert "recall@4" in result.stdout
    assert "bytes per vector" in result.stdout
    assert f"SIMD {edgevec.simd_info().active}" in result.stdout
    assert "built in" in result.stderr
    assert "Traceback" not in result.output


def test_demo_answers_examples_and_ends_without_a_terminal() -> None:
    result = succeed("demo", "--repeats", "1", "-q", "none", input="this is not asked\n")
    assert result.stdout.count("recall@5 ") == 3
    assert "this is not asked" not in result.stdout


def test_demo_names_unknown_words() -> None:
    assert complaint("demo", "qqxyzzy").endswith("qqxyzzy")


# ---- build and search


def test_search_takes_a_recall(index: Path, vectors: np.ndarray) -> None:
    answers = json.loads(succeed("search", index, "--id", 1007, "-k", 3, "--recall", 1, "--json").stdout)
    assert answers[0]["ids"] == nearest(vectors, vectors[7], 3)
    assert "recall" in complaint("search", index, "--id", 1007, "--recall", 1.5)
    assert "ef or recall" in complaint("search", index, "--id", 1007, "--recall", 0.9, "--ef", 10)


def test_build_and_search_give_the_nearest(index: Path, data: Path, vectors: np.ndarray, tmp_path: Path) -> None:
    queries = vectors[:5] + 0.01
    np.save(tmp_path / "queries.npy", queries)
    answers = json.loads(
        succeed("search", index, "--query", tmp_path / "queries.npy", "-k", 3, "--ef", 300, "--json").stdout
    )
    assert [answer["query"] for answer in answers] == [0, 1, 2, 3, 4]
    for query, answer in zip(queries, answers, strict=True):
        assert answer["ids"] == nearest(vectors, query, 3)
        assert answer["distances"][0] == pytest.approx(16 * 0.01**2, rel=1e-2)


@pytest.mark.parametrize("form", ["literal", "json line", "plain line", "commas", "row", "id", "mmap", "exact"])
def test_search_takes_a_query_in_every_form(index: Path, vectors: np.ndarray, tmp_path: Path, form: str) -> None:
    numbers = vectors[7].tolist()
    np.save(tmp_path / "queries.npy", vectors)
    arguments, input = {
        "literal": (["--query", json.dumps(numbers)], None),
        "json line": (["--query", "-"], json.dumps(numbers) + "\n\n"),
        "plain line": (["--query", "-"], " ".join(map(str, numbers))),
        "commas": (["--query", "-"], ", ".join(map(str, numbers)) + "\n"),
        "row": (["--query", tmp_path / "queries.npy", "--row", 7], None),
        "id": (["--id", 1007], None),
        "mmap": (["--id", 1007, "--mmap"], None),
        "exact": (["--id", 1007, "--exact"], None),
    }[form]
    if form == "mmap" and sys.platform == "win32":
        pytest.skip("a mapped file cannot be removed here")
    [answer] = json.loads(succeed("search", index, *arguments, "-k", 2, "--json", input=input).stdout)
    assert answer["ids"] == nearest(vectors, vectors[7], 2)
    assert answer["distances"][0] == pytest.approx(0, abs=1e-5)


def test_search_reads_vectors_from_the_file(tmp_path: Path, vectors: np.ndarray) -> None:
    np.save(tmp_path / "v.npy", vectors)
    succeed("build", tmp_path / "v.npy", "-o", tmp_path / "v.ev", "-M", 4, "--ef-construction", 20)
    told = [
        succeed("search", tmp_path / "v.ev", "--id", 7, "-k", 9, "--json", "--storage", storage).stdout
        for storage in ("memory", "disk")
    ]
    assert told[0] == told[1]
    failed = run("search", tmp_path / "v.ev", "--id", 7, "--mmap", "--storage", "disk")
    assert failed.exit_code == 2
    assert "mmap=True" in failed.stderr


def test_search_shows_texts_and_never_padding(index: Path, data: Path) -> None:
    shown = succeed("search", index, "--id", 1003, "-k", 1, "--data", data).stdout
    assert "[text] 3" in shown  # brackets are text, not markup
    assert "1003" in shown
    [answer] = json.loads(succeed("search", index, "--id", 1003, "-k", 1000, "--json").stdout)
    assert len(answer["ids"]) == 300
    assert -1 not in answer["ids"]
    assert "texts" not in answer
    [answer] = json.loads(succeed("search", index, "--id", 1003, "-k", 2, "--data", data, "--json").stdout)
    assert answer["texts"] == [f"[text] {id - 1000}" for id in answer["ids"]]


def test_build_writes_an_index_with_its_graph_on_disk(tmp_path: Path, vectors: np.ndarray) -> None:
    np.save(tmp_path / "v.npy", vectors)
    path = tmp_path / "v.evd"
    options = ["--metric", "l2", "--keep-vectors", "-M", 8, "--limit", 250, "--threads", 1]
    made = succeed("build", tmp_path / "v.npy", "-o", path, *options)
    assert "v.evd: 250 x 16, l2, its graph on disk; built in" in made.stderr
    made_size = path.stat().st_size
    with edgevec.DiskIndex(path) as index:
        assert (len(index), index.metric) == (250, "l2")
        np.testing.assert_allclose(index.get(range(250)), vectors[:250], rtol=1e-3)
    found = json.loads(succeed("search", path, "--id", 7, "-k", 4, "--exact", "--json").stdout)[0]["ids"]
    assert found == np.argsort(((vectors[:250] - vectors[7]) ** 2).sum(axis=1))[:4].tolist()
    succeed("build", tmp_path / "v.npy", "-o", path, "--limit", 20)  # one of ours is replaced
    assert path.stat().st_size < made_size
    path.rename(tmp_path / "v.ev")
    assert "v.ev: exists, and is an index with its graph on disk; --force" in complaint(
        "build", tmp_path / "v.npy", "-o", tmp_path / "v.ev"
    )


def test_build_uses_the_metric_of_the_file_and_its_row_numbers(tmp_path: Path, vectors: np.ndarray) -> None:
    with need_module("h5py").File(tmp_path / "v.hdf5", "w") as file:
        file["train"] = vectors
        file.attrs["distance"] = "dot"
    succeed("build", tmp_path / "v.hdf5", "-o", tmp_path / "v.ev", "--limit", 50, "-M", 4, "--ef-construction", 20)
    index = edgevec.Index.load(tmp_path / "v.ev")
    assert index.metric == "ip"
    assert len(index) == 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
        (["build", "none.npy", "-o", "x.ev"], "none.npy: no such file"),
        (["build", "index.ev", "-o", "x.ev"], "index.ev: an index, not a file of vectors; use edgevec search index.ev"),
        (["build", "data.jsonl"], "--output"),
        (["build", "data.jsonl", "-o", "nowhere/x.ev"], "no folder 'nowhere'"),
        (["build", "data.jsonl", "-o", "x.ev", "--metric", "hamming"], "hamming"),
        (["build", "nan.npy", "-o", "x.ev"], "1"),
        (["search", "index.ev"], "either --query or --id"),
        (["search", "index.ev", "--id", "5", "--query", "-"], "either --query or --id"),
        (["search", "index.ev", "--id", "5"], "5"),
        (["search", "none.ev", "--id", "5"], "none.ev"),
        (["search", "data.jsonl", "--id", "5"], "index"),
        (["search", "index.ev", "--query", "none.npy"], "none.npy"),
        (["search", "index.ev", "--query", "[1, 2"], "line 1: not a vector"),
        (["search", "index.ev", "--query", "[1, 2]"], "16"),
        (["search", "index.ev", "--query", "-"], "contains no vectors"),
        (["search", "index.ev", "--query", "data.jsonl", "--row", "300"], "no row 300, only 0 to 299"),
        (["search", "index.ev", "--id", "1000", "--data", "nan.npy"], "holds no texts"),
        (["search", "index.ev", "--id", "1000", "--row", "1"], "--row is of a file"),
        (["search", "index.ev", "--id", "1000", "--column", "x"], "--column is of a file"),
        (["search", "index.ev", "--query", "[1, 2]", "--row", "1"], "--row is of a file"),
        (["search", "index.ev", "--query", "-", "--column", "x"], "--column is of a file"),
        (["search", "index.ev", "--id", "1000", "-k", "0"], "-k"),
        (["bench", "data.jsonl", "--ef", "10,x"], "'10,x'"),
        (["bench", "data.jsonl", "--ef", "0"], "'0'"),
        (["bench", "data.jsonl", "--plot", "x.doc"], "x.doc"),
        (["bench", "one.npy"], "too few rows"),
    ],
)
def test_a_mistake_is_one_clear_line(
    index: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(index.parent)
    np.save("nan.npy", [[1.0, 2.0], [np.nan, 1.0]])
    np.save("one.npy", [[1.0, 2.0]])
    if "--plot" in arguments:
        need_module("matplotlib")
    assert said in complaint(*arguments, input="")
    assert not Path("x.ev").exists()


def test_standard_input_that_is_no_text(index: Path) -> None:
    assert "standard input: not utf-8 text" in complaint("search", index, "--query", "-", input=b"\xff\xfe 1 2")


def test_tui_needs_a_terminal_and_a_file_that_is_there(tmp_path: Path) -> None:
    need_module("textual")
    assert "needs a terminal" in complaint("tui")
    assert "gone.npy: no such file" in complaint("tui", tmp_path / "gone.npy")


# ---- bench


def test_bench_reports_recall_beside_speed(data: Path, tmp_path: Path) -> None:
    result = succeed(
        "bench", data, "--ef", "5,300", "-k", 5, "--queries", 20, "--json", tmp_path / "out.json", "-q", "none"
    )
    assert "recall@5" in result.stdout
    assert f"SIMD {edgevec.simd_info().active}" in result.stdout
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["data"] == {"file": "data.jsonl", "rows": 280, "dim": 16, "queries": 20}
    assert document["index"]["metric"] == "cosine"
    assert [point["ef"] for point in document["points"]] == [5, 300]
    assert document["points"][1]["recall"] == 1.0  # ef is all of the rows
    for point in document["points"]:
        assert 0 < point["p50"] <= point["p95"] <= point["p99"]
        assert point["qps"] > 0


def hdf5_with_a_test_set(path: Path, vectors: np.ndarray, neighbors: np.ndarray | None = None) -> Path:
    with need_module("h5py").File(path, "w") as file:
        file["train"], file["test"] = vectors, vectors[:8] + 0.01
        file.attrs["distance"] = "euclidean"
        if neighbors is not None:
            file["neighbors"] = neighbors
    return path


def test_bench_of_a_test_set_uses_its_queries(tmp_path: Path, vectors: np.ndarray) -> None:
    file = hdf5_with_a_test_set(tmp_path / "v.hdf5", vectors)
    succeed("bench", file, "--ef", "300", "-q", "none", "--json", tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["data"]["queries"] == 8
    assert document["data"]["rows"] == 300
    assert document["index"]["metric"] == "l2"
    assert document["points"][0]["recall"] == 1.0


def test_bench_of_a_test_set_uses_its_neighbors(tmp_path: Path, vectors: np.ndarray) -> None:
    # One that does not exist tells whether they were used: of others the recall would be 1 as well.
    file = hdf5_with_a_test_set(tmp_path / "v.hdf5", vectors, np.full((8, 10), 300))
    assert "there is no row 300 among 300" in complaint("bench", file, "--ef", "300", "-q", "none")


def test_bench_counts_any_of_equally_near_rows_as_found(tmp_path: Path) -> None:
    rows = np.repeat(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32), 20, axis=0)
    np.save(tmp_path / "equal.npy", rows)
    for metric in ("l2", "cosine", "ip"):
        out = tmp_path / f"{metric}.json"
        succeed("bench", tmp_path / "equal.npy", "--metric", metric, "--ef", "10,1200", "--json", out)
        points = json.loads(out.read_text())["points"]
        assert points[1]["recall"] == 1.0, metric
        assert points[0]["recall"] <= points[1]["recall"]


def test_bench_draws_the_curve(data: Path, tmp_path: Path) -> None:
    need_module("matplotlib")
    succeed("bench", data, "--ef", "5,20", "--plot", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_bench_names_the_extra_of_the_plot(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "edgevec[plot]" in complaint("bench", data, "--plot", tmp_path / "curve.png")


# ---- the real program


def start(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgevec", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=HANG, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.mark.subprocess
def test_the_program_answers_and_fails_with_exit_codes(index: Path) -> None:
    done = start("search", index, "--id", 1000, "-k", 2, "--json", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["ids"][0] == 1000
    failed = start("search", index, "--id", 5, stdin=subprocess.DEVNULL)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.subprocess
def test_a_closed_pipe_is_no_error(index: Path) -> None:
    command = [sys.executable, "-m", "edgevec", "search", str(index), "--id", "1000", "-k", "300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.subprocess
@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_the_program_names_them(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; import edgevec.cli; edgevec.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"needs {missing}" in done.stderr


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals in Python")
@pytest.mark.parametrize("ending", ["quit\n", "\n", "\x04", "Ctrl-C"])
def test_demo_answers_what_is_typed_on_a_terminal(ending: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgevec", "demo", "--repeats", "2"]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "120"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=heed_interrupts
    )
    os.close(theirs)
    try:
        read_until(ours, b"query (empty to end):")
        os.write(ours, b"qqxyzzy\n")
        assert b"no known word" in read_until(ours, b"query (empty to end):")
        os.write(ours, b"frozen water falling from the sky\n")
        answer = read_until(ours, b"query (empty to end): ")  # all of it: else its end is taken for what Ctrl-C brought
        assert b"rainfall" in answer
        assert b"recall@5" in answer
        if ending == "Ctrl-C":
            # Python may miss one between the prompt and the wait for input; a person would press again
            process.send_signal(signal.SIGINT)
            while not select.select([ours], [], [], 1)[0]:
                process.send_signal(signal.SIGINT)
        else:
            os.write(ours, ending.encode())
        assert b"Traceback" not in read_until(ours, None)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def heed_interrupts() -> None:
    """What a shell does for a program in the foreground; a test runner in the background ignores them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(terminal: int, mark: bytes | None) -> bytes:
    """What the program printed up to the mark, or to its end."""
    seen = b""
    while mark is None or mark not in seen:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, f"no more came after {seen!r}"
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # how Linux reports that the other side is closed
            piece = b""
        if not piece:
            assert mark is None, f"ended after {seen!r}"
            break
        seen += piece
    return seen


def test_a_memory_limit_that_is_kept(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.ev"
    succeed("build", data, "-o", output, "--memory-limit", "2.5 MB")
    for size in ("20KB", "0.02MiB", "20000"):
        assert "bytes" in complaint("build", data, "-o", tmp_path / "other.ev", "--memory-limit", size)
    assert not (tmp_path / "other.ev").exists()
    for wrong in ("much", "0", "-1", "1XB", "1e99", "MB", "9" * 30):
        assert run("build", data, "-o", output, f"--memory-limit={wrong}").exit_code == 2
    notes = tmp_path / "notes.edgevec"
    succeed("db", notes, "import", data, "--memory-limit", "2MiB")
    assert "memory limit" in complaint("db", notes, "import", data, "--memory-limit", "20KB")
