"""The file: permissions, folders, links, other processes that have it open, and its removal."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import HANG

import edgevec
from edgevec.collection import looks_like_collection

NOBODY = 65534
posix = pytest.mark.skipif(os.name != "posix" or sys.platform == "emscripten", reason="POSIX files and users")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.edgevec"


def make(path: Path, n: int = 5) -> None:
    with edgevec.open(path) as made:
        made.upsert(list(range(n)), [[1.0, i] for i in range(n)], documents=[f"text {i}" for i in range(n)])


def content(folder: Path) -> dict[str, bytes | None]:
    return {entry.name: entry.read_bytes() if entry.is_file() else None for entry in folder.iterdir()}


REHEARSED = """
import os, sys, tempfile, traceback
import edgevec
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "c.edgevec")
    with edgevec.open(path) as made:
        made.upsert([1, 2], [[1, 2], [2, 1]])
    with edgevec.open(path, mode="r") as read, edgevec.open(path) as made:
        made.upsert([3], [[0, 1]])
        assert len(read.search([1, 1])) == 3
        assert read.check().ok
"""
"""Everything that is imported late is there by then: the libraries may lie where an ordinary user cannot read."""


def as_user(user: int, program: str) -> str:
    """The program run by another user if this process is root's."""
    return f"{REHEARSED}\nif os.getuid() == 0: os.setgid({user}); os.setuid({user})\n{program}"


def run(program: str, *arguments: Any, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """In a process of its own, of another user if this one is root."""
    program = as_user(user, program) if user else f"import edgevec.collection, numpy, os, sys\n{program}"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=HANG,
    )


# ---- strangers' files ----------------------------------------------------------------------------------------------


def database(path: Path, mode: str = "DELETE", *, application: int = 0) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA journal_mode = {mode}")
    if application:
        other.execute(f"PRAGMA application_id = {application}")
    other.execute("CREATE TABLE t (x)")
    other.close()


def newer(path: Path) -> None:
    make(path)
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.execute("PRAGMA journal_mode = DELETE")
    other.close()


