"""Processes that are to be killed while they save: python save_worker.py save|replace ROWS

Waits for paths on standard input, one a line, and forks a worker for each, which writes one file after the other there
until it is killed. Standard output carries "pid N", and the number of each file that is complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgevec
from edgevec.files import replacing

DIM = 16
LINE = "of file {}\n"


def make_index(rows: int) -> edgevec.Index:
    index = edgevec.Index(DIM, M=4, ef_construction=10)
    index.add(np.random.default_rng(0).standard_normal((rows, DIM)), threads=1)
    return index


def text_of(number: int, rows: int) -> str:
    return LINE.format(number) * rows


def save_again(path: Path, rows: int) -> Callable[[int], None]:
    index = make_index(rows)

    def save(number: int) -> None:
        index.ef = 1 + number % 1000  # the file says whose it is
        index.save(path)

    return save


def replace_again(path: Path, rows: int) -> Callable[[int], None]:
    def write(number: int) -> None:
        with replacing(path) as new, new.open("w") as file:
            for part in text_of(number, rows).splitlines(keepends=True):
                file.write(part)

    return write


def main(how: str, rows: int) -> None:
    prepare = save_again if how == "save" else replace_again
    for line in sys.stdin:
        if os.fork() == 0:
            work = prepare(Path(line.rstrip("\n")), rows)
            print("pid", os.getpid(), flush=True)
            number = 0
            while True:
                work(number)
                print(number, flush=True)
                number += 1
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
