"""The places of the app, a module and a style sheet each."""

from __future__ import annotations
