"""How messages call a file."""

from __future__ import annotations

import os
from pathlib import Path

from .._sources import shown


def called(path: Path) -> str:
    """From the working folder where it lies in there; else in full."""
    try:
        inside = os.path.relpath(path)
    except (ValueError, OSError):  # a working folder that is gone
        return shown(str(path))
    return shown(str(path) if inside.startswith("..") else inside)
