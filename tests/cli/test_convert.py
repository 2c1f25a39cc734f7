"""edgevec convert, of files that need no other library; tests/doors has those libraries."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

from command import run
from foreign import write_faiss_flat, write_hnswlib

import edgevec

DIM = 6


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((25_000, DIM)).astype(np.float32)


def test_an_index_is_what_building_it_gives(rows: np.ndarray, tmp_path: Path) -> None:
    ids = np.arange(len(rows)) * 3 + 1
    write_faiss_flat(tmp_path / "faiss.index", rows, ids=ids)
    assert run("convert", tmp_path / "faiss.index", "-o", tmp_path / "new.ev", "-q", "none") == 0
    made = edgevec.Index.load(tmp_path / "new.ev")
    assert (made.metric, made.quantization, len(made)) == ("l2", "none", len(rows))
    np.testing.assert_array_equal(made.get(ids), rows)
    built = edgevec.Index(DIM, "l2", quantization="none")
    built.add(rows, ids)
    np.testing.assert_array_equal(made.search(rows[:50], 5, exact=True).ids, built.search(rows[:50], 5, exact=True).ids)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faiss.index", "new.ev"]


def test_an_index_becomes_a_collection_too(rows: np.ndarray, tmp_path: Path) -> None:
    write_hnswlib(tmp_path / "h.bin", rows, np.arange(len(rows)) + 2**60, deleted={3, 24_999})
    assert run("convert", tmp_path / "h.bin", "-o", tmp_path / "new.edgevec", "--metric", "cosine") == 0
    with edgevec.open(tmp_path / "new.edgevec") as made:
        assert (made.metric, len(made)) == ("cosine", 24_998)
        np.testing.assert_array_equal(made.get(2**60 + 20_000)[0].vector, rows[20_000])
        assert 2**60 + 3 not in made
        assert made.check().ok
    assert {path.name for path in tmp_path.iterdir()} <= {
        "h.bin",
        "new.edgevec",
        "new.edgevec-graph",
        "new.edgevec-lock",
    }


@pytest.mark.parametrize("quantization", ["none", "sq8", "binary"])
def test_an_index_gets_its_graph_on_disk(quantization: edgevec.Quantization, rows: np.ndarray, tmp_path: Path) -> None:
    index = edgevec.Index(
        DIM, "l2", quantization=quantization, keep_vectors="float32" if quantization != "none" else True
    )
    index.add(rows[:2000], np.arange(2000) * 7 - 2**60)
    index.remove(np.arange(0, 2000, 3) * 7 - 2**60)
    index.save(tmp_path / "old.ev")
    before = (tmp_path / "old.ev").read_bytes()
    assert run("convert", tmp_path / "old.ev", "-o", tmp_path / "new.evd") == 0
    edgevec.DiskIndex.write(index, tmp_path / "by_python.evd")
    assert (tmp_path / "new.evd").read_bytes() == (tmp_path / "by_python.evd").read_bytes()
    assert (tmp_path / "old.ev").read_bytes() == before
    with edgevec.DiskIndex(tmp_path / "new.evd") as made:
        kept = [row for row in range(2000) if row % 3]
        assert list(made.ids()) == [row * 7 - 2**60 for row in kept]
        np.testing.assert_array_equal(made.get(list(made.ids())), rows[kept])
        assert made.check()["live"] == len(kept)


def test_files_of_other_libraries_become_an_index_with_its_graph_on_disk(rows: np.ndarray, tmp_path: Path) -> None:
    write_faiss_flat(tmp_path / "f", rows[:500], ids=range(5, 505))
    assert run("convert", tmp_path / "f", "-o", tmp_path / "new.evd") == 0
    with edgevec.DiskIndex(tmp_path / "new.evd") as made:
        assert made.metric == "l2"
        found = made.search(rows[:500], 1).ids
        assert found[:, 0].tolist() == [*range(5, 505)]
    assert run("convert", tmp_path / "f", "-o", tmp_path / "new.evd", "-q", "none") == 0  # one of ours is replaced


def test_an_index_that_cannot_get_its_graph_on_disk(
    rows: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, target = tmp_path / "old.ev", tmp_path / "new.evd"
    index = edgevec.Index(DIM)
    index.add(rows[:50])
    index.save(old)
    for options in (["--metric", "cosine"], ["-q", "sq8"], ["--graph", "keep"], ["--id", "a"], ["--document", "b"]):
        assert "old.ev: an index of edgevec's, whose graph is written as it is: no --" in said(
            capsys, old, "-o", target, *options
        )
    index.save(target)
    assert "new.evd: exists, and is an index; --force replaces it" in said(capsys, old, "-o", target)
    assert "new.evd: is read by this command" in said(capsys, target, "-o", target, "--force")
    target.unlink()
    old.write_bytes(old.read_bytes()[:-9])
    assert "old.ev: " in said(capsys, old, "-o", target)
    assert not target.exists()


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert run("convert", *arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_what_cannot_be_converted(rows: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows[:100]
    flat, hnsw, target = tmp_path / "faiss.index", tmp_path / "h.bin", tmp_path / "new.ev"
    write_faiss_flat(flat, rows, ids=[*range(99), 7])
    write_hnswlib(hnsw, rows, range(100))
    edgevec.Index(3).save(tmp_path / "old.ev")
    edgevec.DiskIndex.write(edgevec.Index(3), tmp_path / "old.evd")
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE t (x);").connection.close()
    (tmp_path / "text").write_text("Vectors? None here.\n" * 100)
    (tmp_path / "folder").mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    for source, message in (
        (tmp_path / "nowhere", "nowhere: no such file"),
        (tmp_path / "text", "text: unknown kind of file; known are index files of hnswlib, faiss"),
        (os.devnull, "/dev/null: unknown kind"),
        (tmp_path / "folder", "folder: neither a folder of Chroma's nor of LanceDB's"),
        (tmp_path / "old.ev", "old.ev: an index of edgevec's; it becomes one with its graph on disk, -o FILE.evd"),
        (tmp_path / "old.evd", "old.evd: an index with its graph on disk, which is only searched"),
        (tmp_path / "other.db", "other.db: an SQLite database without a table of sqlite-vec"),
        (hnsw, "h.bin: an index of hnswlib, which does not say its metric: --metric cosine|ip|l2"),
        (flat, "an index Flat of faiss: id 7 comes twice"),
    ):
        assert message in said(capsys, source, "-o", target)
        assert {path.name for path in tmp_path.iterdir()} == before
    assert "id 7 comes twice" in said(capsys, flat, "-o", tmp_path / "new.edgevec")
    rows[77, 2] = np.nan
    write_faiss_flat(flat, rows)
    for name in ("new.ev", "new.edgevec"):
        assert "an index Flat of faiss: " in (line := said(capsys, flat, "-o", tmp_path / name))
        assert "row 77" in line
    assert {path.name for path in tmp_path.iterdir()} == before
    write_faiss_flat(flat, rows[:0])
    assert "holds no vectors" in said(capsys, flat, "-o", target)


@pytest.mark.parametrize("kind", ["faiss", "hnswlib"])
def test_every_truncation_is_noticed(kind: str, rows: np.ndarray, tmp_path: Path) -> None:
    from edgevec.importers import Options, open_source

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    if kind == "faiss":
        write_faiss_flat(whole, rows[:20], ids=range(20))
    else:
        write_hnswlib(whole, rows[:20], range(20))
    content = whole.read_bytes()
    assert open_source(whole, Options()).count == 20
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(edgevec.DataFormatError, match=r"cut: (damaged|unknown kind)"):
            open_source(cut, Options())


@pytest.mark.parametrize(("first", "name"), [(b"IwPQ", "IVFPQ"), (b"IHNs", "HNSWSQ"), (b"IxPq", "PQ")])
def test_vectors_that_are_coded_are_named(
    first: bytes, name: str, rows: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_faiss_flat(tmp_path / "f", rows[:5])
    (tmp_path / "f").write_bytes(first + (tmp_path / "f").read_bytes()[4:])
    assert f"a faiss index {name}, whose vectors are not kept whole" in said(
        capsys, tmp_path / "f", "-o", tmp_path / "new.ev"
    )


def test_what_exists_stays_unless_it_is_to_go(
    rows: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "f", tmp_path / "n.edgevec"
    write_faiss_flat(source, rows[:500])
    assert "is read by this command" in said(capsys, source, "-o", source, "--force")
    with edgevec.open(target) as old:
        old.upsert(range(3000), np.ones((3000, 2)))
        old.checkpoint()
        assert "exists, and is a collection; --force replaces it" in said(capsys, source, "-o", target)
        assert "is open for writing already" in said(capsys, source, "-o", target, "--force")
        assert len(old) == 3000
    with edgevec.open(target, mode="r") as reader:
        assert "n.edgevec: is in use" in said(capsys, source, "-o", target, "--force")
        assert reader.count() == 3000
    assert run("convert", source, "-o", target, "--force") == 0
    with edgevec.open(target) as made:
        assert (made.dim, len(made)) == (DIM, 500)
        assert made.check().ok
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_killed_ones_have_left_is_removed(rows: np.ndarray, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    write_faiss_flat(tmp_path / "f", rows[:50])
    left, busy = tmp_path / ".edgevec-convert-aaaa", tmp_path / ".edgevec-convert-bbbb"
    for folder in (left, busy):
        folder.mkdir()
        (folder / "new.edgevec").write_text("half")
    opened = os.open(busy, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    assert run("convert", tmp_path / "f", "-o", tmp_path / "n.edgevec") == 0
    assert (left.exists(), busy.exists()) == (False, True)
    os.close(opened)


@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["new.ev", "new.edgevec"])
def test_progress_on_a_terminal(name: str, rows: np.ndarray, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    write_faiss_flat(tmp_path / "f", rows[:3000])
    terminal, inner = pty.openpty()
    program = [sys.executable, "-m", "edgevec", "convert", str(tmp_path / "f"), "-o", str(tmp_path / name)]
    with subprocess.Popen(program, stderr=inner, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(inner)
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(terminal)
    assert process.returncode == 0, shown
    assert b"converting f" in shown
    assert b"3,000 of an index Flat of faiss" in shown
