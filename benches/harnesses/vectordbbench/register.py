"""Makes VectorDBBench know a client from outside; in its own tree, lines in backend/clients/__init__.py would do that.

Its list of databases is an enum, which the models of its tasks are built of, so this comes before they are imported.
"""

from __future__ import annotations

from typing import Any

from vectordb_bench.backend.clients import DB, IndexType

from .client import Edgevec
from .config import EdgevecCaseConfig, EdgevecConfig

__all__ = ["register"]

_NAME = "Edgevec"


def register() -> Any:
    """The member of its enum that stands for edgevec, which is added by the first call."""
    if _NAME in DB.__members__:
        return DB[_NAME]
    member: Any = object.__new__(DB)
    member._name_ = member._value_ = _NAME
    member._sort_order_ = len(DB)
    DB._member_names_.append(_NAME)
    DB._member_map_[_NAME] = DB._value2member_map_[_NAME] = member

    clients, configs, case_configs = DB.init_cls.fget, DB.config_cls.fget, DB.case_config_cls

    def case_config_cls(self: Any, index_type: IndexType | None = None) -> Any:
        return EdgevecCaseConfig if self is member else case_configs(self, index_type)

    DB.init_cls = property(lambda self: Edgevec if self is member else clients(self))
    DB.config_cls = property(lambda self: EdgevecConfig if self is member else configs(self))
    DB.case_config_cls = case_config_cls
    return member
