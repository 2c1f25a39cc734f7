"""The screens' protocols answered with edgevec itself. Nothing here knows Textual."""

from __future__ import annotations

from .real import RealEngine

__all__ = ["RealEngine"]
