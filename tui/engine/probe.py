"""python -m edgevec.tui.engine.probe FOLDER K EF,EF,...: measure the index in FOLDER and print a point a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevec import EdgevecError, Index
from edgevec.measure import recall_curve


def main(folder: str, k: int, efs: list[int]) -> None:
    index = Index.load(Path(folder, "index.ev"), mmap=True)
    with np.load(Path(folder, "queries.npz")) as kept:
        vectors, truth, own = kept["vectors"], kept["truth"], kept["own"]
    for point in recall_curve(index, vectors, without(truth, own, k), k=k, efs=efs):
        print(json.dumps(point), flush=True)


def without(truth: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k nearest; a query that is a row of the index itself (its id in `own`) is no neighbour of its own: -1."""
    nearest: NDArray[np.int64] = truth[:, :k].copy()
    nearest[nearest == own[:, None]] = -1
    return nearest


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), [int(ef) for ef in sys.argv[3].split(",")])
    except (EdgevecError, OSError, MemoryError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
