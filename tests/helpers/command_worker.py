"""Runs commands of `edgevec` that are to be ended by a signal: python command_worker.py

Each line of standard input is a JSON object: the `arguments` of a command, the `folder` that it works in, and the files
for its `stdout` and `stderr`. It runs in a process of its own, with everything imported. Standard output tells "pid N"
once it is at work, and "end STATUS" when it has ended, for which it waits after a further line of input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable

import edgevec.collection
import edgevec.sharded
from edgevec.cli import bench, build, convert, db, demo, info, main, search, shards
from edgevec.cli.app import edgevec as app
from edgevec.importers import write

IMPORTED = edgevec.collection, edgevec.sharded, write, bench, build, convert, db, demo, info, search, shards
"""Which none of the processes need import."""


def run(begin: Callable[[], object], arguments: list[str], folder: str, stdout: str, stderr: str) -> None:
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored
    group = app.callback
    assert group is not None

    def callback(**settings: object) -> object:
        begin()
        return group(**settings)

    app.callback = callback
    sys.argv = ["edgevec", *arguments]
    main()


if __name__ == "__main__":
    for line in sys.stdin:
        begun, begins = os.pipe()
        child = os.fork()
        if child == 0:
            run(lambda begins=begins: os.write(begins, b"x"), **json.loads(line))
        os.close(begins)
        os.read(begun, 1)
        os.close(begun)
        os.write(1, f"pid {child}\n".encode())
        sys.stdin.readline()
        os.write(1, f"end {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
