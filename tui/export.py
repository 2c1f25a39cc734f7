"""Search results and measured curves as text, CSV and JSON, for files and the clipboard."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgevec.evaluation import Point
from edgevec.files import replacing
from edgevec.printable import printable

from .hits import Hit
from .models import Curve, Data

__all__ = ["as_lines", "as_record", "write_curves", "write_hits"]


def as_lines(found: Sequence[Hit], data: Data) -> str:
    """One line for each hit, with tabs between fields; control characters are escaped, for it may go into a shell."""
    return "\n".join("\t".join(map(printable, row)) for row in _rows(found, data))


def as_record(hit: Hit) -> str:
    """A hit with all its fields, as JSON."""
    known = {"id": hit.id, "distance": hit.distance, "score": hit.score, "text": hit.text, "metadata": hit.metadata}
    text = json.dumps(known, indent=2, ensure_ascii=False, default=str)
    return text if printable(text, lines=True) == text else json.dumps(known, indent=2, default=str)


def write_hits(path: Path, query: str, found: Sequence[Hit], data: Data) -> None:
    """Write hits as CSV if the path ends in .csv, else as JSON."""
    if path.suffix.lower() == ".csv":
        _write(path, _csv([_header(found, data), *_rows(found, data)]))
        return
    names = _header(found, data)
    rows = [dict(zip(names, row, strict=True)) for row in _rows(found, data)]
    _write(path, json.dumps({"data": data.name, "query": query, "results": rows}, indent=2, ensure_ascii=False) + "\n")


def write_curves(path: Path, curves: Iterable[Curve], k: int) -> None:
    """Write one CSV line for each point. Latencies are in microseconds."""
    header = ["variant", "bytes_per_vector", "build_seconds", "k", *Point._fields]
    rows: list[list[Any]] = [
        [curve.name, curve.bytes_per_vector, curve.build_seconds, k, *point]
        for curve in curves
        for point in curve.points
    ]
    _write(path, _csv([header, *rows]))


def _header(found: Sequence[Hit], data: Data) -> list[str]:
    fixed = ["rank", "id", "distance", *(["score"] if data.collection else [])]
    return [*fixed, *(["text"] if data.texts is not None else []), *_fields(found, data)]


def _fields(found: Sequence[Hit], data: Data) -> list[str]:
    """The columns of the data set, and the fields that only some records of a collection have."""
    return list(dict.fromkeys([*data.columns, *(name for hit in found for name in hit.fields)]))


def _rows(found: Sequence[Hit], data: Data) -> Iterable[list[Any]]:
    names = _fields(found, data)
    for hit in found:
        fixed = [hit.rank, hit.id, hit.distance, *([hit.score] if data.collection else [])]
        yield [*fixed, *([hit.text] if data.texts is not None else []), *(hit.fields.get(name, "") for name in names)]


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _write(path: Path, content: str) -> None:
    with replacing(path) as new:
        new.write_text(content, encoding="utf-8")