STRANGERS: dict[str, Callable[[Path], Any]] = {
    "database": database,
    "WAL database": lambda path: database(path, "WAL"),
    "another program's database": lambda path: database(path, application=42),
    "newer version": newer,
    "text": lambda path: path.write_text("no database, but long enough to look like one\n" * 100),
    "one byte": lambda path: path.write_bytes(b"x"),
    "half a header": lambda path: path.write_bytes(b"SQLite form"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("mode", ["a", "r"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_what_is_no_collection_is_not_touched(path: Path, kind: str, mode: Any) -> None:
    STRANGERS[kind](path)
    Path(f"{path}-graph").unlink(missing_ok=True)
    Path(f"{path}-lock").unlink(missing_ok=True)
    before = content(path.parent)
    with pytest.raises(edgevec.EdgevecError):
        edgevec.open(path, mode=mode)
    assert content(path.parent) == before
    assert not looks_like_collection(path)


def test_reading_an_empty_file_leaves_it_empty(path: Path) -> None:
    path.touch()
    with pytest.raises(edgevec.CollectionNotFoundError, match="empty"):
        edgevec.open(path, mode="r")
    assert content(path.parent) == {path.name: b""}
    make(path)
    assert looks_like_collection(path)


@posix
@pytest.mark.subprocess
@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_pipe_does_not_block(path: Path, mode: str) -> None:
    os.mkfifo(path)
    done = run("edgevec.open(sys.argv[1], mode=sys.argv[2])", path, mode)
    assert "StorageError" in done.stderr
    assert sorted(content(path.parent)) == [path.name]


@posix
@pytest.mark.subprocess
def test_a_pipe_in_place_of_the_graph_does_not_block(path: Path) -> None:
    make(path)
    os.mkfifo(f"{path}-graph")
    done = run("print(len(edgevec.open(sys.argv[1]).search([1, 1])))", path)
    assert done.stdout == "5\n", done.stderr


@posix
def test_a_device_is_refused() -> None:
    with pytest.raises(edgevec.StorageError, match="regular"):
        edgevec.open("/dev/null")


@pytest.mark.subprocess
def test_a_database_that_lives_in_its_log_is_told_from_a_collection(path: Path) -> None:
    """Killed before the first checkpoint, a database has only its log; as much of ours, made by older versions."""
    stranger = (
        "import sqlite3; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE t (x)'); os.kill(os.getpid(), 9)"
    )
    run(stranger, path)
    before = content(path.parent)
    assert before[f"{path.name}-wal"]
    with pytest.raises(edgevec.CorruptCollectionError, match="not a collection"):
        edgevec.open(path)
    assert content(path.parent) == before
    ours = path.with_name("ours")
    program = (
        "import sqlite3; from edgevec.collection import schema; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL');"
        "schema.create(c, dict(metric='l2', quantization='none', M=16, ef_construction=200, dtype='float32'));"
        "os.kill(os.getpid(), 9)"
    )
    run(program, ours)
    assert looks_like_collection(ours)
    with edgevec.open(ours) as made:
        assert made.metric == "l2"


@posix
@pytest.mark.subprocess
def test_looking_at_an_open_collection_keeps_its_locks(path: Path) -> None:
    """Closing a file by other means than SQLite's would drop this process's locks on it."""
    make(path)
    with edgevec.open(path) as made:
        for _ in range(3):
            assert looks_like_collection(path)
            with pytest.raises(edgevec.LockedError):
                edgevec.open(path)
            edgevec.open(path, mode="r").close()
        program = (
            "import sqlite3; c = sqlite3.connect(sys.argv[1], timeout=0); c.execute('PRAGMA locking_mode = EXCLUSIVE');"
            "c.execute('SELECT * FROM state').fetchall()"
        )
        assert "locked" in run(program, path).stderr
        made.upsert([9], [[1.0, 9.0]])


# ---- folders that cannot be written to -----------------------------------------------------------------------------

READ = "c = edgevec.open(sys.argv[1], mode='r'); print(len(c), len(c.search([1, 1])), c.check().ok)"


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """To be closed by the test; its parents are open to every user, which pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@posix
@pytest.mark.subprocess
def test_reading_in_a_folder_without_permission_to_write(closed_folder: Path) -> None:
    path = closed_folder / "c.edgevec"
    make(path)
    before = content(closed_folder)
    closed_folder.chmod(0o555)
    done = run(READ, path, user=NOBODY)
    assert done.stdout == "5 5 True\n", done.stderr
    assert content(closed_folder) == before
    done = run("edgevec.open(sys.argv[1])", path, user=NOBODY)
    assert "StorageError" in done.stderr
    assert content(closed_folder) == before


@posix
@pytest.mark.subprocess
@pytest.mark.parametrize("index", ["kept", "lost"])
def test_reading_what_a_killed_writer_left_in_such_a_folder(closed_folder: Path, index: str) -> None:
    """With the log's index beside it all is read; without, the error says what to do."""
    path = closed_folder / "c.edgevec"
    run("c = edgevec.open(sys.argv[1]); c.upsert([1, 2], [[1, 2], [2, 1]]); os.kill(os.getpid(), 9)", path)
    assert Path(f"{path}-wal").stat().st_size
    if index == "lost":
        Path(f"{path}-shm").unlink()
    before = content(closed_folder)
    closed_folder.chmod(0o555)
    done = run(READ, path, user=NOBODY)
    if index == "kept":
        assert done.stdout == "2 2 True\n", done.stderr
    else:
        assert "StorageError" in done.stderr
        assert "copy both files" in done.stderr
    assert content(closed_folder) == before


@posix
@pytest.mark.subprocess
def test_a_reader_in_such_a_folder_sees_what_is_written_later(closed_folder: Path) -> None:
    path = closed_folder / "c.edgevec"
    make(path)
    closed_folder.chmod(0o555)
    program = (
        "c = edgevec.open(sys.argv[1], mode='r'); print(len(c), flush=True); sys.stdin.readline()\n"
        "print(len(c), c.search([0, -1], 1)[0].id, flush=True); sys.stdin.readline()\n"
        "print(len(c), c.search([-1, -1], 1)[0].id, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", as_user(NOBODY, program), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "5\n"
        closed_folder.chmod(0o755)
        with edgevec.open(path) as made:
            closed_folder.chmod(0o555)
            made.upsert([77], [[0.0, -1.0]])
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "6 77\n"
            made.upsert([78], [[-1.0, -1.0]])
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "7 78\n"
    closed_folder.chmod(0o755)


@posix
@pytest.mark.subprocess
def test_reading_on_a_read_only_mount(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    path = folder / "c.edgevec"
    make(path)
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mount is not permitted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True, capture_output=True)
        done = run(READ, path)
        assert done.stdout == "5 5 True\n", done.stderr
        assert "StorageError" in run("edgevec.open(sys.argv[1])", path).stderr
    finally:
        subprocess.run(["umount", folder], check=True)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_files_beside_have_the_permissions_of_the_database(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    with edgevec.open(path) as made:
        made.upsert(range(300), np.random.default_rng(0).standard_normal((300, 4)))
        made.checkpoint()
        made.upsert([1], np.ones((1, 4)))
        found = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert set(found) == {f"{path.name}{end}" for end in ("", "-graph", "-lock", "-wal", "-shm")}
    assert set(found.values()) == {mode}


@posix
def test_files_that_were_there_get_the_permissions_of_the_database(path: Path) -> None:
    make(path)
    Path(f"{path}-lock").chmod(0o644)
    path.chmod(0o600)
    edgevec.open(path).close()
    assert stat.S_IMODE(Path(f"{path}-lock").stat().st_mode) == 0o600


@posix
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_files_beside_have_the_owner_of_the_database(path: Path) -> None:
    path.touch()
    os.chown(path, 1234, 4321)
    with edgevec.open(path) as made:
        made.upsert([1], [[1.0, 2.0]])
        made.checkpoint()
        for entry in path.parent.iterdir():
            assert (entry.stat().st_uid, entry.stat().st_gid) == (1234, 4321), entry


# ---- one file, several names ---------------------------------------------------------------------------------------

WRITE = "c = edgevec.open(sys.argv[1]); c.upsert([int(sys.argv[2])], [[1, 2]]); c.close(); print('written')"


@posix
@pytest.mark.subprocess
@pytest.mark.parametrize("link", ["symlink", "link"])
@pytest.mark.parametrize("process", ["this", "another"])
def test_one_writer_under_whatever_name(path: Path, link: str, process: str) -> None:
    make(path)
    other = path.with_name("other")
    with edgevec.open(path) as made:
        made.upsert([50], [[5.0, 0.0]])
        getattr(os, link)(path, other)
        if process == "this":
            with pytest.raises(edgevec.LockedError):
                edgevec.open(other)
        else:
            assert "LockedError" in run(WRITE, other, 60).stderr
        made.upsert([51], [[5.0, 1.0]])
        assert made.check().ok
    with edgevec.open(other) as made:
        assert made.ids() == [0, 1, 2, 3, 4, 50, 51]
        assert made.check().ok


@posix
@pytest.mark.subprocess
@pytest.mark.parametrize("process", ["this", "another"])
def test_no_reader_under_another_hard_link(path: Path, process: str) -> None:
    """SQLite's log goes by name: it would read past what is in the log."""
    make(path)
    other = path.with_name("other")
    os.link(path, other)
    with edgevec.open(path) as made:
        made.upsert([50], [[5.0, 0.0]])
        if process == "this":
            with pytest.raises(edgevec.LockedError):
                edgevec.open(other, mode="r")
        else:
            assert "LockedError" in run("edgevec.open(sys.argv[1], mode='r')", other).stderr
            assert run("print(len(edgevec.open(sys.argv[1], mode='r')))", path).stdout == "6\n"
        with edgevec.open(path, mode="r") as reader:
            assert len(reader) == 6


@posix
def test_a_symbolic_link_shares_the_files_beside(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    make(tmp_path / "real" / "c.edgevec")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "c.edgevec")
    with edgevec.open(link) as made, edgevec.open(link, mode="r") as reader:
        made.upsert([9], [[1.0, 9.0]])
        made.checkpoint()
        assert len(reader) == 6
    assert [entry.name for entry in tmp_path.iterdir() if "-" in entry.name] == []
    assert (tmp_path / "real" / "c.edgevec-graph").exists()


@posix
@pytest.mark.subprocess
def test_a_writer_notices_another_one(path: Path) -> None:
    """Deleting the lock file lets a second writer in; the first of the two to notice raises LockedError."""
    make(path)
    with edgevec.open(path) as made:
        Path(f"{path}-lock").unlink()
        assert run(WRITE, path, 60).stdout == "written\n"
        for _ in range(2):
            with pytest.raises(edgevec.EdgevecError, match="lock"):
                made.upsert([61], [[1.0, 6.0]])
    with edgevec.open(path) as made:
        assert made.ids() == [0, 1, 2, 3, 4, 60]
        assert made.check().ok


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_a_version_that_is_not_ours_is_another_writer(path: Path) -> None:
    make(path)
    with edgevec.open(path) as made:
        other = sqlite3.connect(path)
        other.execute("UPDATE state SET version = version + 1")
        other.commit()
        other.close()
        for _ in range(2):
            with pytest.raises(edgevec.LockedError, match="another writer"):
                made.upsert([61], [[1.0, 6.0]])
        with pytest.raises(edgevec.LockedError, match="another writer"):
            made.checkpoint()
    with edgevec.open(path) as made:
        assert len(made) == 5


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_what_the_sqlite_shell_changes_is_noticed(path: Path) -> None:
    """Conditions are remembered by the version of the records, which only edgevec counts."""
    with edgevec.open(path) as made:
        made.upsert([1, 2], [[1, 2], [2, 1]], [{"n": 1}, {"n": 2}])
        assert [hit.id for hit in made.search([1, 1], where="n = 2")] == [2]
        other = sqlite3.connect(path)
        other.execute("""UPDATE records SET metadata = '{"n": 2}' WHERE id = 1""")
        other.commit()
        other.close()
        version = made.refresh()
        assert {hit.id for hit in made.search([1, 1], where="n = 2")} == {1, 2}
        assert made.refresh() == version


# ---- files that go away --------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


@posix
@pytest.mark.parametrize("change", [remove, replace])
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-lock"])
def test_nothing_is_written_to_a_removed_file(path: Path, change: Callable[[Path], None], end: str) -> None:
    made = edgevec.open(path)
    made.upsert([1], [[1.0, 2.0]])
    change(Path(f"{path}{end}"))
    calls: list[Callable[[], Any]] = [
        lambda: made.upsert([2], [[2.0, 1.0]]),
        lambda: made.delete([1]),
        made.checkpoint,
        made.compact,
    ]
    for call in calls:
        with pytest.raises(edgevec.StorageError, match=r"removed|replaced") as raised:
            call()
        assert raised.value.filename == f"{path}{end}"
        assert raised.value.errno == (errno.ENOENT if change is remove else errno.ESTALE)
    assert made.ids() == [1]
    made.close()


@posix
def test_a_file_removed_during_a_batch(path: Path) -> None:
    made = edgevec.open(path)
    made.upsert([1], [[1.0, 2.0]])

    def write() -> None:
        with made.batch():
            made.upsert([2], [[2.0, 1.0]])
            path.unlink()

    with pytest.raises(edgevec.StorageError, match="removed"):
        write()
    assert [hit.id for hit in made.search([2.0, 1.0])] == [1]
    made.close()


@posix
def test_a_folder_removed_while_open(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    made = edgevec.open(tmp_path / "sub" / "c.edgevec")
    made.upsert([1], [[1.0, 2.0]])
    shutil.rmtree(tmp_path / "sub")
    with pytest.raises(edgevec.StorageError, match="removed"):
        made.upsert([2], [[2.0, 1.0]])
    made.close()


@posix
@pytest.mark.parametrize("change", [remove, replace])
def test_a_reader_whose_file_is_removed_gets_an_error(path: Path, change: Callable[[Path], None]) -> None:
    make(path)
    with edgevec.open(path, mode="r") as reader:
        change(path)
        for call in (reader.refresh, lambda: reader.search([1, 1]), lambda: len(reader)):
            with pytest.raises(edgevec.StorageError, match=r"removed|replaced"):
                call()


@posix
@pytest.mark.subprocess
@pytest.mark.parametrize("change", ["truncated", "copied over"])
def test_a_graph_file_may_change_while_it_is_open(path: Path, change: str) -> None:
    """By default it is read into memory, and later changes of the file have no effect."""
    rng = np.random.default_rng(0)
    with edgevec.open(path) as made:
        made.upsert(range(3000), rng.standard_normal((3000, 64)))
        made.checkpoint()
    program = (
        "c = edgevec.open(sys.argv[1], mode='r'); f = open(sys.argv[1] + '-graph', 'r+b')\n"
        "f.truncate(0) if sys.argv[2] == 'truncated' else f.write(os.urandom(os.path.getsize(f.name)))\n"
        "f.flush(); q = numpy.random.default_rng(1).standard_normal((20, 64))\n"
        "print(sum(len(c.search(x, 10)) for x in q))"
    )
    done = run(program, path, change)
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr


@pytest.mark.mmap
def test_the_graph_may_be_used_in_place(path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    with edgevec.open(path) as made:
        made.upsert(range(300), vectors)
        made.checkpoint()
    with edgevec.open(path, mode="r") as read, edgevec.open(path, mode="r", mmap=True) as mapped:
        for query in vectors[:20]:
            assert mapped.search(query) == read.search(query)


# ---- what the system says ------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has no such limits")
def test_errors_carry_number_and_file(path: Path, tmp_path: Path) -> None:
    with pytest.raises(edgevec.CollectionNotFoundError) as missing:
        edgevec.open(path, mode="r")
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, str(path))
    assert str(missing.value) == f"{path}: no such collection"
    with pytest.raises(edgevec.StorageError) as folder:
        edgevec.open(tmp_path)
    assert (folder.value.errno, folder.value.filename) == (errno.EISDIR, str(tmp_path))
    with edgevec.open(path) as made:
        made.upsert([1], [[1.0, 2.0]])
        with pytest.raises(edgevec.LockedError) as locked:
            edgevec.open(path)
        assert locked.value.filename == str(path)
        made._store.database.main.execute("PRAGMA max_page_count = 1")
        with pytest.raises(edgevec.StorageError) as full:
            made.upsert(range(500), np.ones((500, 2)), [{"x": "y" * 100}] * 500)
        assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
        assert len(made) == 1
    again = pickle.loads(pickle.dumps(full.value))
    assert (again.errno, again.filename, str(again)) == (errno.ENOSPC, str(path), str(full.value))


@pytest.mark.parametrize(
    ("code", "message", "kind", "number"),
    [
        (5, "database is locked", edgevec.LockedError, errno.EAGAIN),
        (8, "attempt to write a readonly database", edgevec.StorageError, None),
        (9, "interrupted", edgevec.EdgevecError, None),
        (10 | 4 << 8, "disk I/O error", edgevec.StorageError, errno.EIO),
        (10 | 12 << 8, "disk I/O error", edgevec.OutOfMemoryError, None),
        (11 | 1 << 8, "database disk image is malformed", edgevec.CorruptCollectionError, None),
        (13, "database or disk is full", edgevec.StorageError, errno.ENOSPC),
        (14, "unable to open database file", edgevec.StorageError, None),
        (18, "string or blob too big", edgevec.ParameterError, None),
        (26, "file is not a database", edgevec.CorruptCollectionError, None),
    ],
)
@pytest.mark.parametrize("known", ["code", "words"])
def test_sqlite_errors_by_code_and_by_words(
    tmp_path: Path, code: int, message: str, kind: type[Exception], number: int | None, known: str
) -> None:
    """Python tells SQLite's codes from 3.11 on. Not every one of them can be provoked with a real file."""
    from edgevec.collection.sqlite_errors import translate

    error = sqlite3.OperationalError("whatever" if known == "code" else message)
    if known == "code":
        error.sqlite_errorcode = code
    elif code >> 8 == 12:
        return  # words do not tell it
    with pytest.raises(kind) as raised:
        translate(error, str(tmp_path / "c"))
    assert type(raised.value) is kind
    assert getattr(raised.value, "errno", None) == number


def test_a_message_names_some_ids_of_many(path: Path) -> None:
    with edgevec.open(":memory:", 2) as made, pytest.raises(edgevec.UnknownIdError) as raised:
        made.get([*range(9_998), "x" * 100_000])
    assert str(raised.value) == "no record has the ids 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 9,989 more"
    with edgevec.open(":memory:", 2) as made, pytest.raises(edgevec.UnknownIdError) as raised:
        made.get("x" * 100_000)
    assert len(str(raised.value)) < 200
