"""python -m edgevec.tui.probe FOLDER K EF,EF,...: measure what is staged in FOLDER and print a point a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgevec import EdgevecError
from edgevec.evaluation import recall_curve

from .backends import bundle


def main(folder: Path, k: int, efs: list[int]) -> None:
    backend = bundle.open_backend(folder)
    queries = bundle.read_queries(folder, k)
    for point in recall_curve(
        backend,
        queries.vectors,
        queries.truth,
        k=k,
        efs=efs,
        true_distances=queries.distances,
        distances_of=queries.distances_of,
        metric=queries.metric,
    ):
        print(json.dumps(point), flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), [int(ef) for ef in sys.argv[3].split(",")])
    except (EdgevecError, OSError, MemoryError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
