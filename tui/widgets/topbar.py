"""The top bar: what is open and which SIMD path is used; and the tabs of the screens."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from edgevec import SimdInfo
from edgevec.printable import printable

from ..session import Session

__all__ = ["TABS", "TopBar"]

TABS = {"open": ("F1", "Open"), "data": ("F2", "Data"), "search": ("F3", "Search"), "latency": ("F4", "Latency")}
TABS["compare"] = ("F5", "Compare")


class ScreenTab(Static):
    """A tab that switches to a screen."""

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, mode: str, *, current: bool) -> None:
        key, name = TABS[mode]
        mark = "▸" if current else " "
        super().__init__(
            Content.assemble((f"{mark}", "$accent"), (f"{key} ", "$muted"), (f"{name} ", "bold" if current else "")),
            classes="current" if current else "",
        )
        self.mode = mode

    def on_click(self) -> None:
        self.post_message(self.Chosen(self.mode))


class TopBar(Horizontal):
    """The two lines at the top of each screen."""

    DEFAULT_CSS = """
    TopBar {
        height: 2;
        layout: vertical;
        background: $panel;
        #facts { height: 1; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
        #tabs { height: 1; width: 1fr; background: $surface; }
        ScreenTab { width: auto; height: 1; padding: 0 1 0 0; color: $muted; text-wrap: nowrap; }
        ScreenTab.current { background: $background; color: $foreground; text-style: bold; }
        ScreenTab:hover { background: $primary 30%; }
    }
    """

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        yield Static(id="facts")
        with Horizontal(id="tabs"):
            for mode in TABS:
                yield ScreenTab(mode, current=mode == self._current)

    def show(self, session: Session, simd: SimdInfo) -> None:
        self.query_one("#facts", Static).update(facts(session, simd))


def facts(session: Session, simd: SimdInfo) -> Content:
    """rows x dims, metric, quantization, SIMD path."""
    parts: list[Content | tuple[str, str]] = [("◆ edgevec", "bold $primary"), ("  ", "")]
    if session.data is None:
        parts.append(("nothing open", "$muted"))
    else:
        data, backend = session.data, session.backend
        parts.append((f"{printable(data.name)}  ", "bold"))
        parts.append((f"{session.rows:,} × {backend.dim if backend is not None else data.dim}", ""))
        if backend is None:
            parts.append((" · no index yet", "$muted"))
        else:
            parts.append((f" · {backend.settings.metric} · {backend.settings.short}", ""))
    if simd.active == "scalar":
        parts.append((" · ⚠ no SIMD: slow" + (" (forced)" if simd.forced else ""), "bold $warning"))
    else:
        parts.append((f" · SIMD {simd.active}", "$success"))
    if session.changed is not None:
        parts.append((f" · ⚠ {printable(session.changed.name)} changed on disk: F6 reads it", "bold $warning"))
    return Content.assemble(*parts)
