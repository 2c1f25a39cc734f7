"""Tasks that build shards: so many at a time, each run again by Ray where its worker is lost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from .._types import Progress
from ..errors import CancelledError, EdgevecError, StorageError
from ..progress import says_stop
from ..sharded.writing import CountableT
from .library import running_ray

__all__ = ["Tasks"]

_Block = TypeVar("_Block")


class Tasks:
    """
    Args:
        work: what a worker does: work(*arguments)
        ray_remote_args: of the tasks
        concurrency: how many run at a time; None: one per core of the cluster, or per `num_cpus` of them
    """

    def __init__(
        self, work: Callable[..., Any], ray_remote_args: Mapping[str, Any] | None, concurrency: int | None
    ) -> None:
        self._ray = running_ray()
        remote = {"num_cpus": 1, **(ray_remote_args or {})}
        self.threads = max(1, int(remote["num_cpus"] or 1))
        """That a task may have."""
        self._task = self._ray.remote(work).options(**remote)
        self._concurrency = concurrency

    def run(
        self,
        blocks: Generator[_Block, None, None],
        arguments: Callable[[_Block], tuple[Any, ...]],
        total: Callable[[], int],
        progress: Progress | None,
    ) -> list[CountableT]:
        """What the tasks return, a shard for each block, in the order of the blocks, which are closed.

        Args:
            arguments: arguments(block), what the task of a block is given
            total: total(), the rows of all, as far as is known
        """
        made: dict[int, CountableT] = {}
        running: dict[Any, int] = {}

        def collect() -> None:
            """Wait for one more shard."""
            [reference], _ = self._ray.wait(list(running), num_returns=1)
            number = running.pop(reference)
            made[number] = self._result(reference)
            done = sum(each.count for each in made.values())
            if progress is not None and says_stop(progress(done, max(total(), done))):
                raise CancelledError("stopped by its progress function")

        try:
            cores = int(self._ray.cluster_resources().get("CPU", 1))
            most = self._concurrency or max(1, cores // self.threads)
            for number, block in enumerate(blocks):
                while len(running) >= most:
                    collect()
                running[self._task.remote(*arguments(block))] = number
            while running:
                collect()
        except BaseException:
            for reference in running:
                with suppress(Exception):
                    self._ray.cancel(reference)
            raise
        finally:
            blocks.close()
        return [made[number] for number in sorted(made)]

    def _result(self, reference: Any) -> Any:
        """What a task returns or raises; StorageError where it was lost."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EdgevecError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            raise StorageError(f"a task was lost: {' '.join(str(error).split())}") from error
