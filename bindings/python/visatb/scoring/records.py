"""Files of many records: JSON Lines, a JSON list, or an object with the list in it.

A record is named as a reader finds it: "line 3" of JSON Lines, "[2]" or "annotations[2]" of JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, NoReturn

from visatb._errors import ArgumentError, DataError
from visatb._sources import PathLike, read
from visatb._strict_json import once

RecordSource = PathLike | list[dict[str, Any]]
Fields = dict[str, Any]

# Where the files of VQA and COCO ("annotations") and TextVQA ("data") keep their list.
_LISTS = ("annotations", "data")


class Records(NamedTuple):
    """The records of one source.

    Attributes:
        name: how messages call the source.
        fields: what each record holds.
        lines: for JSON Lines the number of each record's line; else None.
        prefix: the key of the list, where an object holds it.
    """

    name: str
    fields: list[Fields]
    lines: list[int] | None = None
    prefix: str = ""

    def place(self, index: int) -> str:
        """Where a record stands."""
        return f"{self.prefix}[{index}]" if self.lines is None else f"line {self.lines[index]}"

    def fault(self, index: int, what: str) -> DataError:
        """The error for one record."""
        place = self.place(index)
        return DataError(f"{self.name}: {place}: {what}", place)


class _NotStrictError(ValueError):
    """What Python's JSON reader would let through."""


def read_records(source: RecordSource, role: str, *, constants: bool = False) -> Records:
    """Reads every record.

    Args:
        source: a path, "-" for standard input, or the records themselves.
        role: how messages call records that come from no file, as "answers".
        constants: let NaN and Infinity through, which Python's own writer makes of them.

    Errors: ArgumentError (no source), FileError (cannot be read), DataError (empty, not UTF-8, no
    JSON, a duplicate key, cut off, a record that is no object); it names the file and the line.
    """
    if isinstance(source, (str, os.PathLike)):
        content, name = read(source, role)
        records = _parse(content, name, _decoder(constants=constants))
    else:
        if not isinstance(source, list):
            raise ArgumentError(f"{role} = {source!r}; expected a path or a list of records")
        records = Records(role, source)
    if not records.fields:
        raise DataError(f"{records.name}: empty; expected {role}")
    for index, fields in enumerate(records.fields):
        if not isinstance(fields, dict):
            raise records.fault(index, "expected an object")
    return records


def parse_document(content: bytes, name: str, *, constants: bool = False) -> Any:
    """One JSON document, read as strictly as `read_records` reads.

    Errors: DataError.
    """
    return _document(_text(content, name), name, _decoder(constants=constants))


def _parse(content: bytes, name: str, decoder: json.JSONDecoder) -> Records:
    text = _text(content, name)
    start = text.lstrip()[:1]
    # One object over many lines begins with a brace alone; in JSON Lines a line is whole.
    if start == "[" or text.lstrip().split("\n", 1)[0].strip() == "{":
        return _listed(_document(text, name, decoder), name)
    records = _lines(text, name, decoder)
    if len(records.fields) == 1 and _list_key(records.fields[0]):
        return _listed(records.fields[0], name)
    return records


def _lines(text: str, name: str, decoder: json.JSONDecoder) -> Records:
    fields, numbers = [], []
    # Not splitlines: a JSON string may hold the other characters that end a line.
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields.append(decoder.decode(line))
        except (ValueError, RecursionError) as reason:
            cut = number == len(lines) and isinstance(reason, json.JSONDecodeError)
            what = "cut off: the file was not written to its end" if cut else _reason(reason)
            raise DataError(f"{name}: line {number}: {what}", f"line {number}") from None
        numbers.append(number)
    return Records(name, fields, numbers)


def _listed(document: Any, name: str) -> Records:
    if isinstance(document, list):
        return Records(name, document)
    key = _list_key(document)
    if key is None:
        one_of = " or ".join(f'"{key}"' for key in _LISTS)
        text = f"{name}: expected JSON Lines, a list, or an object with a list {one_of}"
        raise DataError(text)
    return Records(name, document[key], prefix=key)


def _list_key(document: Any) -> str | None:
    keys = [key for key in _LISTS if isinstance(document, dict) and key in document]
    return keys[0] if len(keys) == 1 and isinstance(document[keys[0]], list) else None


def _document(text: str, name: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as reason:
        cut = not text[reason.pos :].strip()
        what = "cut off: the file was not written to its end" if cut else _reason(reason)
        raise DataError(f"{name}: line {reason.lineno}: {what}") from None
    except (ValueError, RecursionError) as reason:
        raise DataError(f"{name}: {_reason(reason)}") from None


def _reason(reason: Exception) -> str:
    if isinstance(reason, json.JSONDecodeError):
        return f"no JSON: {reason.msg} at column {reason.colno}"
    if isinstance(reason, RecursionError):
        return "nested too deeply"
    return str(reason) if isinstance(reason, _NotStrictError) else "a number has too many digits"


def _text(content: bytes, name: str) -> str:
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as reason:
        line = content.count(b"\n", 0, reason.start) + 1
        raise DataError(f"{name}: line {line}: not UTF-8", f"line {line}") from None


def _decoder(*, constants: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=once(_twice), parse_constant=float if constants else _constant
    )


def _twice(key: str) -> NoReturn:
    raise _NotStrictError(f'key "{key}" stands there twice')


def _constant(text: str) -> float:
    raise _NotStrictError(f"{text} is no number that JSON knows")
