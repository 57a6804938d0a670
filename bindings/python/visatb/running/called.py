"""How messages call a file."""

from __future__ import annotations

import os
from pathlib import Path

from .._sources import shown


def called(path: Path) -> str:
    """From the working folder or in full, whichever is shorter.

    Only where that names the same file: over a link, `..` does not lead back.
    """
    try:
        real = os.path.realpath(path)
        ways = [os.path.abspath(path), os.path.relpath(path)]  # noqa: PTH100 - links stay
        ways = [way for way in ways if os.path.realpath(way) == real]
    except (ValueError, OSError):  # a working folder that is gone
        ways = []
    return shown(min(ways, key=len, default=str(path)))


def near(path: Path) -> Path:
    """The path from the working folder where it lies in there; else as it is.

    For what names a file in its own messages. It is never one out of the working folder, which
    would lead elsewhere once that folder is moved.
    """
    try:
        inside = os.path.relpath(path)
    except (ValueError, OSError):  # a working folder that is gone
        return path
    return path if inside.startswith("..") else Path(inside)
