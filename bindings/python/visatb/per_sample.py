"""Scores by sample: a file of JSON objects, one a line (docs/formats.md).

    {"run": "with_mini:vqa", "task": "vqa", "metric": "em", "values": {"q1": 100, "q2": 0}}

Each line has one metric of one task in one run; the score is the mean of its values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ._arguments import file_name, name_bytes
from ._errors import ArgumentError, DataError, FileError
from ._numbers import LARGEST
from ._sources import PathLike, shown
from ._strict_json import once
from ._write import write_whole

_KEYS = ("run", "task", "metric", "values")


class SampleValues(NamedTuple):
    """One line.

    Attributes:
        run: "mini", "base", or with its unit: "with_mini:vqa", "only:vqa", "mini_only:vqa".
        task: its name.
        metric: its name.
        values: {sample: its score}, on the scale of the metric.
    """

    run: str
    task: str
    metric: str
    values: Mapping[str, float]


def write_per_sample(path: PathLike, lines: Iterable[SampleValues]) -> None:
    """Writes such a file; it appears whole or not at all.

    Args:
        path: where to.
        lines: one for each run, task and metric, in any order; values are finite, below 1e150.

    Errors: ArgumentError (a line that `read_per_sample` would refuse, or a second one for the same
    run, task and metric), FileError (it cannot be written).
    """
    write_whole(path, per_sample_bytes(lines))


def per_sample_bytes(lines: Iterable[SampleValues]) -> bytes:
    """The content of such a file.

    Errors: ArgumentError, as `write_per_sample`.
    """
    text = []
    known: set[tuple[str, str, str]] = set()
    for number, line in enumerate(lines, 1):
        for key, name in zip(_KEYS[:3], line[:3], strict=True):
            name_bytes(f"lines[{number - 1}].{key}", name)
        if line[:3] in known:
            raise ArgumentError(f"lines[{number - 1}]: a second one for {place_of(*line[:3])}")
        known.add(line[:3])
        values = {_sample(number, key): _number(number, key, x) for key, x in line.values.items()}
        if not values:
            raise ArgumentError(f"lines[{number - 1}].values: empty; expected {{sample: number}}")
        document = dict(zip(_KEYS, (*line[:3], values), strict=True))
        text.append(json.dumps(document, ensure_ascii=False) + "\n")
    return "".join(text).encode()


def read_per_sample(path: PathLike) -> Iterator[tuple[int, SampleValues]]:
    """The lines of such a file with their numbers, counted from 1, as they are read.

    Errors: ArgumentError (no path), FileError (it cannot be read), DataError (its message names the
    line and what is wrong). That names, samples and scores fit a score file is not checked here.
    """
    return lines_of(path, lambda _: None)


def lines_of(path: PathLike, note: Callable[[bytes], object]) -> Iterator[tuple[int, SampleValues]]:
    """As `read_per_sample`; the bytes of each line are noted, for a pipe is read only once."""
    name = file_name("path", path)
    known: dict[tuple[str, str, str], int] = {}
    try:
        with Path(name).open("rb") as file:
            for number, content in enumerate(file, 1):
                note(content)
                line = _Line(shown(name), number)
                values = line.parse(content)
                if values[:3] in known:
                    line.fail(f"{place_of(*values[:3])}: stands in line {known[values[:3]]} too")
                known[values[:3]] = number
                yield number, values
    except OSError as reason:
        raise FileError(f"{shown(name)}: {reason.strerror}") from reason
    if not known:
        raise DataError(f"{shown(name)}: empty; expected a JSON object a line")


def place_of(run: str, task: str, metric: str) -> str:
    """How messages call what a line is about."""
    return f"run {run}, task {task}, metric {metric}"


class _Line:
    """A line of the file, which knows what messages call it."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def fail(self, what: str) -> NoReturn:
        raise DataError(f"{self.name}: line {self.number}: {what}", f"line {self.number}")

    def parse(self, content: bytes) -> SampleValues:
        document = self._object(content)
        for key in document:
            if key not in _KEYS:
                self.fail(f"unknown key {_quoted(key)}; expected run, task, metric, values")
        for key in _KEYS[:3]:
            if not isinstance(document.get(key), str):
                self.fail(f"{key}: expected a string" if key in document else f"{key}: missing")
        if not isinstance(document.get("values"), dict):
            self.fail("values: expected an object" if "values" in document else "values: missing")
        run, task, metric, values = (document[key] for key in _KEYS)
        return SampleValues(run, task, metric, self._values(values))

    def _object(self, content: bytes) -> dict[str, Any]:
        encoding = "utf-8-sig" if self.number == 1 else "utf-8"
        try:
            text = content.decode(encoding)
            document = json.loads(
                text, object_pairs_hook=once(self._twice), parse_constant=self._constant
            )
        except UnicodeDecodeError:
            self.fail("not UTF-8")
        except RecursionError:
            self.fail("nested too deeply")
        except ValueError as reason:
            self._not_json(content, reason)
        if not isinstance(document, dict):
            self.fail(f"expected an object, not {_kind(document)}")
        return document

    def _not_json(self, content: bytes, reason: ValueError) -> NoReturn:
        if not content.strip():
            self.fail("blank; expected a JSON object")
        if not content.endswith(b"\n"):
            self.fail("cut off; expected a whole JSON object")
        if isinstance(reason, json.JSONDecodeError):
            self.fail(f"column {reason.colno}: not JSON: {reason.msg}")
        self.fail("a number has too many digits")  # Python stops at some thousands

    def _twice(self, key: str) -> NoReturn:
        self.fail(f"{_quoted(key)} stands there twice")

    def _constant(self, text: str) -> NoReturn:
        self.fail(f"{text}; expected a finite number")

    def _values(self, values: dict[str, Any]) -> dict[str, float]:
        if not values:
            self.fail("values: empty; expected {sample: number}")
        for sample, value in values.items():
            if type(value) is not float and type(value) is not int:
                self.fail(f"values: {_quoted(sample)}: expected a number, not {_kind(value)}")
            if not -LARGEST < value < LARGEST:
                self.fail(f"values: {_quoted(sample)}: expected a number below 1e150")
        return values


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _sample(number: int, sample: object) -> str:
    name_bytes(f"lines[{number - 1}].values: a sample", sample)
    return str(sample)


def _number(number: int, sample: object, value: object) -> float:
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if isinstance(value, (str, bytes, bool)) or not -LARGEST < result < LARGEST:
        raise ArgumentError(
            f"lines[{number - 1}].values[{sample!r}] = {value!r}; expected a finite number below "
            "1e150"
        )
    return result
