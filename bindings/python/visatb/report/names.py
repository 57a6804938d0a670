"""Names, which may hold anything, as the page and its figures can show them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from visatb._streams import printable

_ELLIPSIS = "…"
# The scripts that the figures' font has and that stand as they are typed, letter by letter.
_DRAWN = ("LATIN", "GREEK", "CYRILLIC")


def shown(name: str) -> str:
    """A name in a sentence: nothing invisible, and what is written from right to left by itself."""
    text = printable(name)
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" if _turns(text) else text


def brief(name: str, longest: int = 48) -> str:
    """The same where there is no room for a name of many words; the tables have all of it."""
    return shown(_cut(printable(name), longest))


def in_figures(names: Sequence[str], fallbacks: Sequence[str], longest: int = 24) -> list[str]:
    """A label for every name, no two of them the same.

    Args:
        names: different names.
        fallbacks: for each what it is called where the figures' font cannot write it, or another
            name looks the same when it is shortened: different, too.
        longest: how many characters a label may have; the middle of a longer name is left out.
    """
    labels = [_label(name, longest) for name in names]
    result: list[str] = []
    for label, fallback in zip(labels, fallbacks, strict=True):
        if label and labels.count(label) == 1:
            result.append(label)
        else:
            while fallback in labels:
                fallback += "*"  # noqa: PLW2901 - a task may be called "task 4"
            result.append(fallback)
    return result


def _label(name: str, longest: int) -> str:
    text = printable(name)
    if not all(_is_drawn(character) for character in text):
        return ""
    return _cut(text, longest)


def _cut(text: str, longest: int) -> str:
    """Without its middle if it is longer."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 3
    return text[: longest - 1 - end] + _ELLIPSIS + text[-end:]


def _is_drawn(character: str) -> bool:
    if character.isascii():
        return True
    is_small = ord(character) < 0x2C00 and unicodedata.combining(character) == 0
    return is_small and unicodedata.name(character, "").startswith(_DRAWN)


def _turns(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in text)
