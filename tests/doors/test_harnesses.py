"""Our module for ann-benchmarks and our client of VectorDBBench, run as those programs run them.

ann-benchmarks is no package, and VectorDBBench brings a gigabyte of other packages. So what they give and ask is stated
in interfaces/, and the modules run by that. Where VectorDBBench itself is installed, it runs our client instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import ROOT

HARNESSES = ROOT / "benches" / "harnesses"
INTERFACES = Path(__file__).parent / "interfaces"
INSTALLED = importlib.util.find_spec("vectordb_bench") is not None

COUNT, DIM, K = 2000, 24, 10


@pytest.fixture
def base(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((COUNT, DIM)).astype(np.float32)


@pytest.fixture
def queries(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((50, DIM)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(base: np.ndarray, queries: np.ndarray, metric: str, k: int = K) -> np.ndarray:
    cosine = metric == "angular"
    distances = -(unit(queries) @ unit(base).T) if cosine else ((queries[:, None] - base) ** 2).sum(axis=2)
    return np.argsort(distances, axis=1)[:, :k]


def recall(found: Any, truth: np.ndarray) -> float:
    return float(np.mean([len(set(map(int, a)) & set(b.tolist())) / len(b) for a, b in zip(found, truth, strict=True)]))


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both packages and our modules can be imported, here and by processes that are started; nothing of it is left."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(HARNESSES), *sys.path, str(INTERFACES)])
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("ann_benchmarks", "vectordbbench", "vectordb_bench")) and not INSTALLED:
            del sys.modules[name]


# ---- ann-benchmarks --------------------------------------------------------------------------------------------------


def combinations(arguments: Any) -> list[Any]:
    """Every list, or dict, that takes one of each entry's values: generate_arg_combinations() of ann-benchmarks."""
    if isinstance(arguments, dict):
        lists = [value if isinstance(value, list) else [value] for value in arguments.values()]
        return [dict(zip(arguments, each, strict=True)) for each in itertools.product(*lists)]
    return list(itertools.product(*[value if isinstance(value, list) else [value] for value in arguments]))


def definitions() -> list[tuple[str, dict[str, Any], list[Any]]]:
    """The name of each group, the arguments of each of its builds, and those of their searches."""
    (entry,) = yaml.safe_load((HARNESSES / "ann_benchmarks" / "config.yml").read_text())["float"]["any"]
    assert (entry["constructor"], entry["base_args"]) == ("Edgevec", ["@metric"])
    assert entry["module"] == "ann_benchmarks.algorithms.edgevec"
    assert entry["docker_tag"] == "ann-benchmarks-edgevec"
    return [
        (name, arguments, combinations(group["query_args"]))
        for name, group in entry["run_groups"].items()
        for arguments in combinations(group["arg_groups"][0])
    ]


@pytest.fixture
def module(paths: None) -> Any:
    """module.py, in the place that it has in ann-benchmarks."""
    importlib.import_module("ann_benchmarks.algorithms")
    spec = importlib.util.spec_from_file_location(
        "ann_benchmarks.algorithms.edgevec",
        HARNESSES / "ann_benchmarks" / "module.py",
        submodule_search_locations=[str(HARNESSES / "ann_benchmarks")],
    )
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    # A package's __init__ is what `from ..base` is relative to; here module.py is named as the module in it.
    loaded.__package__ = "ann_benchmarks.algorithms.edgevec"
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize(("name", "arguments", "searches"), definitions())
@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_ann_benchmarks_runs_every_group(
    module: Any,
    base: np.ndarray,
    queries: np.ndarray,
    metric: str,
    name: str,
    arguments: dict[str, Any],
    searches: list[Any],
) -> None:
    algorithm = module.Edgevec(metric, arguments)
    algorithm.fit(base)
    truth, reached = nearest(base, queries, metric), []
    for setting in (searches[0], searches[-1]):
        algorithm.set_query_arguments(*setting)
        single = [algorithm.query(query, K) for query in queries]
        algorithm.batch_query(queries, K)
        assert np.array_equal(algorithm.get_batch_results(), single)
        reached.append(recall(single, truth))
        assert (
            str(algorithm) == f"edgevec(quantization={name}, M={arguments['M']}, ef_construction=200, ef={setting[0]})"
        )
    assert reached[0] < reached[1] or reached[0] > 0.99
    assert reached[1] > 0.99
    algorithm.done()


def test_ann_benchmarks_is_told_of_a_metric_that_is_missing(module: Any) -> None:
    with pytest.raises(ValueError, match="hamming"):
        module.Edgevec("hamming", {})


# ---- VectorDBBench ---------------------------------------------------------------------------------------------------


def label_of(row: int) -> str:
    return "label_10p" if row % 10 == 0 else "label_none"


@pytest.fixture
def stage() -> Callable[..., list[Any]]:
    """Runs a stage in as many new processes as there are lists of arguments."""

    def run(stage: Callable[..., Any], *calls: tuple[Any, ...]) -> list[Any]:
        with ProcessPoolExecutor(len(calls), multiprocessing.get_context("spawn")) as processes:
            return [each.result() for each in [processes.submit(stage, *call) for call in calls]]

    return run


