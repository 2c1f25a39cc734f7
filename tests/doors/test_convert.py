"""edgevec convert, of what the other libraries themselves have written, compared with what went into them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run

import edgevec
from edgevec.importers import Options, open_source

# Not our warnings: of the compiled parts of these libraries, on some Pythons, and of what they leave open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DIM, COUNT = 12, 2500
IDS = np.arange(COUNT, dtype=np.int64) * 7 + 3
Rows = np.ndarray


@pytest.fixture
def rows(rng: np.random.Generator) -> Rows:
    return rng.standard_normal((COUNT, DIM)).astype(np.float32)


def unit(rows: Rows) -> Rows:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# ---- indexes ---------------------------------------------------------------------------------------------------------


def faiss_index(factory: str, metric: str) -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        import faiss

        index = faiss.index_factory(DIM, factory, getattr(faiss, metric))
        index.add_with_ids(rows, IDS) if "IDMap" in factory else index.add(rows)
        faiss.write_index(index, str(path))

    return write


def faiss_removed(path: Path, rows: Rows) -> None:
    import faiss

    index = faiss.index_factory(DIM, "IDMap2,Flat", faiss.METRIC_L2)
    index.add_with_ids(np.vstack([rows, rows[:5]]), np.append(IDS, [-10, -11, -12, -13, -14]))
    index.remove_ids(np.array([-10, -11, -12, -13, -14]))
    faiss.write_index(index, str(path))


def hnswlib_index(space: str, removed: int = 0) -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        import hnswlib

        index = hnswlib.Index(space, DIM)
        index.init_index(COUNT + removed + 10, M=8)
        index.add_items(rows, IDS)
        for id in range(-1, -1 - removed, -1):
            index.add_items(rows[-id : 1 - id], [2**40 - id])
            index.mark_deleted(2**40 - id)
        index.save_index(str(path))

    return write


def usearch_index(metric: str, dtype: str = "f32") -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        from usearch.index import Index

        index = Index(ndim=DIM, metric=metric, dtype=dtype)
        index.add(IDS, rows)
        index.add([1, 2], rows[:2])
        index.remove([1, 2])
        index.save(str(path))

    return write


def voyager_index(space: str, storage: str = "Float32") -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        import voyager

        index = voyager.Index(
            getattr(voyager.Space, space), DIM, storage_data_type=getattr(voyager.StorageDataType, storage)
        )
        index.add_items(rows, IDS.tolist())
        index.save(str(path))

    return write


ALL = np.arange(COUNT)
INDEXES: dict[str, tuple[Callable[[Path, Rows], None], str, Any, float, bool]] = {
    "faiss Flat": (faiss_index("Flat", "METRIC_L2"), "l2", ALL, 0, False),
    "faiss Flat, inner product": (faiss_index("Flat", "METRIC_INNER_PRODUCT"), "ip", ALL, 0, False),
    "faiss IDMap": (faiss_index("IDMap,Flat", "METRIC_L2"), "l2", IDS, 0, False),
    "faiss IDMap2 with removed": (faiss_removed, "l2", IDS, 0, False),
    "faiss HNSW": (faiss_index("HNSW16,Flat", "METRIC_L2"), "l2", ALL, 0, False),
    "faiss HNSW, inner product": (faiss_index("IDMap,HNSW8", "METRIC_INNER_PRODUCT"), "ip", IDS, 0, False),
    "hnswlib l2": (hnswlib_index("l2"), "l2", IDS, 0, False),
    "hnswlib ip with deleted": (hnswlib_index("ip", removed=9), "ip", IDS, 0, False),
    "hnswlib cosine": (hnswlib_index("cosine"), "cosine", IDS, 1e-6, True),
    "usearch l2": (usearch_index("l2sq"), "l2", IDS, 0, False),
    "usearch cosine": (usearch_index("cos"), "cosine", IDS, 0, False),
    "usearch ip in half precision": (usearch_index("ip", "f16"), "ip", IDS, 2e-3, False),
    "voyager l2": (voyager_index("Euclidean"), "l2", IDS, 0, False),
    "voyager cosine": (voyager_index("Cosine"), "cosine", IDS, 1e-6, True),
    "voyager in 8 bits": (voyager_index("Euclidean", "E4M3"), "l2", IDS, 0.3, False),
}
"""How each is made; and what it must become: metric, ids, the greatest difference, whether vectors have unit length."""


@pytest.mark.parametrize("name", INDEXES)
def test_an_index(name: str, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, metric, ids, tolerance, normalized = INDEXES[name]
    source, target = tmp_path / "källa.bin", tmp_path / "new.ev"
    write(source, rows)
    content = source.read_bytes()
    options = ["-q", "none", *(["--metric", metric] if name.startswith("hnswlib") else [])]
    assert run("convert", source, "-o", target, *options) == 0
    said = capsys.readouterr().err
    assert f"{COUNT:,} of an index" in said
    assert ("9 elements that are marked as deleted" in said) == ("deleted" in name)
    index = edgevec.Index.load(target)
    assert (index.metric, len(index), set(index)) == (metric, COUNT, set(ids.tolist()))
    expected = unit(rows) if normalized else rows
    if metric == "cosine":  # of which edgevec keeps the direction alone, as every one of these does
        np.testing.assert_allclose(unit(index.get(ids)), unit(rows), atol=1e-6)
    else:
        np.testing.assert_allclose(index.get(ids), expected, atol=tolerance)
    if not tolerance or metric == "cosine":  # the nearest by NumPy
        found = index.search(rows[:20], 1, exact=True).ids[:, 0]
        scores = {"l2": -np.square(rows[:20, None] - rows).sum(2), "ip": rows[:20] @ rows.T}
        best = scores.get(metric, unit(rows[:20]) @ unit(rows).T).argmax(1)
        np.testing.assert_array_equal(found, ids[best])
    assert source.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


def nearest(rows: Rows, queries: Rows, metric: str, k: int = 10) -> np.ndarray:
    scores = {
        "l2": -np.square(queries[:, None] - rows).sum(2),
        "ip": queries @ rows.T,
        "cosine": unit(queries) @ unit(rows).T,
    }
    return np.argsort(-scores[metric], axis=1)[:, :k]


@pytest.mark.parametrize("quantization", ["none", "sq8", "binary"])
@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_a_graph_of_hnswlib(metric: str, quantization: str, rows: Rows, tmp_path: Path) -> None:
    """As good as there, without what was deleted there, and one that lives on."""
    import hnswlib

    source, target = tmp_path / "a.bin", tmp_path / "a.ev"
    index = hnswlib.Index(metric, DIM)
    index.init_index(COUNT, M=16, ef_construction=200, allow_replace_deleted=True)
    index.add_items(rows[:2000], IDS[:2000])
    for id in IDS[:400]:
        index.mark_deleted(id)
    index.add_items(rows[2000:2200], IDS[2000:2200], replace_deleted=True)
    index.save_index(str(source))
    assert run("convert", source, "-o", target, "--metric", metric, "-q", quantization, "--graph", "keep") == 0
    made = edgevec.Index.load(target)
    assert (made.M, made.ef_construction, made.quantization) == (16, 200, quantization)
    held = np.setdiff1d(np.arange(2200), np.arange(400))
    assert set(made) == set(IDS[held].tolist())
    report = made.check()
    assert report.ok
    assert (report.dead, report.unreachable, len(made)) == (0, 0, 1800)
    queries = rows[2200:]
    truth = IDS[held][nearest(rows[held], queries, metric)]
    index.set_ef(100)
    theirs = edgevec.recall(index.knn_query(queries, 10)[0].astype(np.int64), truth)
    assert edgevec.recall(made.search(queries, 10, ef=100).ids, truth) > theirs - 0.02

    made.add(queries, IDS[2200:])
    made.remove(IDS[400:700])
    assert made.check().ok
    held = np.arange(700, COUNT)
    truth = IDS[held][nearest(rows[held], rows[:100], metric)]
    assert edgevec.recall(made.search(rows[:100], 10, ef=100).ids, truth) > theirs - 0.03


@pytest.mark.parametrize(("metric", "M"), [("l2", 8), ("l2", 16), ("l2", 40), ("ip", 16), ("ip", 40)])
def test_a_graph_of_faiss(metric: str, M: int, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import faiss

    source, target = tmp_path / "a.index", tmp_path / "a.ev"
    inner = faiss.IndexHNSWFlat(DIM, M, {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}[metric])
    inner.hnsw.efConstruction = 150
    index = faiss.IndexIDMap(inner)
    index.add_with_ids(rows, IDS)
    faiss.write_index(index, str(source))
    assert run("convert", source, "-o", target) == 0
    built = f"its graph, built with M={M} and ef_construction=150, is "
    assert built + ("taken over" if M >= 16 else "built anew; --graph keep takes it over") in capsys.readouterr().err
    assert run("convert", source, "-o", target, "--graph", "keep", "--force") == 0
    made = edgevec.Index.load(target)
    assert (made.metric, made.M, made.ef_construction) == (metric, M, 150)
    report = made.check()
    assert report.ok
    links, starts = (faiss.vector_to_array(each) for each in (inner.hnsw.neighbors, inner.hnsw.offsets))
    lowest = links[starts[:-1, None].astype(int) + np.arange(2 * M)]
    assert abs(report.edges - np.count_nonzero(lowest >= 0)) < 0.01 * report.edges  # but for what nothing led to
    truth = IDS[nearest(rows, rows[:200], metric)]
    inner.hnsw.efSearch = 100
    theirs = edgevec.recall(index.search(rows[:200], 10)[1], truth)
    assert edgevec.recall(made.search(rows[:200], 10, ef=100).ids, truth) > theirs - 0.02


@pytest.mark.parametrize("name", ["usearch l2", "voyager l2", "hnswlib l2", "faiss HNSW"])
def test_a_truncated_index(name: str, rows: Rows, tmp_path: Path) -> None:
    """In a program of its own: a library that dies of such a file would take the tests with it."""
    source = tmp_path / "cut.bin"
    INDEXES[name][0](source, rows)
    content = source.read_bytes()
    program = "import sys\nfrom edgevec.cli.app import edgevec\nfor path in sys.argv[1:]:\n" + (
        "    try:\n        edgevec.main(['convert', path, '-o', path + '.ev', '--metric', 'l2'])\n"
        "    except SystemExit as end:\n        print(end.code)\n"
    )
    lengths = [1, 60, 200, *np.linspace(300, len(content) - 1, 20).astype(int)]
    for length in lengths:
        (tmp_path / f"cut-{length}").write_bytes(content[:length])
    paths = [str(tmp_path / f"cut-{length}") for length in lengths]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"] * len(lengths), done.stderr
    for line, path in zip(done.stderr.splitlines(), paths, strict=True):
        assert line.startswith(f"edgevec: {path}: ")
    assert not list(tmp_path.glob("*.ev"))


@pytest.mark.parametrize(
    ("name", "library", "package"),
    [
        ("usearch l2", "usearch.index", "usearch"),
        ("voyager l2", "voyager", "voyager"),
        ("chroma", "chromadb", "chromadb"),
    ],
)
def test_a_missing_library(
    name: str, library: str, package: str, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    chroma(source, rows) if name == "chroma" else INDEXES[name][0](source, rows)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(edgevec.MissingExtraError, match=f"is missing: pip install {package}"):
        open_source(source, Options())


@pytest.mark.parametrize("name", ["hnswlib", "usearch"])
def test_an_id_without_a_sign_that_has_no_room(name: str, rows: Rows, tmp_path: Path) -> None:
    large, path = 2**63 + 5, tmp_path / "source"
    keys = np.array([1, large], np.uint64)
    if name == "hnswlib":
        import hnswlib

        index = hnswlib.Index("l2", rows.shape[1])
        index.init_index(2)
        index.add_items(rows[:2], keys)
        index.save_index(str(path))
    else:
        from usearch.index import Index as Usearch

        other = Usearch(ndim=rows.shape[1], metric="l2sq", dtype="f32")
        other.add(keys, rows[:2])
        other.save(str(path))
    with pytest.raises(edgevec.DataFormatError, match=f"the id {large} does not fit"):
        open_source(path, Options())


# ---- records ---------------------------------------------------------------------------------------------------------


def chroma(path: Path, rows: Rows, space: str = "cosine") -> None:
    import chromadb

    client = chromadb.PersistentClient(str(path), chromadb.Settings(anonymized_telemetry=False))
    made = client.create_collection("notes", metadata={"hnsw:space": space}, embedding_function=None)
    ids = [f"n{n} ü" for n in range(COUNT)]
    metadata = [{"n": n, "even": n % 2 == 0, "lang": "日本"} if n % 3 else None for n in range(COUNT)]
    documents = [f"the text of {n}" if n % 5 else None for n in range(COUNT)]
    for start in range(0, COUNT, 1000):
        part = slice(start, start + 1000)
        made.add(ids=ids[part], embeddings=rows[part], metadatas=metadata[part], documents=documents[part])
    made.delete(ids=[ids[7]])


def test_a_collection_of_chroma(rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chroma(tmp_path / "chroma", rows)
    target = tmp_path / "new.edgevec"
    assert run("convert", tmp_path / "chroma", "-o", target) == 0
    with edgevec.open(target) as made:
        assert (made.metric, made.dim, len(made)) == ("cosine", DIM, COUNT - 1)
        for n in (0, 1, 3, 5, 1500, COUNT - 1):
            [record] = made.get(f"n{n} ü")
            np.testing.assert_allclose(record.vector, rows[n], atol=1e-6)
            assert record.metadata == ({"n": n, "even": n % 2 == 0, "lang": "日本"} if n % 3 else {})
            assert record.document == (f"the text of {n}" if n % 5 else None)
        assert "n7 ü" not in made
        assert made.search(text="2001", k=1)[0].id == "n2001 ü"
        assert made.check().ok
    assert run("convert", tmp_path / "chroma", "-o", tmp_path / "new.ev") == 2
    assert "has records: write them to a collection, whose name ends in .edgevec" in capsys.readouterr().err
    assert run("convert", tmp_path / "chroma", "-o", tmp_path / "b.edgevec", "--table", "nota") == 2
    assert "there is no collection 'nota', only notes" in capsys.readouterr().err
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert run("convert", tmp_path / "chroma", "-o", tmp_path / "b.edgevec") == 2
    assert {path.name for path in tmp_path.iterdir() if "graph" not in path.name and "lock" not in path.name} == {
        "chroma",
        "new.edgevec",
    }


def test_a_table_of_lancedb(rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import datetime

    import lancedb
    import pyarrow as pa

    day = datetime.datetime(2020, 1, 2, 3, 4, 5)
    columns = {
        "id": IDS,
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), DIM),
        "text": [f"text {n}" if n % 4 else None for n in range(COUNT)],
        "year": [1990 + n for n in range(COUNT)],
        "tags": [["a", "b"][: n % 3] for n in range(COUNT)],
        "day": [day] * COUNT,
        "metadata": [{"deep": n} for n in range(COUNT)],
    }
    database = lancedb.connect(str(tmp_path / "lance"))
    table = database.create_table("notes", pa.table(columns))
    table.delete(f"id = {IDS[9]}")
    database.create_table("other", pa.table({"v": [1, 2]}))
    target = tmp_path / "new.edgevec"
    assert run("convert", tmp_path / "lance", "-o", target) == 2
    assert "which table is meant? --table NAME says so; there are notes, other" in capsys.readouterr().err
    for source in (tmp_path / "lance" / "notes.lance", tmp_path / "lance"):
        options = ["--table", "notes", "--force"] if source.suffix != ".lance" else []
        assert run("convert", source, "-o", target, *options) == 0, capsys.readouterr().err
        with edgevec.open(target) as made:
            assert (made.metric, made.dim, len(made)) == ("l2", DIM, COUNT - 1)
            for n in (0, 1, 1500, COUNT - 1):
                [record] = made.get(int(IDS[n]))
                np.testing.assert_array_equal(record.vector, rows[n])
                assert record.document == (f"text {n}" if n % 4 else None)
                tags = ["a", "b"][: n % 3]
                assert record.metadata == {"year": 1990 + n, "tags": tags, "day": "2020-01-02T03:04:05", "deep": n}
            assert made.check().ok
    assert run("convert", tmp_path / "lance", "-o", tmp_path / "x.edgevec", "--table", "other") == 2
    assert "which column of vectors of 'other' is meant?" in capsys.readouterr().err
    for file in (tmp_path / "lance" / "notes.lance").rglob("*.lance"):
        file.write_bytes(file.read_bytes()[:100])
    assert run("convert", tmp_path / "lance", "-o", tmp_path / "x.edgevec", "--table", "notes") == 2
    assert "damaged" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.edgevec*"))


def test_tables_of_sqlite_vec(rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import apsw  # the sqlite3 of many Pythons loads no extensions
    import sqlite_vec

    path, target = tmp_path / "notes.db", tmp_path / "new.edgevec"
    database = apsw.Connection(str(path))
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    database.execute(f"CREATE VIRTUAL TABLE plain USING vec0(emb float[{DIM}])")
    database.execute(
        f"CREATE VIRTUAL TABLE notes USING vec0(note_id TEXT PRIMARY KEY, emb float[{DIM}] distance_metric=cosine,\n"
        "year INTEGER, good BOOLEAN, weight FLOAT, lang TEXT, genre TEXT PARTITION KEY, +body TEXT, small int8[4])"
    )
    database.execute("CREATE VIRTUAL TABLE bits USING vec0(b bit[8])")
    texts = ["", "kurz", "zwölf Bytes", "twelve bytes", "thirteen byte", "ein längerer Text ü 日本"]

    def fields(n: int) -> dict[str, Any]:
        return {"year": n - 5, "good": n % 3 == 0, "weight": n / 4, "lang": texts[n % 6], "genre": f"g{n % 4}"}

    with database:
        database.executemany(
            "INSERT INTO plain(rowid, emb) VALUES (?, ?)",
            [(int(id), row.tobytes()) for id, row in zip(IDS, rows, strict=True)],
        )
        database.executemany(
            "INSERT INTO notes(note_id, emb, year, good, weight, lang, genre, body, small) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, vec_int8(?))",
            [
                (f"n{n}", rows[n].tobytes(), *fields(n).values(), f"body {n}", bytes([1, 2, 128, n % 100 + 1]))
                for n in range(COUNT)
            ],
        )
        database.execute("DELETE FROM notes WHERE note_id IN ('n5', 'n1200')")
        database.execute(f"DELETE FROM plain WHERE rowid = {IDS[4]}")
        database.execute("UPDATE notes SET lang = 'a language that was written anew' WHERE note_id = 'n6'")
    nearest = [
        id for (id,) in database.execute("SELECT rowid FROM plain WHERE emb MATCH ? AND k = 5", (rows[3].tobytes(),))
    ]
    assert run("convert", path, "-o", target) == 2
    assert "which table is meant? --table NAME says so; there are bits, notes, plain" in capsys.readouterr().err
    assert run("convert", path, "-o", target, "--table", "plain") == 0  # while it is open elsewhere
    with edgevec.open(target) as made:
        assert (made.metric, set(made.ids())) == ("l2", {*IDS.tolist()} - {int(IDS[4])})
        assert [hit.id for hit in made.search(rows[3], 5, exact=True)] == nearest
        np.testing.assert_array_equal(made.get(int(IDS[-1]))[0].vector, rows[-1])
    assert run("convert", path, "-o", target, "--table", "notes", "--vector", "emb", "--force") == 0
    assert "the vectors of small are left behind" in capsys.readouterr().err
    with edgevec.open(target) as made:
        assert (made.metric, len(made)) == ("cosine", COUNT - 2)
        for record in made:
            n = int(str(record.id)[1:])
            np.testing.assert_array_equal(record.vector, rows[n])
            expected = fields(n) | ({"lang": "a language that was written anew"} if n == 6 else {})
            assert (record.metadata, record.document) == (expected, f"body {n}")
    assert run("convert", path, "-o", target, "--table", "notes", "--vector", "small", "--force") == 0
    with edgevec.open(target) as made:
        assert made.get("n7")[0].vector.tolist() == [1, 2, -128, 8]
    assert run("convert", path, "-o", tmp_path / "x.edgevec", "--table", "bits") == 2
    assert "are bits, which edgevec does not take over" in capsys.readouterr().err
    with database:
        database.execute("UPDATE notes_vector_chunks00 SET vectors = zeroblob(100) WHERE rowid = 2")
    database.close()
    assert run("convert", path, "-o", tmp_path / "x.edgevec", "--table", "notes", "--vector", "emb") == 2
    assert "damaged: the chunk 2 of notes_vector_chunks00 is missing or too short" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.edgevec*"))
