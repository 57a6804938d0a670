"""Errors of the C library, in the words of who called `vitw_loss` or `vitw_linear_loss`.

The library sees one row after the other; its caller has sequences, ids by sequence, and labels that
are one ahead of the rows where they are shifted.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from .rows import shape_of

_PREFIX = re.compile(
    r"^visatb_(vitw_(linear_|slice_)?(loss(_plan)?|statistics)|context_create): \*?"
)
_VALUE_AT_ROW = re.compile(r"^(labels|task_ids)\[(\d+)\] = -?\d+")
_ROW = re.compile(r"\brow (\d+)\b")
# What leaves a number to the library is 0 in C, and None here; and C has its own names.
_WORDS = (
    (re.compile(r"^chunk_bytes = 0;"), "chunk_bytes = None;"),
    (re.compile(r"^(chunk_bytes .*), or 0$"), r"\1, or None"),
    (re.compile(r"^(max_valid_rows .*)expected 0 or"), r"\1expected None or"),
    (re.compile(r"^dtype = 4 .*"), "float64 on a GPU; expected float32, bfloat16 or float16"),
    (
        re.compile(r"^device = VISATB_DEVICE_CUDA; expected VISATB_DEVICE_CPU, "),
        "tensors on a GPU; expected them on the CPU, ",
    ),
    (
        re.compile(r"(this library was built without CUDA \(.*\))$"),
        r"\1; python -m visatb says how to mend it",
    ),
)


class Given(NamedTuple):
    """Labels and task ids as they were given, and whether rows predict the next label."""

    labels: Tensor
    task_ids: Tensor
    shift: bool


def place(given: Given, name: str, row: int) -> str:
    """The token of a row, as "labels[0, 4]"."""
    return f"{name}[{', '.join(map(str, _index(given, name, row)))}]"


def place_and_value(given: Given, name: str, row: int) -> str:
    """As `place`, with what stands there: "labels[0, 4] = 40"."""
    value = getattr(given, name)[_index(given, name, row)].item()
    return f"{place(given, name, row)} = {value}"


def in_words_of_the_caller(
    error: ArgumentError | UnsupportedError, given: Given
) -> ArgumentError | UnsupportedError:
    """The same error with the caller's indices and values instead of those of rows."""
    message = in_words_of_python(error)
    try:
        translated = _translate(message, given)
    except RuntimeError:  # A tensor whose values cannot be looked at, such as one inside of vmap.
        translated = message
    return type(error)(translated)


def in_words_of_python(error: Exception) -> str:
    """What the error says, without the C function that said it, and without names of C."""
    message = _PREFIX.sub("", str(error))
    for in_c, here in _WORDS:
        message = in_c.sub(here, message)
    return message


def _translate(message: str, given: Given) -> str:
    def value_at_row(match: re.Match[str]) -> str:
        return place_and_value(given, match[1], int(match[2]))

    def row(match: re.Match[str]) -> str:
        return place(given, "labels", int(match[1]))

    return _ROW.sub(row, _VALUE_AT_ROW.sub(value_at_row, message))


def _index(given: Given, name: str, row: int) -> tuple[int, ...]:
    tensor: Tensor = getattr(given, name)
    rows = given.labels.numel()
    # The last row of a sequence predicts nothing, so the next label is one of the same sequence.
    token = row + 1 if given.shift else row
    if tensor.numel() != rows:  # Ids by sequence.
        return (token // (rows // tensor.numel()),)
    shape = shape_of(tensor)
    return (token,) if len(shape) == 1 else divmod(token, shape[1])