@pytest.mark.skipif(INSTALLED, reason="VectorDBBench itself is here, and runs below")
@pytest.mark.parametrize("quantization", ["sq8", "none", "binary"])
@pytest.mark.usefixtures("paths")
def test_a_client_loads_and_searches_in_many_processes(
    tmp_path: Path, stage: Callable[..., list[Any]], base: np.ndarray, queries: np.ndarray, quantization: str
) -> None:
    from vectordb_bench import stages
    from vectordb_bench.backend.clients.api import MetricType
    from vectordb_bench.backend.filter import Filter, FilterOp, LabelFilter, NewIntFilter
    from vectordbbench.client import Edgevec
    from vectordbbench.config import EdgevecCaseConfig, EdgevecConfig

    case = EdgevecCaseConfig(quantization=quantization, M=12, ef_construction=100, ef=400)
    case.metric_type = MetricType.L2
    path = tmp_path / "a.edgevec"
    db = Edgevec(
        dim=DIM,
        db_config=EdgevecConfig(path=str(path)).to_dict(),
        db_case_config=case,
        drop_old=True,
        with_scalar_labels=True,
    )
    assert all(db.filter_supported(Filter(type=op)) for op in FilterOp)
    labels = [label_of(row) for row in range(COUNT)]
    assert stage(stages.insert, (db, base, labels, 100)) == [COUNT]
    stage(stages.optimize, (db,))
    assert Path(f"{path}-graph").exists()
    for filters, allowed in (
        (Filter(), np.arange(COUNT)),
        (NewIntFilter(filter_rate=0.9, int_value=1800), np.arange(1800, COUNT)),
        (LabelFilter(label_percentage=0.1), np.arange(0, COUNT, 10)),
    ):
        truth = allowed[nearest(base[allowed], queries, "euclidean")]
        for found in stage(stages.search, *[(db, filters, queries, K, ahead) for ahead in (True, True, False)]):
            assert {len(ids) for ids in found} == {K}
            assert {int(id) for ids in found for id in ids} <= set(allowed.tolist())
            assert recall(found, truth) > 0.98

    # A case of other settings begins anew; what else lies there is left alone.
    (tmp_path / "a.edgevec.txt").write_text("mine")
    Edgevec(DIM + 1, EdgevecConfig(path=str(path)).to_dict(), EdgevecCaseConfig(), drop_old=True)
    assert (tmp_path / "a.edgevec.txt").read_text() == "mine"


@pytest.mark.skipif(INSTALLED, reason="VectorDBBench itself is here, and runs below")
@pytest.mark.usefixtures("paths")
def test_a_client_reports_what_it_cannot_insert(tmp_path: Path, base: np.ndarray) -> None:
    from vectordbbench.client import Edgevec
    from vectordbbench.config import EdgevecCaseConfig, EdgevecConfig

    db = Edgevec(DIM, EdgevecConfig(path=str(tmp_path / "a.edgevec")).to_dict(), EdgevecCaseConfig(), drop_old=True)
    base[3, 0] = np.nan
    with db.init():
        count, error = db.insert_embeddings(base[:10].tolist(), list(range(10)))
        assert count == 0
        assert "row 3" in str(error)
        assert db.insert_embeddings(base[10:20].tolist(), list(range(10))) == (10, None)


@pytest.mark.skipif(INSTALLED, reason="VectorDBBench itself is here, and runs below")
@pytest.mark.usefixtures("paths")
def test_a_client_is_registered_beside_the_others() -> None:
    from vectordb_bench.backend.clients import DB
    from vectordbbench.client import Edgevec
    from vectordbbench.config import EdgevecCaseConfig, EdgevecConfig
    from vectordbbench.register import register

    member = register()
    assert register() is member is DB("Edgevec") is DB["Edgevec"]
    assert [each.name for each in DB] == ["Chroma", "Zvec", "Edgevec"]
    assert (member.init_cls, member.config_cls, member.case_config_cls()) == (Edgevec, EdgevecConfig, EdgevecCaseConfig)
    assert (DB.Zvec.init_cls, DB.Zvec.config_cls, DB.Zvec.case_config_cls()) == (
        "client of Zvec",
        "config of Zvec",
        "case config of Zvec",
    )


@pytest.mark.skipif(not INSTALLED, reason="VectorDBBench is not installed: pip install vectordb-bench")
@pytest.mark.usefixtures("paths")
def test_vectordbbench_itself_runs_our_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: np.ndarray, queries: np.ndarray
) -> None:
    """Load, search in two processes, recall: without a filter, by label, by id; each against exact answers of NumPy."""
    monkeypatch.setenv("LOG_FILE", str(tmp_path / "log"))
    from vectordbbench import dataset
    from vectordbbench.config import EdgevecCaseConfig, EdgevecConfig
    from vectordbbench.register import register

    register()
    from vectordbbench.cases import measure

    dataset.write(tmp_path / "data", unit(base), unit(queries), k=20)
    config, case_config = EdgevecConfig(path=str(tmp_path / "a.edgevec")), EdgevecCaseConfig(ef=400)
    measured = dict(measure(tmp_path / "data", config, case_config, k=20, processes=[2], seconds=1))
    assert list(measured) == [
        "none",
        *(f"label, {share}% pass" for share in (1, 10, 50)),
        *(f"id, {share}% pass" for share in (50, 10, 1)),
    ]
    for metric in measured.values():
        assert metric.inserted_count == COUNT
        assert metric.recall > 0.98
        assert metric.conc_num_list == [2]
        assert metric.qps > 0
        assert metric.load_duration > 0
