"""Where things lie on a machine is somebody's own, and left out of what is published."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stage import Context

PYTHON, HOME, TEMPORARY = "<python>", "~", "<tmp>"
# Whoever has these has them at the same place; they tell nothing, and much begins with them.
EVERYBODYS = {"/", "/usr", "/usr/local"}
# pytest's folders have the user's name.
_PYTEST = re.compile(r"\bpytest-of-[^/\s]+")


def without_paths(value: Any, context: Context) -> Any:
    """The same with files named from the tree's root, the Python's prefix or the home folder."""
    return _replaced(value, _places(context))


def _places(context: Context) -> list[tuple[str, str]]:
    """Folders and what they become, the longest first, for one may lie in another."""
    named = [
        (context.folder, ""),
        (context.root, ""),
        (Path(sys.prefix), PYTHON),
        (Path(sys.base_prefix), PYTHON),
        (Path(tempfile.gettempdir()), TEMPORARY),
    ]
    with contextlib.suppress(RuntimeError):
        named.append((Path.home(), HOME))
    places: dict[str, str] = {}
    for folder, name in named:
        for path in (str(folder), str(folder.resolve())):
            if path not in EVERYBODYS:
                places.setdefault(path, name)
    return sorted(places.items(), key=lambda place: -len(place[0]))


def _replaced(value: Any, places: list[tuple[str, str]]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, places) for each in value]
    if not isinstance(value, str):
        return value
    for folder, name in places:
        if not name:
            value = value.replace(f"{folder}/", "")
        value = re.sub(rf"{re.escape(folder)}(?![\w-])", name or ".", value)
    return _PYTEST.sub("pytest", value)
