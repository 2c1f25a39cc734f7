"""Controls of one line for a setting: `ef ‹ 64 ›`. Arrow keys and clicks step through values; numbers can be typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

__all__ = ["Choice", "Control", "Number"]


class Control(Widget, can_focus=True):
    """A setting with a value. hint: explains it in one sentence while the control has the focus."""

    DEFAULT_CSS = """
    Control {
        width: auto;
        height: 1;
        padding: 0 1;
        &:focus { background: $primary 25%; text-style: bold; }
        &:disabled { opacity: 50%; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,minus", "step(-1)", "Less", show=False),
        Binding("right,plus,equals_sign", "step(1)", "More", show=False),
    ]

    class Changed(Message):
        """The user chose another value."""

        def __init__(self, control: Control) -> None:
            super().__init__()
            self.source = control

        @property
        def control(self) -> Control:
            return self.source

    def __init__(self, label: str, *, hint: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self.label, self.hint = label, hint

    def shown(self) -> str:
        """The value as it is shown."""
        raise NotImplementedError

    def step(self, delta: int) -> bool:
        """Go to the next (1) or previous (-1) value. Returns whether there was one."""
        raise NotImplementedError

    def render(self) -> Content:
        arrows = "$accent" if self.has_focus else "$muted"
        return Content.assemble(
            (f"{self.label} ", "$muted"),
            ("‹", arrows),
            (f" {self.shown()} ", "bold"),
            ("›", arrows),
        )

    def action_step(self, delta: int) -> None:
        if self.step(delta):
            self.changed()

    def changed(self) -> None:
        self.refresh(layout=True)
        self.post_message(self.Changed(self))

    def on_click(self, event: events.Click) -> None:
        self.action_step(-1 if event.x <= self.size.width - len(self.shown()) - 3 else 1)


class Choice(Control):
    """A choice among a few words."""

    def __init__(self, label: str, options: Sequence[str], value: str, *, hint: str, id: str | None = None) -> None:
        super().__init__(label, hint=hint, id=id)
        self.options, self._value = list(options), value

    @property
    def value(self) -> str:
        return self._value

    @value.setter
    def value(self, value: str) -> None:
        """Set it without a message."""
        self._value = value
        self.refresh(layout=True)

    def shown(self) -> str:
        return self._value

    def step(self, delta: int) -> bool:
        if len(self.options) < 2:
            return False
        at = self.options.index(self._value) if self._value in self.options else -1
        self._value = self.options[(at + delta) % len(self.options)]
        return True


class Number(Control):
    """A number: steps follow `ladder`, and any other from minimum to maximum can be typed."""

    def __init__(
        self,
        label: str,
        value: int,
        ladder: Sequence[int],
        *,
        minimum: int = 1,
        maximum: int = 65_535,
        hint: str,
        id: str | None = None,
    ) -> None:
        super().__init__(label, hint=hint, id=id)
        self._value, self._minimum, self._maximum = value, minimum, maximum
        self._ladder = self._rungs = sorted(ladder)
        self._typed = ""

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        """Set it without a message."""
        self._value, self._typed = value, ""
        self.refresh(layout=True)

    @property
    def maximum(self) -> int:
        return self._maximum

    def limit(self, maximum: int) -> None:
        """Let steps end at this greatest value, without a message. Who had the greatest has it still."""
        if self._value == self._maximum or self._value > maximum:
            self._value = maximum
        self._maximum = maximum
        self._ladder = [*(rung for rung in self._rungs if rung < maximum), maximum]
        self.refresh(layout=True)

    def shown(self) -> str:
        return f"{self._typed}▏" if self._typed else f"{self._value:,}"

    def step(self, delta: int) -> bool:
        self._typed = ""
        if delta > 0:
            rungs = [rung for rung in self._ladder if rung > self._value]
        else:
            rungs = [rung for rung in self._ladder if rung < self._value][::-1]
        if not rungs:
            return False
        self._value = rungs[0]
        return True

    def on_key(self, event: events.Key) -> None:
        if event.character is not None and event.character in "0123456789":
            self._typed = (self._typed + event.character)[:7]
        elif event.key == "backspace" and self._typed:
            self._typed = self._typed[:-1]
        elif event.key == "enter" and self._typed:
            self._take()
        elif event.key == "escape" and self._typed:
            self._typed = ""
        else:
            return
        event.stop()
        event.prevent_default()
        self.refresh(layout=True)

    def on_blur(self) -> None:
        if self._typed:
            self._take()

    def _take(self) -> None:
        number, self._typed = int(self._typed), ""
        value = min(max(number, self._minimum), self._maximum)
        if value != self._value:
            self._value = value
            self.changed()
        self.refresh(layout=True)
