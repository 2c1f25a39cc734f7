"""What is the same of all that has the shards of a manifest open: closing, following, what is wrong with them."""

from __future__ import annotations

from typing import Any, TypeVar

from .._types import Metric
from ..errors import EdgevecError
from .follower import Follower
from .searching import Helpers

__all__ = ["Opened"]

OpenedT = TypeVar("OpenedT", bound="Opened")


class Opened:
    """Shards that are searched as one."""

    _following: Follower[Any, Any]
    _helpers: Helpers

    def close(self) -> None:
        """Close all shards, once what other threads do with them has ended. Closing again does nothing."""
        self._following.close()
        self._helpers.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._following.closed

    def __enter__(self: OpenedT) -> OpenedT:
        self._following.check()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        dim: int = self._following.manifest.settings.dim
        return dim

    @property
    def metric(self) -> Metric:
        """ "cosine", "ip" or "l2"."""
        metric: Metric = self._following.manifest.settings.metric
        return metric

    @property
    def problems(self) -> dict[str, EdgevecError]:
        """With missing="report": why the shards of these files are not searched."""
        return dict(self._following.problems)

    def refresh(self) -> bool:
        """Take in what other processes have written since. In a local folder each search does so by itself.

        With missing="report" it also looks whether the shards that were missing are there now.

        Returns:
            Whether there was anything.

        Raises:
            EdgevecError: as open(); what is open then is as it was before
        """
        following = self._following
        following.check()
        with following.changing:
            before = following.manifest, following.problems.keys()
            following.follow(again=True)
            return (following.manifest, following.problems.keys()) != before
