"""A table of a TOML file, read key by key: what is of a wrong kind or unknown is refused."""

from __future__ import annotations

import difflib
import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from .._errors import DataError, cut

T = TypeVar("T")

NAMES = (
    "a name is not empty, has no spaces around it and no control characters in it, and does not "
    "begin with a dash"
)

# Above it a double, which score files are read into, leaves whole numbers out.
_LARGEST = 2**53

# Control characters, separators of lines and of paragraphs, lone surrogates.
_UNFIT = {"Cc", "Zl", "Zp", "Cs"}

_KINDS = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "a table",
}


class Section:
    """One table and where it stands; every key is taken once, and `finish` refuses the rest."""

    def __init__(self, content: Any, file: str, path: str = "") -> None:
        self.file = file
        self.path = path
        if not isinstance(content, dict):
            raise self.fault("", f"{brief(content)}; expected a table")
        self._left: dict[str, Any] = dict(content)
        # Every key that was asked for, which makes it known; a dict for its order.
        self._known: dict[str, None] = {}

    def fault(self, key: str, what: str, *, item: int | None = None) -> DataError:
        """The error that a key's value, or an item of it, is wrong."""
        place = self.place(key) + ("" if item is None else f"[{item}]")
        return DataError(
            f"{self.file}: {place}: {what}" if place else f"{self.file}: {what}", place
        )

    def place(self, key: str) -> str:
        """How messages call a key; one that TOML would quote is quoted."""
        if not key:
            return self.path
        plain = key.replace("_", "").replace("-", "")
        shown = key if plain.isascii() and plain.isalnum() else json.dumps(key, ensure_ascii=False)
        return f"{self.path}.{shown}" if self.path else shown

    def is_text(self, key: str) -> bool:
        """Whether the key is there and a string."""
        return isinstance(self._left.get(key), str)

    def names(self) -> list[str]:
        """The keys that are not taken yet."""
        return list(self._left)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T | None:
        """A value of this kind; the default where the key is not there."""
        if not self._knows(key):
            return default
        value = self._left.pop(key)
        # To Python a boolean is a whole number.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fault(key, f"{brief(value)}; expected {_KINDS[kind]}")
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """A string that is not empty, and that files and commands can have."""
        value = self.take(key, str, default)
        if value is not None and not value.strip():
            raise self.fault(key, "empty")
        if value is not None and "\0" in value:
            raise self.fault(key, "has a NUL in it")
        return value

    def name(self, key: str) -> str | None:
        """The name of something."""
        value = self.text(key)
        if value is not None and not is_name(value):
            raise self.fault(key, f"{json.dumps(value, ensure_ascii=False)}; {NAMES}")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of these strings."""
        value = self.text(key, default) or default
        if value not in choices:
            raise self.fault(key, f'"{value}"; expected {either(choices)}')
        return value

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int | None:
        """A whole number of at least so much, and at most 2^53."""
        value = self.take(key, int, default)
        if value is not None and value < least:
            raise self.fault(key, f"{brief(value)}; expected a whole number of {least} or more")
        if value is not None and value > _LARGEST:
            raise self.fault(key, f"{brief(value)}; expected a whole number of at most 2^53")
        return value

    def number(self, key: str, default: float | None = None) -> float | None:
        """A finite number."""
        if not self._knows(key):
            return default
        value = self._left.pop(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fault(key, f"{brief(value)}; expected a number")
        return self.finite(key, value)

    def finite(self, key: str, value: float, *, item: int | None = None) -> float:
        """A number of the file as a double."""
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.fault(key, f"{brief(value)}; expected a finite number", item=item)
        return number

    def rate(self, key: str, default: Fraction) -> Fraction:
        """A share above 0 and up to 1, as 0.25 or "1/4"."""
        if not self._knows(key):
            return default
        rate = as_fraction(self._left.pop(key))
        if rate is None or not 0 < rate <= 1:
            raise self.fault(key, 'expected a share above 0 and up to 1, as 0.25 or "1/4"')
        return rate

    def part(self, key: str) -> Fraction | int:
        """A share below 1 or a whole number of samples; 0 where the key is not there."""
        value = self._left.pop(key) if self._knows(key) else 0
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
            return value
        rate = as_fraction(value)
        if rate is None or not 0 <= rate < 1:
            raise self.fault(key, "expected a share below 1, as 0.1, or a whole number of samples")
        return rate

    def texts(self, key: str) -> tuple[str, ...]:
        """A string or a list of strings, none of them empty; none where the key is not there."""
        if self.is_text(key):
            return (str(self.text(key)),)
        values = self.take(key, list, []) or []
        for index, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                raise self.fault(key, f"{brief(value)}; expected a string", item=index)
            if "\0" in value:
                raise self.fault(key, "has a NUL in it", item=index)
        return tuple(values)

    def section(self, key: str) -> Section:
        """The table of this name; an empty one where there is none."""
        content = self._left.pop(key) if self._knows(key) else {}
        return Section(content, self.file, self.place(key))

    def finish(self) -> None:
        """Refuses what nobody took, and says what there is."""
        if self._left:
            key = next(iter(self._left))
            closest = difflib.get_close_matches(key, self._known, n=1)
            meant = f"; did you mean {closest[0]}?" if closest else ";"
            raise self.fault(key, f"unknown key{meant} known: {', '.join(self._known)}")

    def _knows(self, key: str) -> bool:
        """Whether the key is there and not taken yet; from now on it is a known one."""
        self._known[key] = None
        return key in self._left


def as_fraction(value: Any) -> Fraction | None:
    """What a share says: 0.03125, "1/32"; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and "e" in value.lower():
        return None  # a power that no memory holds
    try:
        exact = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        return None
    # 0.3333333333333333 means a third; what is too small for that stays what it is.
    return exact.limit_denominator(10**9) or exact


def is_name(text: str) -> bool:
    """Whether a text may name something that commands, files and messages name."""
    is_trimmed = bool(text) and text == text.strip()
    return is_trimmed and is_one_line(text) and not text.startswith("-")


def is_one_line(text: str) -> bool:
    """Whether a text stands in one line of a file: no control characters, no half characters.

    Spaces of any width, joiners and soft hyphens are none.
    """
    return text.isprintable() or all(unicodedata.category(char) not in _UNFIT for char in text)


def brief(value: Any) -> str:
    """A value as messages show it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of thousands of digits"
    return cut(text, 60)


def either(choices: Iterable[str]) -> str:
    """Names as a message offers them: "a", "b" or "c"."""
    *first, last = [f'"{choice}"' for choice in choices]
    return f"{', '.join(first)} or {last}" if first else last
