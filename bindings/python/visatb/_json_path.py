"""Paths into a JSON document, as the library spells them in messages.

Keys are joined by "."; a key that would be misread so stands in brackets, as a JSON string; an item
of a list stands there by its number: tasks[2].metrics[0].name, runs.with_mini["visual qa"].a.em
"""

from __future__ import annotations

import json
import re

Path = tuple[str | int, ...]

_STEP = re.compile(
    r'\[(?P<item>\d+)\]|\[(?P<string>"(?:[^"\\]|\\.)*")\]|\.?(?P<key>[^.\[\]":\\\x00-\x20\x7f]+)'
)


def parse(text: str) -> Path | None:
    """The path that was spelled so; None for what is no whole path, as one that was cut."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            return None
        if step["item"] is not None:
            path.append(int(step["item"]))
        elif step["string"] is not None:
            path.append(str(json.loads(step["string"], strict=False)))
        else:
            path.append(step["key"])
        position = step.end()
    return tuple(path)


def spell(path: Path) -> str:
    """The text that `parse` makes this path of."""
    steps = []
    for key in path:
        if isinstance(key, int):
            steps.append(f"[{key}]")
        elif re.fullmatch(r'[^.\[\]":\\\x00-\x20\x7f]+', key):
            steps.append(f".{key}" if steps else key)
        else:
            steps.append(f"[{json.dumps(key, ensure_ascii=False)}]")
    return "".join(steps)
