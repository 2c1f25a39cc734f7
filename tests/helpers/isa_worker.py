"""For a process of its own under EDGEVEC_SIMD: build every kind of index on the data given, search, keep all.

python isa_worker.py DATA.npz FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from oracle import METRICS, QUANTIZATIONS

import edgevec


def main(data: Path, folder: Path) -> None:
    with np.load(data) as arrays:
        sets = {name: arrays[name] for name in arrays.files}
    results = {}
    for dim, rows in sets.items():
        rows, queries = rows[:-10], rows[-10:]
        for metric in METRICS:
            for quantization in QUANTIZATIONS:
                index = edgevec.Index(int(dim), metric, quantization=quantization, M=5, ef_construction=40)
                index.add(rows[:200], threads=1)
                index.remove(range(0, 200, 3))
                index.add(rows, np.arange(len(rows)), threads=1)
                name = f"{metric}-{quantization}-{dim}"
                index.save(folder / name)
                for way, options in {"graph": {"ef": 64}, "exact": {"exact": True}}.items():
                    found = index.search(queries, 8, threads=1, **options)
                    results[f"{name}-{way}-ids"], results[f"{name}-{way}-distances"] = found
    np.savez(folder / "results.npz", **results)
    print(edgevec.simd_info().active)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
