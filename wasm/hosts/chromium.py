"""Headless Chromium as everything here starts it."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright) -> Browser:
    """The system's Chromium, with nothing that phones home."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
