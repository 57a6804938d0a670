"""Paths as the system takes them; this file and those it needs import nothing heavy."""

from __future__ import annotations

import os

from ._errors import ArgumentError


def file_name(argument: str, path: object) -> str:
    """A path as a string that the system can take."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(name, str):
        raise ArgumentError(f"{argument} = {path!r}; expected a path")
    try:
        has_nul = b"\0" in os.fsencode(name)
    except UnicodeEncodeError:
        has_nul = True
    if has_nul:
        raise ArgumentError(f"{argument} = {path!r}; no file can have this name")
    return name
