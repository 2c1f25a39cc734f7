"""The screens and dialogs of the app, each in a module with a style sheet."""

from __future__ import annotations
