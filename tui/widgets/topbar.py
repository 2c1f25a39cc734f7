"""The two lines at the top: what is open and how it runs; and the way from screen to screen."""

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
    """A name that leads to a screen."""

    class Chosen(Message):
        def __init__(self, place: str) -> None:
            super().__init__()
            self.place = place

    def __init__(self, place: str, *, here: bool) -> None:
        key, name = TABS[place]
        mark = "▸" if here else " "
        super().__init__(
            Content.assemble((f"{mark}", "$accent"), (f"{key} ", "$muted"), (f"{name} ", "bold" if here else "")),
            classes="here" if here else "",
        )
        self.place = place

    def on_click(self) -> None:
        self.post_message(self.Chosen(self.place))


class TopBar(Horizontal):
    DEFAULT_CSS = """
    TopBar {
        height: 2;
        layout: vertical;
        background: $panel;
        #facts { height: 1; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
        #places { height: 1; width: 1fr; background: $surface; }
        ScreenTab { width: auto; height: 1; padding: 0 1 0 0; color: $muted; text-wrap: nowrap; }
        ScreenTab.here { background: $background; color: $foreground; text-style: bold; }
        ScreenTab:hover { background: $primary 30%; }
    }
    """

    def __init__(self, here: str) -> None:
        super().__init__()
        self._here = here

    def compose(self) -> ComposeResult:
        yield Static(id="facts")
        with Horizontal(id="places"):
            for place in TABS:
                yield ScreenTab(place, here=place == self._here)

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
            parts.append((f" · {backend.settings.metric} · {backend.settings.quantization}", ""))
    if simd.active == "scalar":
        parts.append((" · ⚠ no SIMD: slow" + (" (forced)" if simd.forced else ""), "bold $warning"))
    else:
        parts.append((f" · SIMD {simd.active}", "$success"))
    if session.changed is not None:
        parts.append((f" · ⚠ {printable(session.changed.name)} changed on disk: F6 reads it", "bold $warning"))
    return Content.assemble(*parts)
