"""A signal at each moment in which Python may raise its exception: at the start of a function, after a call to C.

Once contextlib's own code is there, a `with` of the library is left open for as long as the exception lives.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_worker import DIM, State, apply, commit, state_of
from support import examples

import edgevec
from edgevec.collection import Collection

_FILES = (str(Path(edgevec.__file__).parent), contextlib.__file__)
MOMENTS = examples(60)
"""That are tried of each call: half of them are in contextlib. Beside them all that are in a comprehension, where a
statement may be half read."""
_LEAVES_RESUMED = sys.version_info < (3, 11)
"""What is raised here, when a generator goes on, leaves it without its `finally`; what a signal raises does not."""
_CONTEXTLIB, _COMPREHENSION, _ELSEWHERE = range(3)


class Signaled(BaseException):
    """What the handler of a signal raises."""


class _Moments:
    """Counts the moments of a call, and raises Signaled at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.seen: list[int] = []
        """Where each is."""
        self._at = at

    def __call__(self, frame: Any, event: str, _: object) -> None:
        code = frame.f_code
        if event not in ("call", "c_return") or not code.co_filename.startswith(_FILES) or code.co_name == "__del__":
            return
        if event == "call" and _LEAVES_RESUMED and code.co_flags & inspect.CO_GENERATOR and frame.f_lasti >= 0:
            return
        where = _COMPREHENSION if code.co_name.endswith("comp>") else _ELSEWHERE
        self.seen.append(_CONTEXTLIB if code.co_filename == contextlib.__file__ else where)
        if len(self.seen) - 1 == self._at:
            sys.setprofile(None)
            raise Signaled

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        report = sys.unraisablehook
        sys.unraisablehook = lambda lost: None if lost.exc_type is Signaled else report(lost)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            sys.unraisablehook = report


def _nested(made: Collection) -> None:
    with made.batch():
        commit(made, 1)


CALLS: dict[str, Callable[[Collection], object]] = {
    "batch": lambda made: commit(made, 1),
    "nested batch": _nested,
    "upsert": lambda made: made.upsert(["new"], np.ones((1, DIM))),
    "delete": lambda made: made.delete(next(iter(made)).id),
    "search": lambda made: made.search(np.ones(DIM), k=3, where="batch = 0"),
}


def _moments_of(folder: Path, call: Callable[[Collection], object]) -> list[int]:
    moments = _Moments()
    with edgevec.open(folder / "counted.edgevec", DIM) as made:
        commit(made, 0)
        with moments.counted():
            call(made)
    return moments.seen


def _chosen(seen: list[int], rng: np.random.Generator) -> list[int]:
    where = np.array(seen)
    kinds = np.flatnonzero(where == _CONTEXTLIB), np.flatnonzero(where != _CONTEXTLIB)
    some = [rng.permutation(kind)[: MOMENTS // 2] for kind in kinds]
    return np.unique(np.concatenate([*some, np.flatnonzero(where == _COMPREHENSION)])).tolist()


def _interrupted_at(at: int, path: Path, call: Callable[[Collection], object]) -> None:
    with edgevec.open(path, DIM) as made:
        commit(made, 0)
        with _Moments(at).counted():
            call(made)
        raise Signaled  # it came where Python ignores it


def _outcomes(call: str) -> list[State]:
    before = apply(State(), 0)
    return [before, apply(before, 1)] if "batch" in call else [before]


@pytest.mark.parametrize("call", CALLS)
def test_the_exception_leaves_the_collection_closed_and_whole(
    tmp_path: Path, call: str, rng: np.random.Generator
) -> None:
    for at in _chosen(_moments_of(tmp_path, CALLS[call]), rng):
        path = tmp_path / f"{at}.edgevec"
        with pytest.raises(Signaled):
            _interrupted_at(at, path, CALLS[call])
        with edgevec.open(path) as made:
            assert made.check().ok
            if call in ("batch", "nested batch", "search"):
                assert state_of(made) in _outcomes(call)
            made.upsert(["after"], np.ones((1, DIM)))
            assert "after" in made
        path.unlink()


@pytest.mark.parametrize("call", ["upsert", "delete", "search"])
def test_what_is_written_after_the_exception_is_stored_while_it_lives(
    tmp_path: Path, call: str, rng: np.random.Generator
) -> None:
    """As in an interactive session, which keeps the last exception, and with it statements that are half read."""
    for at in _chosen(_moments_of(tmp_path, CALLS[call]), rng):
        path = tmp_path / f"{at}.edgevec"
        with edgevec.open(path, DIM) as made:
            commit(made, 0)
            kept: BaseException | None = None
            try:
                with _Moments(at).counted():
                    CALLS[call](made)
            except Signaled as error:
                kept = error
            made.upsert(["after"], np.ones((1, DIM)))
            assert "after" in made
            if sys.platform != "emscripten":  # where a file has one program
                with edgevec.open(path, mode="r") as reader:
                    assert "after" in reader
            del kept
            made.checkpoint()
            assert "after" in made
            assert made.check().ok


@pytest.mark.parametrize("outer", ["checkpoint", "close"])
def test_maintenance_and_closing_do_not_take_an_interrupted_write_for_a_batch(
    tmp_path: Path, outer: str, rng: np.random.Generator
) -> None:
    for at in _chosen(_moments_of(tmp_path, CALLS["upsert"]), rng):
        made = edgevec.open(tmp_path / f"{at}.edgevec", DIM)
        commit(made, 0)
        kept: BaseException | None = None
        try:
            with _Moments(at).counted():
                CALLS["upsert"](made)
        except Signaled as error:
            kept = error
        getattr(made, outer)()
        made.close()
        del kept


def _closed_in_its_batch(made: Collection) -> None:
    with made.batch():
        made.upsert(["new"], np.ones((1, DIM)))
        with contextlib.suppress(KeyError), made:
            raise KeyError


def test_a_batch_whose_collection_was_closed_in_it_says_so(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        commit(made, 0)
    with pytest.raises(edgevec.ClosedError):
        _closed_in_its_batch(edgevec.open(tmp_path / "c.edgevec"))
    with edgevec.open(tmp_path / "c.edgevec") as made:
        assert state_of(made) == apply(State(), 0)
