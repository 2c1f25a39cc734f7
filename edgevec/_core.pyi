"""Made from csrc/edgevec.h when the package is built: see csrc/binding.py."""

from __future__ import annotations

from typing import Any

ffi: Any
lib: Any
