"""Collections of a folder of Chroma's, read by the library, which opens its database for writing as it always does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import Metric
from ..errors import EdgevecError
from .source import Options, Piece, Source, choose, damaged, library

__all__ = ["opened"]

_METRICS: dict[str, Metric] = {"cosine": "cosine", "ip": "ip", "l2": "l2"}
_PAGE = 1000


def opened(path: Path, options: Options) -> Source:
    chromadb = library(path, "chromadb", "chromadb")
    logging.getLogger("chromadb").setLevel(logging.ERROR)
    try:
        client = chromadb.PersistentClient(str(path), chromadb.Settings(anonymized_telemetry=False))
        names = [str(getattr(one, "name", one)) for one in client.list_collections()]
        found = client.get_collection(
            choose(path, "collection", names, options.table, "--table"), embedding_function=None
        )
        count = int(found.count())
    except EdgevecError:
        raise
    except Exception as error:  # of whatever class the library has
        raise damaged(path, str(error)) from error

    def pieces() -> Iterator[Piece]:
        for offset in range(0, count, _PAGE):
            wanted = ["embeddings", "metadatas", "documents"]
            try:
                page = found.get(include=wanted, limit=_PAGE, offset=offset)
            except Exception as error:
                raise damaged(path, str(error)) from error
            metadata = [dict(fields or {}) for fields in page["metadatas"]]
            yield Piece(page["ids"], np.asarray(page["embeddings"], np.float32), metadata, page["documents"])

    return Source(f"the collection {found.name!r} of Chroma", _metric(found), count, pieces)


def _metric(found: Any) -> Metric | None:
    """As its configuration has it or, of older versions, its metadata."""
    configuration = getattr(found, "configuration_json", None) or {}
    space = (configuration.get("hnsw") or configuration.get("spann") or {}).get("space")
    return _METRICS.get(str(space or (found.metadata or {}).get("hnsw:space") or "l2"))
