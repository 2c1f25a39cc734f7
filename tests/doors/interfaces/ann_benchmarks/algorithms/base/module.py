"""What ann-benchmarks gives a module to build on, and asks of it: as there, without what measures memory."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np


class BaseANN:
    name = ""
    res: Any

    def done(self) -> None:
        pass

    def get_memory_usage(self) -> float | None:
        return 0.0

    def fit(self, X: np.ndarray) -> None:
        pass

    def query(self, q: np.ndarray, n: int) -> Any:
        return []

    def batch_query(self, X: np.ndarray, n: int) -> None:
        with ThreadPool() as pool:
            self.res = pool.map(lambda q: self.query(q, n), X)

    def get_batch_results(self) -> Any:
        return self.res

    def get_additional(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return self.name
