"""The Python half of the demo page: it runs in a Web Worker and answers the page's messages."""

from __future__ import annotations

from .session import Session

__all__ = ["Session"]
