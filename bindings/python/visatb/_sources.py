"""Where a JSON or CSV document comes from: a file, standard input, or a dict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ._errors import ArgumentError, DataError, FileError
from ._paths import file_name

PathLike = str | os.PathLike[str]
Source = Mapping[str, Any] | PathLike


class Document(NamedTuple):
    """Bytes, and how messages call them: text without lone surrogates, whatever the file's name."""

    content: bytes
    name: str


def read(source: Source, name_of_dict: str) -> Document:
    """Reads a file, standard input where the source is "-", or a dict.

    Errors: ArgumentError (no path), FileError (the file cannot be read), DataError (a dict that is
    not JSON).
    """
    if isinstance(source, Mapping):
        return Document(_encode(source, name_of_dict), name_of_dict)
    if not isinstance(source, (str, os.PathLike)):
        raise ArgumentError(f"{source!r} is neither a path nor a dict")
    if source == "-":
        return Document(_standard_input(), "standard input")
    name = file_name("path", source)
    try:
        return Document(Path(name).read_bytes(), shown(name))
    except OSError as reason:
        raise FileError(f"{shown(name)}: {reason.strerror}") from reason


def shown(path: str) -> str:
    r"""How messages call a file: bytes of its name that are not UTF-8 become \xff."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _standard_input() -> bytes:
    # Python has none where the shell closed it.
    if sys.stdin is None:
        raise FileError("standard input: closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as reason:
        raise FileError(f"standard input: {reason.strerror}") from reason


def _encode(source: Mapping[str, Any], name: str) -> bytes:
    try:
        text = json.dumps(source, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as reason:
        raise DataError(f"{name}: {reason}") from None
    # A lone surrogate passes into the bytes, where the library finds that they are not UTF-8.
    return text.encode("utf-8", errors="surrogatepass")


def _plain(value: object) -> object:
    """What json does not know: NumPy's scalars and mappings that are no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"{value!r} is no JSON value")
