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

_PLAIN = re.compile(r'[^.\[\]":\\\x00-\x20\x7f]+')


def spell(path: Path) -> str:
    """The path as messages have it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


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
