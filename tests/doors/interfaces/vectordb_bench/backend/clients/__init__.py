from __future__ import annotations

from enum import Enum
from typing import Any

from .api import IndexType


class DB(Enum):
    Chroma = "Chroma"
    Zvec = "Zvec"

    @property
    def init_cls(self) -> Any:
        return f"client of {self.value}"

    @property
    def config_cls(self) -> Any:
        return f"config of {self.value}"

    def case_config_cls(self, index_type: IndexType | None = None) -> Any:
        return f"case config of {self.value}"


__all__ = ["DB", "IndexType"]
