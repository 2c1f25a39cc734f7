"""What a file is written over: regular files and links to them, whose modes stay; no pipe, device or folder."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgevec
from edgevec.files import replacing

Write = Callable[[Path], None]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and symbolic links as POSIX has them")
no_pipes = pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has no pipes")


def save(path: Path) -> None:
    index = edgevec.Index(4)
    index.add(np.eye(4), [10, 11, 12, 13])
    index.save(path)
    assert sorted(edgevec.Index.load(path)) == [10, 11, 12, 13]


def export(path: Path) -> None:
    with edgevec.open(":memory:", 4) as made:
        made.upsert([10, 11], np.eye(4)[:2])
        assert made.export(path) == 2
    assert path.read_text().count("\n") == 2


def write(path: Path) -> None:
    with replacing(path) as new:
        new.write_text("whole")
    assert path.read_text() == "whole"


each_way = pytest.mark.parametrize("put", [save, export, write])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "x.jsonl"


def only(folder: Path, *names: str) -> bool:
    """No temporary file is left."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


@each_way
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666])
def test_an_old_file_leaves_its_mode_to_the_new_one(put: Write, mode: int, place: Path) -> None:
    place.write_text("old")
    place.chmod(mode)
    owner = (place.stat().st_uid, place.stat().st_gid)
    put(place)
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert (place.stat().st_uid, place.stat().st_gid) == owner
    assert only(place.parent, place.name)


