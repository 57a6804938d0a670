"""JSON files of known kinds, and what stands at a path in them; anything else is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from visatb._errors import DataError
from visatb._json_path import Path, spell
from visatb._numbers import finite
from visatb._sources import Document
from visatb._strict_json import once

_KINDS = {
    "visatb_weights": "weights",
    "visatb_scores": "scores",
    "visatb_results": "results",
    "visatb_plan": "a plan",
    "visatb_evaluation": "an evaluation",
    "visatb_run_scores": "the scores of one run",
}
_EXPECTED = {
    "visatb_weights": "weights, as `visatb weights -o weights.json` writes them",
    "visatb_results": "results, as `visatb evaluate` reads them",
    "visatb_plan": "a plan, as `visatb plan` writes it",
}
_VERSION = 1


def parse(document: Document, kind: str) -> dict[str, Any]:
    """A JSON file as a dict.

    Args:
        document: its bytes and name.
        kind: the key that a file of this kind has, as "visatb_weights".

    Errors: DataError (no JSON, another kind of file, another version).
    """
    name = document.name
    try:
        found = json.loads(
            document.content.decode("utf-8"),
            object_pairs_hook=once(lambda key: _refuse_second(key, name)),
            parse_constant=lambda constant: _refuse_constant(constant, name),
        )
    except UnicodeDecodeError as reason:
        raise DataError(f"{name}: byte {reason.start} is not UTF-8") from None
    except json.JSONDecodeError as reason:
        place = f"line {reason.lineno}, column {reason.colno}"
        raise DataError(f"{name}: not JSON: {place}: {reason.msg}") from None
    except RecursionError:
        raise DataError(f"{name}: nested too deeply") from None
    except ValueError:  # a number of thousands of digits
        raise DataError(f"{name}: not JSON: a number of too many digits") from None
    if not isinstance(found, dict) or kind not in found:
        _refuse_kind(found, kind, name)
    if found[kind] is True or found[kind] != _VERSION:
        raise DataError(f"{name}: {kind}: {_told(found[kind])}; expected {_VERSION}", kind)
    return found


class Reader:
    """What stands in a document, asked for by its path; a wrong value is named with its path."""

    def __init__(self, name: str, document: dict[str, Any]) -> None:
        self.name = name
        self.document = document

    def get(self, *path: str | int) -> Any:
        """The value at a path."""
        value: Any = self.document
        for length, key in enumerate(path, start=1):
            if not _holds(value, key):
                self.refuse(path[:length], "missing")
            value = value[key]
        return value

    def has(self, key: str) -> bool:
        """Whether the document has this key at its top."""
        return key in self.document

    def number(self, *path: str | int) -> float:
        """A finite number."""
        value = self.get(*path)
        number = finite(value)
        if number is None:
            self.refuse(path, f"{_told(value)}; expected a number")
        return number

    def whole(self, *path: str | int, least: int = 0) -> int:
        """An integer, not below the least."""
        value = self.get(*path)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.refuse(path, f"{_told(value)}; expected a whole number of {least} or more")
        return value

    def text(self, *path: str | int) -> str:
        """A string."""
        value = self.get(*path)
        if not isinstance(value, str):
            self.refuse(path, f"{_told(value)}; expected text")
        return value

    def items(self, *path: str | int) -> list[Any]:
        """A list."""
        value = self.get(*path)
        if not isinstance(value, list):
            self.refuse(path, f"{_told(value)}; expected a list")
        return value

    def keys(self, *path: str | int) -> list[str]:
        """The keys of an object."""
        value = self.get(*path)
        if not isinstance(value, dict):
            self.refuse(path, f"{_told(value)}; expected an object")
        return list(value)

    def numbers(self, names: Iterable[str], *path: str | int) -> dict[str, float]:
        """A finite number for each of the names."""
        self.keys(*path)
        return {name: self.number(*path, name) for name in names}

    def warnings(self, *path: str) -> tuple[Mapping[str, str], ...]:
        """The warnings of an object: of the document, or of what stands at a path."""
        place = (*path, "warnings")
        return tuple(
            {key: self.text(*place, index, key) for key in ("code", "path", "message")}
            for index in range(len(self.items(*place)))
        )

    def refuse(self, path: Path, problem: str) -> NoReturn:
        """Raises DataError for what stands at a path."""
        place = spell(path)
        raise DataError(f"{self.name}: {place}: {problem}", place)


def _holds(value: object, key: str | int) -> bool:
    if isinstance(key, int):
        return isinstance(value, list) and key < len(value)
    return isinstance(value, dict) and key in value


def _refuse_kind(found: object, kind: str, name: str) -> NoReturn:
    other = next((key for key in _KINDS if isinstance(found, dict) and key in found), None)
    what = _KINDS[other] if other else f'no "{kind}" in it'
    raise DataError(f"{name}: {what}; expected {_EXPECTED[kind]}")


def _refuse_second(key: str, name: str) -> NoReturn:
    raise DataError(f"{name}: the key {_told(key)} stands twice in one object")


def _refuse_constant(constant: str, name: str) -> NoReturn:
    raise DataError(f"{name}: {constant} is no number")


def _told(value: object, longest: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[:longest]}..."
