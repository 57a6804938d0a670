"""A clear word where what draws the report is missing."""

from __future__ import annotations

import importlib

from visatb._errors import UnsupportedError

_NEEDED = {"matplotlib": "'matplotlib>=3.8'", "jinja2": "'jinja2>=3.1'"}


def require_drawing() -> None:
    """Raises UnsupportedError, with the line that mends it, unless the page can be drawn."""
    missing = [name for name in _NEEDED if not _is_there(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        wanted = " ".join(_NEEDED[name] for name in missing)
        raise UnsupportedError(
            f"{' and '.join(missing)} {verb} not installed, which the report is drawn with: "
            f"pip install {wanted}"
        )


def _is_there(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
        return False
    return True
