"""The benchmark against JavaScript and WebAssembly engines runs, on few vectors, and what it relies on holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toolchain.cache import PROJECT

SCRIPTS = PROJECT / "benches" / "wasm"
VECTORS = 600
OURS = {"edgevec none", "edgevec sq8", "edgevec binary"}
BASELINES = {"hnswlib-wasm", "npm edgevec", "voy-search", "exact scan"}


@pytest.fixture(scope="module", params=["node", "chromium"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if request.param == "chromium":
        pytest.importorskip("playwright")
    out = tmp_path_factory.mktemp("bench") / "report.json"
    few = ["--n", str(VECTORS), "--queries", "30", "--rounds", "2", "--seconds", "0.1"]
    command = [sys.executable, SCRIPTS / "run.py", "--engine", request.param, *few, "--json", out]
    subprocess.run(command, check=True, cwd=out.parent)
    return json.loads(out.read_text()) | {"engine": request.param}


def test_every_engine_is_measured_beside_its_recall(report: dict[str, Any]) -> None:
    results = report["results"]
    assert results.keys() == OURS | BASELINES | {f"native {name}" for name in OURS}
    failed = {name for name, result in results.items() if result["failure"]}
    assert failed == ({"hnswlib-wasm"} if report["engine"] == "node" else set())
    for name in results.keys() - failed:
        assert results[name]["build_seconds"] > 0, name
        (first, *_) = results[name]["timed"]
        assert first["recall"] >= 0.95, name
        assert first["p99_us"] >= first["p50_us"] > 0, name


def test_codes_give_the_same_recall_natively(report: dict[str, Any]) -> None:
    results = report["results"]
    for name in OURS - {"edgevec none"}:
        ours, native = ([(t["ef"], t["recall"]) for t in results[n]["timed"]] for n in (name, f"native {name}"))
        assert ours == native


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)


def test_an_ef_written_into_npm_edgevec_is_one_it_was_made_with(scripts: None, tmp_path: Path) -> None:
    import paths  # noqa: F401 - says where the others are
    import targets
    from data import clustered
    from run import SETTINGS, lay_out

    workload = clustered(VECTORS, 30, 10)
    lay_out(tmp_path / "site", workload)
    with targets.node(tmp_path / "site") as node:
        node.call("open", SETTINGS | {"n": VECTORS, "dim": 384, "queries": 30})
        node.call("start", "npm edgevec", 50)
        node.call("build", "npm edgevec")
        written = {ef: node.call("answers", "npm edgevec", ef, 30) for ef in (10, 60)}
        assert written[10] != written[60]
        for ef, answers in written.items():
            assert node.call("untouched", "npm edgevec", ef, 30) == answers
