"""The command line and the world around it: what documents and names may do to a terminal, which files a command takes
and which it spares, and streams that are closed, full, or of a narrow encoding."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import HANG, cli_runner, need_module

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

from click.testing import Result

import edgevec
from edgevec.cli.app import edgevec as app
from edgevec.printable import decimals, pictures, printable

EVIL = "\x1b[2J\x1b]0;PWNED\x07\x9b31m\x7f\u202etxt.exe\u2066\u200b [red]not red[/red] :smile:"
STEERS = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def run(*arguments: object, input: str | None = None) -> Result:
    return cli_runner().invoke(app, [str(argument) for argument in arguments], input=input)


def succeed(*arguments: object, input: str | None = None) -> Result:
    result = run(*arguments, input=input)
    assert result.exit_code == 0, result.output
    return result


def complaint(*arguments: object) -> str:
    """The one line of a command that must fail."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("edgevec: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of each kind."""
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.eye(4, dtype=np.float32))
    Path("rows.jsonl").write_text(json.dumps({"id": 1, "vector": [1, 2], "text": "precious"}) + "\n")
    index = edgevec.Index(4)
    index.add(np.eye(4, dtype=np.float32))
    index.save("i.ev")
    edgevec.DiskIndex.write(index, "i.evd")
    with edgevec.open("notes.edgevec") as made:
        made.upsert([1], [[1.0, 2.0]], None, ["precious"])
    with sqlite3.connect("recipes.db") as foreign:
        foreign.execute("CREATE TABLE recipes (name TEXT)")
    foreign.close()
    Path("letter.txt").write_text("dear all")
    Path("empty.ev").touch()
    return tmp_path


# ---- escape sequences ----------------------------------------------------------------------------------------------


@given(st.text(), st.booleans())
def test_printable_text_holds_nothing_that_steers_a_terminal_and_can_be_written(text: str, lines: bool) -> None:
    assert len(pictures(text)) == len(text)
    assert not STEERS & set(pictures(text))
    shown = printable(text, lines=lines)
    assert not (STEERS - ({"\n"} if lines else set())) & set(shown)
    shown.encode()


@given(st.text(st.characters(categories=("L", "N", "P", "S", "M"))))
def test_printable_text_keeps_what_people_write(text: str) -> None:
    assert printable(text) == text
    assert printable(f"a\r\n\t{text}", lines=True) == f"a\n    {text}"
    assert printable(f"a\n{text}") == f"a {text}"


def test_numbers_that_are_not_zero_are_not_shown_as_zero() -> None:
    assert [decimals(value) for value in (0.0, 0.5, -12.25, 1e-6, -2.34e-5)] == [
        "0.0000",
        "0.5000",
        "-12.2500",
        "1.00e-06",
        "-2.34e-05",
    ]


def assert_harmless(output: str) -> None:
    assert not (STEERS - {"\n"}) & set(output), output


def test_documents_ids_and_fields_are_shown_and_not_obeyed(here: Path) -> None:
    with edgevec.open("evil.edgevec") as made:
        made.upsert([f"id {EVIL}"], [[1.0, 2.0]], {f"field {EVIL}": EVIL}, [f"clear {EVIL}"])
    shown = succeed("db", "evil.edgevec", "search", "--text", "clear").stdout
    assert_harmless(shown)
    assert r"\x1b[2J" in shown.replace("\n", "")
    [hit] = json.loads(succeed("db", "evil.edgevec", "search", "--text", "clear", "--json").stdout)
    assert hit["document"] == f"clear {EVIL}"
    assert hit["id"] == f"id {EVIL}"


def test_brackets_in_texts_are_no_markup(here: Path) -> None:
    Path("t.jsonl").write_text(json.dumps({"id": 0, "vector": [1, 0], "text": f"[red]x[/red] {EVIL}"}) + "\n")
    succeed("build", "t.jsonl", "-o", "t.ev")
    shown = succeed("search", "t.ev", "--id", 0, "--data", "t.jsonl").stdout
    assert "[red]x[/red]" in shown
    assert_harmless(shown)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_names_of_files_fields_and_ids_in_messages_are_shown_and_not_obeyed(here: Path) -> None:
    name = f"x{EVIL.replace('/', '')}.npy"
    shutil.copy("v.npy", name)
    said = [
        succeed("build", name, "-o", name.replace(".npy", ".ev")).stderr,
        succeed("bench", name, "--ef", "2", "-k", 1).output,
        complaint("build", f"gone {name}", "-o", "x.ev"),
        complaint("search", f"gone {name}", "--id", "1"),
        complaint("search", "i.ev", "--query", f"[{EVIL}"),
        complaint("db", "notes.edgevec", "search", "--id", EVIL),
        complaint("db", "notes.edgevec", "import", f"gone {name}"),
        complaint("db", f"gone {name}", "info"),
        complaint("build", "rows.jsonl", "-o", "x.ev", "--column", EVIL),
        complaint(EVIL),
        complaint("search", f"--{EVIL}"),
        run("db", "notes.edgevec", "search", "--text", "x", "--where", f"a = '{EVIL}").stderr,
    ]
    for line in said:
        assert_harmless(line)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_a_file_name_that_is_no_text_is_shown(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x9b2J.npy")
    assert r"caf\udce9\udc9b2J.npy: no such file" in complaint("build", name, "-o", "x.ev")
    shutil.copy("v.npy", name)
    assert r"\udce9" in succeed("build", name, "-o", "x.ev").stderr


# ---- nothing found -------------------------------------------------------------------------------------------------


def test_an_empty_result_says_so(here: Path) -> None:
    edgevec.Index(4).save("none.ev")
    edgevec.open("none.edgevec", dim=2).close()
    assert succeed("search", "none.ev", "--query", "[1,0,0,0]").stdout == "nothing found; the index is empty\n"
    two = succeed("search", "none.ev", "--query", "v.npy").stdout.splitlines()
    assert two[:2] == [f"query {at}: nothing found; the index is empty" for at in (0, 1)]
    assert succeed("db", "none.edgevec", "search", "--vector", "[1,0]").stdout == (
        "nothing found; the collection is empty\n"
    )
    assert succeed("db", "notes.edgevec", "search", "--text", "owls").stdout == "nothing found\n"
    assert json.loads(succeed("db", "notes.edgevec", "search", "--text", "owls", "--json").stdout) == []


def test_scores_of_words_in_a_small_collection_are_no_zeros(here: Path) -> None:
    [hit] = json.loads(succeed("db", "notes.edgevec", "search", "--text", "precious", "--json").stdout)
    assert 0 < hit["score"] < 5e-5
    assert f"{hit['score']:.2e}" in succeed("db", "notes.edgevec", "search", "--text", "precious").stdout


# ---- files of another kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("search notes.edgevec --id 1", "a collection, not an index; use edgevec db notes.edgevec"),
        ("search v.npy --id 1", "a file of vectors, not an index; use edgevec build v.npy"),
        ("search recipes.db --id 1", "an SQLite database of another program, not an index"),
        ("search letter.txt --id 1", "another kind of file, not an index"),
        ("search i.ev --query notes.edgevec", "a collection, not a file of vectors"),
        ("search i.ev --query i.ev", "an index, not a file of vectors; use edgevec search i.ev"),
        ("search i.ev --id 1 --data notes.edgevec", "a collection, not a file of vectors"),
        ("build notes.edgevec -o x.ev", "a collection, not a file of vectors; use edgevec db notes.edgevec"),
        ("build i.ev -o x.ev", "an index, not a file of vectors; use edgevec search i.ev"),
        ("build recipes.db -o x.ev", "an SQLite database of another program, not a file of vectors"),
        ("bench i.ev", "an index, not a file of vectors"),
        ("bench notes.edgevec", "a collection, not a file of vectors"),
        ("db i.ev info", "an index, not a collection; use edgevec search i.ev"),
        ("build i.evd -o x.ev", "an index with its graph on disk, not a file of vectors; use edgevec search i.evd"),
        ("db i.evd info", "an index with its graph on disk, not a collection; use edgevec search i.evd"),
        ("db v.npy info", "a file of vectors, not a collection; use edgevec build v.npy"),
        ("db v.npy import rows.jsonl", "a file of vectors, not a collection"),
        ("db i.ev import rows.jsonl", "an index, not a collection"),
        ("db recipes.db import rows.jsonl", "an SQLite database of another program, not a collection"),
        ("db letter.txt import rows.jsonl", "another kind of file, not a collection"),
        ("db letter.txt check --repair", "another kind of file, not a collection"),
        ("db i.ev compact", "an index, not a collection"),
        ("db i.ev export -o x.jsonl", "an index, not a collection"),
        ("db new.edgevec import notes.edgevec", "a collection, not a file of vectors"),
        ("db new.edgevec import i.ev", "an index, not a file of vectors"),
    ],
)
def test_a_file_of_another_kind_is_named_with_its_command_and_left_alone(here: Path, arguments: str, said: str) -> None:
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    line = complaint(*arguments.split())
    assert said in line
    assert "damaged" not in line
    after = {path.name: path.read_bytes() for path in here.iterdir() if not path.name.endswith(("-wal", "-shm"))}
    assert after == {name: content for name, content in before.items() if not name.endswith(("-wal", "-shm"))}


def test_an_index_with_its_graph_on_disk_is_searched(here: Path) -> None:
    wanted, found = (run("search", name, "--id", 2, "-k", 3, "--json").stdout for name in ("i.ev", "i.evd"))
    assert json.loads(found) == json.loads(wanted)
    assert "--ef" in complaint("search", "i.evd", "--id", 2, "--recall", 0.9)


@pytest.mark.parametrize("name", ["c.npy", "c.ev", "c.jsonl", "c"])
def test_a_collection_is_known_under_any_name(here: Path, name: str) -> None:
    shutil.copy("notes.edgevec", name)
    assert f"{name}: a collection, not a" in complaint("build", name, "-o", "x.ev")
    assert f"{name}: a collection, not an index" in complaint("search", name, "--id", 1)
    succeed("db", name, "info")


# ---- what is written over ------------------------------------------------------------------------------------------


def same_as(name: str, how: str) -> str:
    """Another name of the file."""
    if how == "itself":
        return name
    if how == "path":
        return str(Path.cwd() / name)
    other = f"other-{name}"
    (os.symlink if how == "symbolic link" else os.link)(name, other)
    return other


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("how", ["itself", "path", "symbolic link", "hard link"])
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("build v.npy -o", "v.npy"),
        ("bench v.npy --ef 2 -k 1 --json", "v.npy"),
        ("db notes.edgevec export -o", "notes.edgevec"),
    ],
)
def test_no_command_writes_over_what_it_reads(here: Path, how: str, force: list[str], command: str, name: str) -> None:
    before = Path(name).read_bytes()
    assert "is read by this command" in complaint(*command.split(), same_as(name, how), *force)
    assert Path(name).read_bytes() == before


@pytest.mark.parametrize(
    ("command", "target", "kind"),
    [
        ("build v.npy -o", "notes.edgevec", "a collection"),
        ("build v.npy -o", "rows.jsonl", "a file of vectors"),
        ("build v.npy -o", "letter.txt", "another kind of file"),
        ("build v.npy -o", "recipes.db", "an SQLite database of another program"),
        ("bench v.npy --ef 2 -k 1 --json", "notes.edgevec", "a collection"),
        ("bench v.npy --ef 2 -k 1 --json", "i.ev", "an index"),
        ("bench v.npy --ef 2 -k 1 --json", "letter.txt", "another kind of file"),
        ("db notes.edgevec export -o", "rows.jsonl", "a file of vectors"),
    ],
)
def test_a_file_of_another_kind_is_replaced_with_force_alone(here: Path, command: str, target: str, kind: str) -> None:
    before = Path(target).read_bytes()
    line = complaint(*command.split(), target)
    assert f"{target}: exists, and is {kind}; --force replaces it" in line
    assert Path(target).read_bytes() == before
    succeed(*command.split(), target, "--force")
    assert Path(target).read_bytes() != before


def test_an_index_or_an_empty_file_is_replaced_by_build(here: Path) -> None:
    np.save("more.npy", np.ones((7, 3), np.float32) + np.arange(7)[:, None])
    for target in ("i.ev", "empty.ev"):
        succeed("build", "more.npy", "-o", target, "--metric", "l2")
        assert len(edgevec.Index.load(target)) == 7


def test_a_picture_is_not_drawn_over_another_one(here: Path) -> None:
    need_module("matplotlib")
    Path("photo.png").write_bytes(b"\x89PNG mine")
    assert "photo.png: exists" in complaint("bench", "v.npy", "--ef", "2", "-k", 1, "--plot", "photo.png")
    assert Path("photo.png").read_bytes() == b"\x89PNG mine"
    both = complaint("bench", "v.npy", "--ef", "2", "-k", 1, "--plot", "x.svg", "--json", "x.svg")
    assert "cannot be both" in both


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_regular_file_is_not_replaced(here: Path) -> None:
    os.mkfifo("pipe.ev")  # as a device would be
    assert "not a regular file" in complaint("build", "v.npy", "-o", "pipe.ev", "--force")
    assert Path("pipe.ev").is_fifo()


# ---- streams -------------------------------------------------------------------------------------------------------

COMMANDS = (
    "--help",
    "info",
    "info --json",
    "search i.ev --id 1",
    "search i.ev --id 1 --json",
    "db notes.edgevec info",
    "db notes.edgevec search --text precious",
    "db notes.edgevec check",
    "bench v.npy --ef 2 -k 1 --json out.json --force",
    "demo cat --repeats 1",
)
each_command = pytest.mark.parametrize("command", COMMANDS)


def program(shell: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of sh, in which EDGEVEC is the program."""
    python = " ".join([f'"{sys.executable}"', *options, "-m edgevec"])
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", shell.replace("EDGEVEC", python)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=HANG,
        env={**inherited, "COLUMNS": "100", **environment},
    )


