"""Settings kept from one run to the next: recent files, theme, last parameters, and the data file of each index.

They are a JSON file in the platform's configuration folder. A damaged one is renamed, and the app starts with defaults.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import platformdirs

from edgevec.files import replacing

if TYPE_CHECKING:
    from edgevec import Quantization

__all__ = ["Settings", "SettingsFile"]

_RECENT = 12


@dataclass
class Settings:
    """The settings. recent: paths, latest first; companions: index path -> path of its data, or the sample's name."""

    theme: str = "edgevec-dark"
    recent: list[str] = field(default_factory=list)
    companions: dict[str, str] = field(default_factory=dict)
    quantization: Quantization = "sq8"
    M: int = 16
    ef_construction: int = 200
    k: int = 10
    ef: int = 64

    def remember(self, path: Path) -> None:
        name = str(path.absolute())
        self.recent = [name, *(other for other in self.recent if other != name)][:_RECENT]
        self.companions = {index: data for index, data in self.companions.items() if index in self.recent}

    def forget(self, path: Path) -> None:
        self.recent = [other for other in self.recent if other != str(path.absolute())]


class SettingsFile:
    """Reads and writes the settings. notice: a problem with the file, to be shown once."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or platformdirs.user_config_path("edgevec", appauthor=False) / "tui.json"
        self.notice = ""

    def read(self) -> Settings:
        try:
            return _checked(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Settings()
        except OSError as error:
            self.notice = f"Settings cannot be read: {error.strerror or error}"
            return Settings()
        except (ValueError, TypeError, RecursionError) as error:
            self._set_aside(error)
            return Settings()

    def write(self, settings: Settings) -> None:
        """Replace the file as a whole. An error is kept in `notice` and not raised."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as new:
                new.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            self.notice = f"Settings cannot be kept: {error.strerror or error}"

    def _set_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            self.path.replace(aside)
            self.notice = f"The settings file was damaged ({error}) and is now {aside}"
        except OSError as refusal:
            self.notice = f"The settings file is damaged and stays where it is: {refusal.strerror or refusal}"


def _checked(content: Any) -> Settings:
    """The settings in a parsed file; unknown names are ignored. TypeError or ValueError if a value is wrong."""
    if not isinstance(content, dict):
        raise TypeError("no JSON object")
    settings = Settings()
    for name, default in asdict(settings).items():
        value = content.get(name, default)
        if type(value) is not type(default):
            raise TypeError(f"{name} is {value!r}")
        setattr(settings, name, value)
    if not all(
        isinstance(path, str) for path in [*settings.recent, *settings.companions, *settings.companions.values()]
    ):
        raise TypeError("a path is not a text")
    if settings.quantization != Settings.quantization and settings.quantization not in _quantizations():
        raise ValueError(f"quantization is {settings.quantization!r}")
    for name, minimum, maximum in (("M", 2, 256), ("ef_construction", 1, 65535), ("k", 1, 1000), ("ef", 1, 1_000_000)):
        if not minimum <= getattr(settings, name) <= maximum:
            raise ValueError(f"{name} is {getattr(settings, name)}")
    return settings


def _quantizations() -> tuple[Quantization, ...]:
    from edgevec import Quantization  # here: NumPy comes with it, and the app is to start at once

    return get_args(Quantization)
