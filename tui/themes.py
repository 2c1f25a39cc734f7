"""The themes: dark, light, and one of high contrast."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["THEMES", "next_theme"]

THEMES = (
    Theme(
        name="edgevec-dark",
        primary="#62b6b7",
        secondary="#8aa4d6",
        accent="#f0b866",
        warning="#eab65a",
        error="#e6747e",
        success="#8ccf7e",
        foreground="#d9dee8",
        background="#10141b",
        surface="#161b24",
        panel="#212938",
        dark=True,
        variables={
            "muted": "#8b96a8",
            "border": "#62b6b7",
            "border-blurred": "#2f3a4d",
            "footer-key-foreground": "#f0b866",
        },
    ),
    Theme(
        name="edgevec-light",
        primary="#0d6b70",
        secondary="#3c5a9a",
        accent="#9a4b00",
        warning="#8a5a00",
        error="#a8232f",
        success="#2c6e2f",
        foreground="#20262e",
        background="#f6f4ee",
        surface="#fdfcf9",
        panel="#e7e3d8",
        dark=False,
        variables={
            "muted": "#5d646d",
            "border": "#0d6b70",
            "border-blurred": "#c9c3b4",
            "footer-key-foreground": "#9a4b00",
        },
    ),
    Theme(
        name="edgevec-contrast",
        primary="#ffff00",
        secondary="#ffffff",
        accent="#00ffff",
        warning="#ffff00",
        error="#ff9090",
        success="#80ff80",
        foreground="#ffffff",
        background="#000000",
        surface="#000000",
        panel="#000000",
        boost="#000000",
        dark=True,
        text_alpha=1.0,
        variables={
            "muted": "#ffffff",
            "border": "#ffff00",
            "border-blurred": "#ffffff",
            "text-muted": "#ffffff",
            "text-disabled": "#e0e0e0",
            "foreground-muted": "#ffffff",
            "foreground-disabled": "#e0e0e0",
            "block-cursor-foreground": "#000000",
            "block-cursor-background": "#ffff00",
            "block-cursor-blurred-foreground": "#ffffff",
            "block-cursor-blurred-background": "#404040",
            "input-selection-background": "#00ffff 60%",
            "footer-key-foreground": "#ffff00",
            "footer-description-foreground": "#ffffff",
            "scrollbar": "#ffffff",
            "scrollbar-background": "#000000",
        },
    ),
)


def next_theme(name: str) -> str:
    """The next theme in turn."""
    names = [theme.name for theme in THEMES]
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]
