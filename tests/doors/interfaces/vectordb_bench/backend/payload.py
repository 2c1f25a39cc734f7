from __future__ import annotations

from enum import Enum


class PayloadProfile(str, Enum):
    IDS_ONLY = "ids_only"
