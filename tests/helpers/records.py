"""Vectors for records, and what a collection holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevec.collection import Collection


def rows(rng: np.random.Generator, n: int, dim: int = 4) -> Any:
    return rng.standard_normal((n, dim)).astype(np.float32)


def contents(made: Collection) -> list[Any]:
    return [(record.id, record.vector.tolist(), record.metadata, record.document) for record in made]
