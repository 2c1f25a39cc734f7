"""The graphs of hnswlib and faiss in an index of edgevec: the same links, or a reason why not. tests/doors has both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

from command import run
from foreign import write_faiss_hnsw, write_hnswlib
from index_file import NODE, IndexFile, crc32c

import edgevec
from edgevec.importers.crc32c import crc32c as quick_crc32c

DIM, COUNT, M = 10, 1200, 16
IDS = np.arange(COUNT) * 3 + 5
Links = list[list[list[int]]]


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((COUNT, DIM)).astype(np.float32)


@pytest.fixture
def links(rows: np.ndarray, rng: np.random.Generator) -> Links:
    """Of each element and level the nearest on it; on the lowest some to others too, so that all can be reached."""
    made: Links = [[] for _ in rows]
    for every, most in ((1, 2 * M - 6), (16, M), (256, M)):
        on = np.arange(0, COUNT, every)
        nearest = np.square(rows[on][:, None] - rows[on]).sum(2).argsort(axis=1)[:, 1 : most + 1]
        for at, found in zip(on, on[nearest], strict=True):
            others = set() if every > 1 else {(at + 1) % COUNT, *rng.integers(0, COUNT, at % 6)} - {at, *found}
            made[at].append([*map(int, found), *map(int, others)])
    return made


Writer = Callable[..., None]


def hnswlib(path: Path, rows: Any, links: Links, **more: Any) -> None:
    write_hnswlib(path, rows, IDS[: len(rows)], M=M, links=links, **more)


def faiss(path: Path, rows: Any, links: Links) -> None:
    write_faiss_hnsw(path, rows, M, links)


def converted(path: Path, *options: Any) -> edgevec.Index:
    assert run("convert", path, "-o", path.with_suffix(".ev"), "--force", "--metric", "l2", *options) == 0
    return edgevec.Index.load(path.with_suffix(".ev"))


def links_of(index: edgevec.Index) -> dict[tuple[int, int], set[int]]:
    """Ids that each id is linked to, by level."""
    file = IndexFile(index.to_bytes())
    ids, lowest, found = file["ids"], file.links(), {}
    upper = file["upper"].reshape(-1, index.M)
    for slot in file.slots(NODE):
        lists = [lowest[slot], *upper[file["upper_at"][slot] // index.M :][: file["level"][slot]]]
        for level, links in enumerate(lists):
            found[int(ids[slot]), level] = {int(ids[to]) for to in links if to != 0xFFFFFFFF}
    return found


@pytest.mark.parametrize("write", [hnswlib, faiss])
def test_links_are_the_same(
    write: Writer, rows: np.ndarray, links: Links, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, ids = tmp_path / "other.bin", IDS if write is hnswlib else np.arange(COUNT)
    write(path, rows, links)
    index = converted(path)
    assert "its graph, built with M=16 and ef_construction=200, is taken over" in capsys.readouterr().err
    assert (index.M, index.ef_construction, len(index)) == (M, 200, COUNT)
    expected = {
        (int(ids[at]), level): {int(ids[to]) for to in linked}
        for at, levels in enumerate(links)
        for level, linked in enumerate(levels)
    }
    found = links_of(index)
    assert found.keys() == expected.keys()
    # But for what no search found its way to, and was linked for that.
    assert sum(found[key] != expected[key] for key in found) < COUNT / 100
    assert index.check().ok
    np.testing.assert_allclose(index.get(ids), rows, atol=1e-5)
    truth = np.square(rows[:100, None] - rows).sum(2).argsort(axis=1)[:, :10]
    assert edgevec.recall(index.search(rows[:100], 10, ef=200).ids, ids[truth]) > 0.99


@pytest.mark.parametrize("quantization", ["none", "sq8", "binary"])
@pytest.mark.parametrize("dim", [3, 10, 33, 300])
def test_of_all_codes(quantization: str, dim: int, rng: np.random.Generator, tmp_path: Path, links: Links) -> None:
    """Links stand behind codes of every width."""
    rows = rng.standard_normal((COUNT, dim)).astype(np.float32)
    hnswlib(tmp_path / "other.bin", rows, links)
    index = converted(tmp_path / "other.bin", "-q", quantization, "--graph", "keep")
    assert index.check().ok
    assert index.quantization == quantization
    assert [index.search(row, 1, ef=1000).ids[0] for row in rows[:20]] == IDS[:20].tolist()


def test_it_grows_and_shrinks_as_others_do(
    rows: np.ndarray, links: Links, rng: np.random.Generator, tmp_path: Path
) -> None:
    hnswlib(tmp_path / "other.bin", rows, links)
    index = converted(tmp_path / "other.bin")
    new = rng.standard_normal((500, DIM)).astype(np.float32)
    assert index.add(new)[0] == IDS[-1] + 1
    index.remove(IDS[:600])
    index.compact()
    assert index.check().ok
    held = np.vstack([rows[600:], new])
    ids = np.append(IDS[600:], IDS[-1] + 1 + np.arange(500))
    truth = np.square(new[:50, None] - held).sum(2).argsort(axis=1)[:, :10]
    assert edgevec.recall(index.search(new[:50], 10, ef=200).ids, ids[truth]) > 0.99


def test_removed_elements_lead_on_until_they_are_led_around(
    rows: np.ndarray, links: Links, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where removed ones are no vectors, or have ids that are held by others or cannot be held."""
    deleted = set(range(0, COUNT, 3))
    hnswlib(tmp_path / "other.bin", rows, links, deleted=deleted)
    index = converted(tmp_path / "other.bin", "--graph", "keep")
    assert "400 elements that are marked as deleted are left out" in capsys.readouterr().err
    live = np.setdiff1d(np.arange(COUNT), sorted(deleted))
    assert set(index) == set(IDS[live].tolist())
    assert index.check().ok
    assert index.stats()["dead"] == 0
    truth = np.square(rows[:100, None] - rows[live]).sum(2).argsort(axis=1)[:, :10]
    assert edgevec.recall(index.search(rows[:100], 10, ef=200).ids, IDS[live][truth]) > 0.98

    rows[0] = np.nan
    hnswlib(tmp_path / "other.bin", rows, links, deleted=deleted)
    assert set(converted(tmp_path / "other.bin")) == set(index)
    assert "its graph is of impossible vectors: " in capsys.readouterr().err