on_unix = pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")


def assert_no_traceback(said: str) -> None:
    assert "Traceback" not in said
    assert "Exception" not in said


@on_unix
@pytest.mark.subprocess
@pytest.mark.parametrize("options", [(), ("-u",)])
@each_command
def test_a_reader_that_leaves_is_no_traceback(here: Path, command: str, options: tuple[str, ...]) -> None:
    done = program(f"EDGEVEC {command} | (exec 0<&-; sleep 0.1)", *options)
    assert_no_traceback(done.stderr)


@on_unix
@pytest.mark.subprocess
@each_command
def test_a_full_disk_is_one_line(here: Path, command: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("a device of Linux")
    done = program(f"EDGEVEC {command} >/dev/full")
    assert done.returncode == 2
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert_no_traceback(done.stderr)
    assert program(f"EDGEVEC {command} 2>/dev/full").returncode == 0  # notes that nobody can read are no reason to stop
    if "out.json" in command:
        assert json.loads(Path("out.json").read_text())["points"]  # what was measured is kept


@on_unix
@pytest.mark.subprocess
def test_results_that_nobody_can_see_are_a_mistake_and_work_is_none(here: Path) -> None:
    done = program("EDGEVEC info --json >&-")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "standard output is closed" in done.stderr
    assert program("EDGEVEC build v.npy -o x.ev >&- 2>&-").returncode == 0
    done = program("EDGEVEC build gone.npy -o x.ev 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


@on_unix
@pytest.mark.subprocess
def test_a_closed_standard_input_is_one_line(here: Path) -> None:
    done = program("EDGEVEC search i.ev --query - <&-")
    assert (done.returncode, done.stderr) == (2, "edgevec: standard input is closed\n")
    assert program("EDGEVEC demo --repeats 1 <&-").returncode == 0
    need_module("textual")
    done = program("EDGEVEC tui <&-")
    assert "needs a terminal" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.subprocess
@on_unix
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp932"])
def test_an_encoding_that_cannot_hold_a_text_shows_an_escape(here: Path, encoding: str) -> None:
    text = "caf\u00e9 \u6771\u4eac tower \U0001f600"
    with edgevec.open("wide.edgevec") as made:
        made.upsert([1], [[1.0, 2.0]], {"city": text}, [text])
    for arguments in ("search --text tower", "search --text tower --json", "info"):
        command = [sys.executable, "-m", "edgevec", "db", "wide.edgevec", *arguments.split()]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=environment, timeout=HANG)
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        if "--json" in arguments:
            assert json.loads(done.stdout.decode(encoding))[0]["document"] == text
        elif "search" in arguments:
            assert "tower" in done.stdout.decode(encoding)


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals in Python")
@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_the_app_needs_a_terminal_that_moves_its_cursor(kind: str) -> None:
    need_module("textual")
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgevec", "tui"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": kind})
    os.close(theirs)
    try:
        assert process.wait(60) == 2
        assert b"needs a terminal" in os.read(ours, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


# ---- without the core ----------------------------------------------------------------------------------------------


@pytest.mark.subprocess
def test_a_source_tree_without_its_core_says_what_to_do(tmp_path: Path) -> None:
    package = Path(edgevec.__file__).parent
    shutil.copytree(package, tmp_path / "edgevec", ignore=shutil.ignore_patterns("_core*", "__pycache__"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import edgevec"
    isolated = [sys.executable, "-S", "-c", program]  # without the hook of an editable installation
    done = subprocess.run(isolated, capture_output=True, text=True, cwd=tmp_path, timeout=HANG)
    last = done.stderr.splitlines()[-1]
    assert "the C core of edgevec is not built" in last
    assert "pip install" in last
    assert "circular" not in last
