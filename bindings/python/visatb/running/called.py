"""How messages call a file."""

from __future__ import annotations

import os
from pathlib import Path

from .._sources import shown


def called(path: Path) -> str:
    """From the working folder where it lies in there; else in full."""
    return shown(str(near(path)))


def near(path: Path) -> Path:
    """The path as messages call it, for what names a file in its own messages."""
    try:
        inside = os.path.relpath(path)
    except (ValueError, OSError):  # a working folder that is gone
        return path
    return path if inside.startswith("..") else Path(inside)
