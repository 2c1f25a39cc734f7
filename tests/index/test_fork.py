"""A forked child and the indexes that it inherits: answers or an error, and never a wait for threads it has not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from forked import in_child

from edgevec import ForkedError, IdFilter, Index, SearchContext

pytestmark = [
    pytest.mark.threads,
    pytest.mark.subprocess,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of fork beside threads, which is what is tried here
]
DIM, PATIENCE = 24, 60


@contextmanager
def meanwhile(*works: Callable[[], object]) -> Iterator[None]:
    """Threads that do these over and over."""
    stop = threading.Event()

    def repeat(work: Callable[[], object]) -> None:
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=repeat, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def made(rows: int = 2000) -> tuple[Index, np.ndarray]:
    vectors = np.random.default_rng(0).standard_normal((rows, DIM)).astype(np.float32)
    index = Index(DIM, metric="l2", M=8, ef_construction=40)
    index.add(vectors)
    return index, vectors


def test_a_child_uses_what_others_were_searching() -> None:
    index, vectors = made()
    allowed, context = IdFilter(range(500)), SearchContext(index)
    expected = index.search(vectors[:20], 5).ids.tolist()

    def work() -> None:
        assert index.search(vectors[:20], 5).ids.tolist() == expected
        index.search(vectors[0], 5, filter=allowed)
        index.search(vectors[0], 5, context=context)
        index.add(vectors[:10], ids=range(5000, 5010))
        assert 5003 in index
        assert index.check().ok

    with meanwhile(
        lambda: index.search(vectors[:50], 5, filter=allowed),
        lambda: index.search(vectors[0], 5, context=context),
        lambda: index.get([1]),
    ):
        assert [in_child(work, patience=PATIENCE) for _ in range(15)] == [0] * 15
    assert 5003 not in index


def test_a_child_of_a_process_that_changes_an_index_is_answered_or_told() -> None:
    index, vectors = made()
    calls: list[Callable[[], object]] = [
        lambda: index.search(vectors[:3], 5),
        lambda: index.add(vectors[:10]),
        lambda: index.remove([1]),
        lambda: index.get([0]),
        lambda: index.check(),
        lambda: index.compact(),
        lambda: list(index),
    ]

    def work() -> None:
        told = []
        for call in calls:
            try:
                call()
            except ForkedError as error:
                told.append(str(error))
        assert all("forked" in words for words in told)
        assert len(index) >= 0
        assert (0 in index) in (True, False)
        assert index.stats()["live"] >= 0

    with meanwhile(lambda: index.add(vectors[:200], ids=range(200)), lambda: index.search(vectors[:50], 5)):
        assert [in_child(work, patience=PATIENCE) for _ in range(15)] == [0] * 15
    assert index.check().ok


@pytest.mark.parametrize("threads", [1, 2])
def test_a_callback_that_forks_ends_the_call_in_the_child_alone(threads: int) -> None:
    index, vectors = made(10)
    exits: list[int] = []

    def progress(done: int, total: int) -> bool:
        if not exits and done > 0:
            child = os.fork()
            if child == 0:
                signal.alarm(PATIENCE)
                exits.append(0)
                return True
            exits.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return True

    parent = os.getpid()
    many = np.random.default_rng(1).standard_normal((60_000, DIM)).astype(np.float32)
    try:
        try:
            index.add(many, threads=threads, progress=progress)
        except ForkedError:
            assert os.getpid() != parent
            with pytest.raises(ForkedError, match="load it again"):
                index.search(vectors[0], 1)
            os._exit(0)
        if os.getpid() != parent:
            os._exit(98)
    except BaseException:
        if os.getpid() != parent:
            os._exit(99)
        raise
    assert exits == [0]
    assert len(index) == 60_010
    assert index.check().ok
