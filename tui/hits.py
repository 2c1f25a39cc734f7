"""Search results as the screens show them: rank, text, metadata and closeness."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .models import Answer, Data, Floats, Id

__all__ = ["Hit", "hits", "shown"]


@dataclass(frozen=True)
class Hit:
    """One result.

    distance   None for a search by words alone
    closeness  0 to 1, shown as a bar
    fields     the metadata as texts
    """

    rank: int
    id: Id
    distance: float | None
    score: float | None
    closeness: float
    text: str
    fields: Mapping[str, str]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def hits(answer: Answer, data: Data, metric: str) -> list[Hit]:
    distances = _listed(answer.distances, len(answer.ids))
    scores = _listed(answer.scores, len(answer.ids))
    closeness = _closeness(answer, metric)
    records = answer.records if answer.records is not None else _records(answer, data)
    return [
        Hit(rank, id, distance, score, close, text, {name: shown(value) for name, value in fields.items()}, fields)
        for rank, (id, distance, score, close, (text, fields)) in enumerate(
            zip(answer.ids.tolist(), distances, scores, closeness, records, strict=True), 1
        )
    ]


def _listed(values: Floats | None, count: int) -> list[float | None]:
    return [None] * count if values is None else values.tolist()


def _closeness(answer: Answer, metric: str) -> list[float]:
    """Under cosine the similarity itself; otherwise the results compared with each other."""
    if answer.distances is not None and metric == "cosine":
        similar: list[float] = np.clip(1 - answer.distances.astype(float), 0, 1).tolist()
        return similar
    values = answer.distances if answer.distances is not None else -np.asarray(answer.scores)
    spread = float(np.ptp(values)) if len(values) else 0.0
    close: list[float] = (1 - 0.8 * (values - values.min()) / spread if spread else np.ones(len(values))).tolist()
    return close


def _records(answer: Answer, data: Data) -> list[tuple[str, dict[str, Any]]]:
    """Text and metadata of what was found, from the data set; nothing for ids that it does not have."""
    found = []
    for row in data.rows_of(answer.ids).tolist():
        text = "" if data.texts is None or row < 0 else data.texts[row]
        found.append((text, {} if row < 0 else {name: column[row] for name, column in data.columns.items()}))
    return found


def shown(value: Any) -> str:
    """A metadata value as text."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)
