"""The library, which is imported when it is first needed."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import MissingExtraError

__all__ = ["import_ray", "running_ray"]


def import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError("edgevec.ray needs ray; install it with: pip install 'edgevec[ray]'") from error


def running_ray() -> Any:
    """It, connected to a cluster: to one of this machine alone, where the caller has not chosen another."""
    ray = import_ray()
    if not ray.is_initialized():
        ray.init()
    return ray