@each_way
def test_a_new_file_has_the_mode_that_the_process_gives(put: Write, place: Path) -> None:
    other = place.with_name("other")
    other.write_text("")
    put(place)
    assert stat.S_IMODE(place.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@pytest.mark.parametrize("old", [None, 0o644])
def test_a_mode_that_is_given_is_the_files(old: int | None, tmp_path: Path) -> None:
    path = tmp_path / "private"
    if old is not None:
        path.write_bytes(b"old")
        path.chmod(old)
    with replacing(path, 0o600) as new:
        assert new.stat().st_mode & 0o777 == 0o600
        new.write_bytes(b"new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"new"


@each_way
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has one user")
def test_an_old_file_leaves_its_owner_where_that_is_permitted(put: Write, place: Path) -> None:
    place.write_text("old")
    os.chown(place, 12345, 23456)
    place.chmod(0o640)
    put(place)
    assert (place.stat().st_uid, place.stat().st_gid) == (12345, 23456)
    assert stat.S_IMODE(place.stat().st_mode) == 0o640


@each_way
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_is_followed_and_stays(put: Write, dangling: bool, relative: bool, place: Path) -> None:
    """Through a second link, into another folder."""
    folder = place.parent / "elsewhere"
    folder.mkdir()
    target, middle = folder / "real.jsonl", folder / "middle.jsonl"
    if not dangling:
        target.write_text("old")
        target.chmod(0o600)
    middle.symlink_to("real.jsonl" if relative else target)
    place.symlink_to("elsewhere/middle.jsonl" if relative else middle)
    put(place)
    assert place.is_symlink()
    assert middle.is_symlink()
    assert not target.is_symlink()
    assert target.samefile(place)
    assert dangling or stat.S_IMODE(target.stat().st_mode) == 0o600
    assert only(folder, "middle.jsonl", "real.jsonl")


@each_way
def test_links_in_a_circle_are_refused(put: Write, place: Path) -> None:
    other = place.with_name("other.jsonl")
    place.symlink_to(other)
    other.symlink_to(place)
    with pytest.raises(edgevec.StorageError, match=r"x\.jsonl") as raised:
        put(place)
    assert raised.value.errno == errno.ELOOP
    assert place.is_symlink()
    assert only(place.parent, place.name, other.name)


@each_way
def test_a_folder_is_refused(put: Write, place: Path) -> None:
    place.mkdir()
    with pytest.raises(edgevec.StorageError, match=r"x\.jsonl.*[Dd]irectory") as raised:
        put(place)
    assert raised.value.errno == errno.EISDIR
    assert place.is_dir()
    assert only(place.parent, place.name)


@no_pipes
@each_way
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_refused_and_stays(put: Write, linked: bool, place: Path) -> None:
    pipe = place.with_name("pipe.jsonl") if linked else place
    os.mkfifo(pipe)
    if linked:
        place.symlink_to(pipe)
    with pytest.raises(OSError, match=r"x\.jsonl.*not a regular file") as raised:
        put(place)
    assert isinstance(raised.value, edgevec.StorageError)
    assert raised.value.errno == errno.EINVAL
    assert raised.value.filename == os.fspath(place)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert only(place.parent, *{place.name, pipe.name})


@no_pipes
@each_way
def test_a_device_is_refused_and_stays(put: Write, place: Path) -> None:
    """One of the test's own, like /dev/null: root could put a file in the place of the real one."""
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make devices")
    with pytest.raises(edgevec.StorageError, match=r"x\.jsonl.*not a regular file"):
        put(place)
    assert stat.S_ISCHR(place.stat().st_mode)
    assert only(place.parent, place.name)


@each_way
@pytest.mark.parametrize("length", [200, 240, 255])
def test_a_name_may_be_as_long_as_names_can_be(put: Write, length: int, place: Path) -> None:
    long = place.with_name("n" * (length - len(".jsonl")) + ".jsonl")
    put(long)
    put(long)
    assert only(place.parent, long.name)


@each_way
def test_a_name_in_the_working_folder(put: Write, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.parent)
    put(Path("x.jsonl"))
    assert only(place.parent, "x.jsonl")


def test_what_fails_while_it_is_written_leaves_the_old_file(place: Path) -> None:
    place.write_text("old")

    def fail() -> None:
        with replacing(place) as new:
            new.write_text("half")
            raise LookupError("in the middle")

    with pytest.raises(LookupError):
        fail()
    assert place.read_text() == "old"
    assert only(place.parent, place.name)


# ---- what the errors say -------------------------------------------------------------------------------------------


def loaded(path: Path) -> object:
    return edgevec.Index.load(path)


def read(path: Path) -> object:
    return edgevec.read_vectors(path.with_suffix(".npy"))


def opened(path: Path) -> object:
    return edgevec.open(path, mode="r")


@pytest.mark.parametrize("call", [loaded, read, opened])
def test_a_missing_file_is_told_as_python_tells_it(call: Callable[[Path], object], tmp_path: Path) -> None:
    missing = tmp_path / "not there"
    with pytest.raises(FileNotFoundError, match="not there") as raised:
        call(missing)
    error = raised.value
    assert isinstance(error, edgevec.EdgevecError)
    assert (error.errno, error.strerror) == (errno.ENOENT, os.strerror(errno.ENOENT))
    assert Path(error.filename).stem == "not there"


@pytest.mark.parametrize("put", [save, export, write])
def test_a_missing_folder_is_told_as_python_tells_it(put: Write, tmp_path: Path) -> None:
    path = tmp_path / "no folder" / "x.jsonl"
    with pytest.raises(OSError, match="no folder") as raised:
        put(path)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, os.fspath(path))


@pytest.mark.parametrize("call", [loaded, lambda path: edgevec.read_vectors(path)])
def test_a_folder_to_read_from_is_told_as_python_tells_it(call: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "folder.npy"
    path.mkdir()
    with pytest.raises(OSError, match="folder") as raised:
        call(path)
    assert (raised.value.errno, raised.value.filename) == (errno.EISDIR, os.fspath(path))


@no_pipes
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_told_by_its_number(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> int:
        with open("/dev/full", "w") as file:
            return file.write(text)

    place.write_text("old")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(edgevec.StorageError) as raised:
        write(place)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, os.fspath(place))
    assert place.read_bytes() == b"old"
