"""VectorDBBench's case on a data set that dataset.py wrote: without a filter, and with each that it has answers for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from vectordb_bench.backend.cases import PerformanceCustomDataset
from vectordb_bench.backend.data_source import DatasetSource
from vectordb_bench.backend.filter import Filter, NewIntFilter
from vectordb_bench.backend.task_runner import CaseRunner, RunningStatus
from vectordb_bench.metric import Metric
from vectordb_bench.models import CaseConfig, CaseType, ConcurrencySearchConfig, TaskConfig

from .config import EdgevecCaseConfig, EdgevecConfig
from .dataset import LABELS, RATES
from .register import register

__all__ = ["measure"]


class _ById(PerformanceCustomDataset):
    """A custom data set has cases for labels alone; the condition on the id is that of the public ones."""

    id_rate: float = 0.0

    def __init__(self, id_rate: float, **given: Any) -> None:
        super().__init__(**given)
        self.id_rate = id_rate

    @property
    def filters(self) -> Filter:
        return NewIntFilter(filter_rate=self.id_rate, int_value=round(self.id_rate * self.dataset.data.size))


def measure(
    folder: Path, config: EdgevecConfig, case_config: EdgevecCaseConfig, *, k: int, processes: list[int], seconds: int
) -> Iterator[tuple[str, Metric]]:
    """What VectorDBBench measures, by filter. Each case loads the collection anew."""
    rows = pq.ParquetFile(folder / "train.parquet")
    given: dict[str, Any] = {
        "name": folder.name,
        "description": "",
        "load_timeout": 36_000,
        "optimize_timeout": 36_000,
        "dataset_config": {
            "name": folder.name,
            "dir": str(folder.resolve()),
            "size": rows.metadata.num_rows,
            "dim": len(next(rows.iter_batches(1, columns=["emb"])).column(0)[0]),
            "metric_type": "COSINE",
        },
    }
    cases: dict[str, PerformanceCustomDataset] = {"none": PerformanceCustomDataset(**given)}
    for share in LABELS:
        cases[f"label, {share:.0%} pass"] = PerformanceCustomDataset(**given, use_filter=True, label_percentage=share)
    for rate in RATES:
        cases[f"id, {1 - rate:.0%} pass"] = _ById(rate, **given)
    for name, case in cases.items():
        case_config.metric_type = case.dataset.data.metric_type
        task = TaskConfig(
            db=register(),
            db_config=config,
            db_case_config=case_config,
            case_config=CaseConfig(
                case_id=CaseType.PerformanceCustomDataset,
                custom_case={},
                k=k,
                concurrency_search_config=ConcurrencySearchConfig(
                    num_concurrency=processes, concurrency_duration=seconds
                ),
            ),
        )
        status, source = RunningStatus.PENDING, DatasetSource.S3  # which a custom data set does not ask
        yield name, CaseRunner(run_id="", config=task, ca=case, status=status, dataset_source=source).run()