def no_such_element(links: Links) -> None:
    links[7][0][2] = COUNT


def itself(links: Links) -> None:
    links[7][0][2] = 7


def below_its_level(links: Links) -> None:
    links[16][1][0] = 17


def alone(links: Links) -> None:
    """A tenth that nothing leads to; the first begins."""
    away = set(range(1, 121))
    for at, levels in enumerate(links):
        if at not in away:
            for level, linked in enumerate(levels):
                levels[level] = [to for to in linked if to not in away]


FLAWS = {
    no_such_element: "is damaged: a link to no element",
    itself: "is damaged: an element linked to itself",
    below_its_level: "is damaged: a link to an element that is not on its level",
    alone: "does not lead to 120 of 1,200 elements",
}


@pytest.mark.parametrize("write", [hnswlib, faiss])
@pytest.mark.parametrize("flaw", FLAWS)
def test_a_graph_that_is_none_is_built_anew(
    flaw: Callable[[Links], None],
    write: Writer,
    rows: np.ndarray,
    links: Links,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "other.bin"
    flaw(links)
    write(path, rows, links)
    assert run("convert", path, "-o", tmp_path / "new.ev", "--metric", "l2", "--graph", "keep") == 2
    assert f"its graph {FLAWS[flaw]}, so it cannot be kept" in capsys.readouterr().err
    assert not (tmp_path / "new.ev").exists()
    index = converted(path)
    assert ": it is built anew" in capsys.readouterr().err
    assert index.check().ok
    assert (len(index), index.ef_construction) == (COUNT, 200)


@pytest.mark.parametrize("write", [hnswlib, faiss])
def test_no_byte_leads_astray(write: Writer, rng: np.random.Generator, tmp_path: Path) -> None:
    """Whatever stands in a file: an index that is one, or an error of ours."""
    path, new, few = tmp_path / "other.bin", tmp_path / "new.ev", 40
    rows = rng.standard_normal((few, 2)).astype(np.float32)
    links = [[[(at + step) % few for step in range(1, 9)]] * (1 + (at % 4 == 0)) for at in range(few)]
    for levels in links:
        levels[1:] = [[to - to % 4 for to in level[::4]] for level in levels[1:]]
    write(path, rows, [[[to for to in level if to != at] for level in links[at]] for at in range(few)])
    whole, kept = path.read_bytes(), 0
    for _ in range(150):
        changed = bytearray(whole)
        place = int(rng.integers(0, len(whole)))
        value = rng.choice([rng.integers(0, 256), 0, 0x7F, 0x80, 0xFF])
        changed[place : place + int(rng.choice([1, 4, 8]))] = bytes([value]) * int(rng.choice([1, 4, 8]))
        path.write_bytes(changed[: len(whole)])
        code = run("convert", path, "-o", new, "--force", "--metric", "l2", "--graph", "keep")
        assert code in (0, 2)
        if code == 0:
            kept += 1
            report = edgevec.Index.load(new).check()
            assert report.bad_links == report.bad_ids == 0
    assert 10 < kept < 140


def test_what_is_apart_is_linked(rows: np.ndarray, links: Links, tmp_path: Path) -> None:
    """As it happens in graphs of hnswlib's own."""
    for levels in links:
        levels[0] = [to for to in levels[0] if to not in (3, 4, 5)]
    hnswlib(tmp_path / "other.bin", rows, links)
    index = converted(tmp_path / "other.bin", "--graph", "keep")
    assert index.check().unreachable == 0
    assert index.search(rows[3], 1).ids.tolist() == [IDS[3]]


def test_equal_vectors_in_numbers_are_no_graph(
    rows: np.ndarray, links: Links, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows[100:108] = rows[0]
    hnswlib(tmp_path / "other.bin", rows, links)
    index = converted(tmp_path / "other.bin", "--graph", "keep")
    assert set(index.search(rows[0], 9).ids.tolist()) == {*IDS[100:108].tolist(), int(IDS[0])}
    rows[100:200] = rows[0]
    hnswlib(tmp_path / "other.bin", rows, links)
    index = converted(tmp_path / "other.bin")
    assert "its graph is of vectors of which 100 of 1,200 are like another: it is built anew" in capsys.readouterr().err
    assert index.check().duplicates == 100


def test_what_is_asked_for(rows: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = tmp_path / "other.bin", tmp_path / "new.ev"
    write_hnswlib(path, rows, IDS, M=4)
    assert converted(path).M == 16
    assert (
        "built with M=4 and ef_construction=200, is built anew; --graph keep takes it over" in capsys.readouterr().err
    )
    assert run("convert", path, "-o", tmp_path / "a.edgevec", "--metric", "l2", "--graph", "keep") == 2
    assert "a collection builds its graph itself" in capsys.readouterr().err
    faiss(path, rows, [[[(at + 1) % COUNT]] for at in range(COUNT)])
    assert run("convert", path, "-o", new, "--metric", "cosine", "--graph", "keep") == 2
    assert "its graph is of another metric, l2, so it cannot be kept" in capsys.readouterr().err
    assert run("convert", path, "-o", new, "--graph", "keep") == 0  # a ring, but the one that was asked for
    assert edgevec.Index.load(new).check().max_degree == 1
    assert run("convert", path, "-o", new, "--graph", "rebuild", "--force") == 0
    assert edgevec.Index.load(new).check().max_degree > 8
    assert "graph" not in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 5000])
def test_checksums_are_those_of_files(size: int, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, size, np.uint8).tobytes()
    assert quick_crc32c(data) == crc32c(data)
