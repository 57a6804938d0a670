"""A spreadsheet's CSV export as rows of named cells: encoding, separator, header, row numbers.

Rows are numbered as the spreadsheet shows them: the first line is row 1, blank ones count, and the
line sep=; that Excel understands does not.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from ._errors import DataError

REQUIRED = ("run", "task", "metric", "score")
OPTIONAL = ("higher_is_better", "group", "fixed_weight")
SEPARATORS = (",", ";", "\t")

_NAMED_SEPARATOR = re.compile(
    rb'(?:\xef\xbb\xbf)?"?sep=([\t,;:|^~])"?[,;\t]*(?:\r?\n|\r|$)', re.IGNORECASE
)


class Place(NamedTuple):
    """A cell, by the row's number and the column's name."""

    row: int
    column: str

    def __str__(self) -> str:
        """As messages name it."""
        return f"row {self.row}, column {self.column}"


class Row(NamedTuple):
    """A row that is not blank; a column that it does not reach is ""."""

    number: int
    cells: dict[str, str]

    def place(self, column: str) -> Place:
        """Where that cell is."""
        return Place(self.number, column)


def fault(name: str, place: Place, what: str) -> DataError:
    """The error for one cell of the file called `name`."""
    return DataError(f"{name}: {place}: {what}", str(place))


def read_rows(content: bytes, name: str) -> list[Row]:
    """The rows below the header.

    Errors: DataError (not UTF-8, broken quotes, columns that are unknown, missing or there twice).
    """
    named = _NAMED_SEPARATOR.match(content)
    text = _decode(content[named.end() :] if named else content, name)
    lines = list(_lines(text, named[1].decode() if named else _separator(text), name))
    if not lines:
        raise DataError(f"{name}: empty; expected a header row with {', '.join(REQUIRED)}")
    header_number, header = lines[0]
    columns = [cell.lower() for cell in header]
    _check_columns(columns, header_number, name)
    return [_named(number, cells, columns, name) for number, cells in lines[1:]]


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        newlines = content.count(b"\n", 0, reason.start)
        where = f"row {newlines + 1}"
        text = f'{name}: {where}: not UTF-8; save the sheet as "CSV UTF-8"'
        raise DataError(text, where) from None


def _lines(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the stripped cells of every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield number, cells
    except csv.Error as reason:
        where = f"row {number + 1}"
        raise DataError(f"{name}: {where}: {reason}", where) from None


def _separator(text: str) -> str:
    """The one that finds the most known columns in the header."""
    header = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    known = {*REQUIRED, *OPTIONAL}

    def found(separator: str) -> int:
        return sum(cell.strip(' "').lower() in known for cell in header.split(separator))

    return max(SEPARATORS, key=found)


def _check_columns(columns: list[str], row: int, name: str) -> None:
    known = (*REQUIRED, *OPTIONAL)
    for index, column in enumerate(columns):
        # A column without a name is the trailing separator of many exports.
        if column and column not in known:
            text = f"unknown; expected {', '.join(REQUIRED)} and, if need be, {', '.join(OPTIONAL)}"
            raise fault(name, Place(row, column), text)
        if column and column in columns[:index]:
            raise fault(name, Place(row, column), "there are two columns of this name")
    for column in REQUIRED:
        if column not in columns:
            raise fault(name, Place(row, column), "missing")


def _named(number: int, cells: list[str], columns: list[str], name: str) -> Row:
    for index, cell in enumerate(cells):
        if cell and (index >= len(columns) or not columns[index]):
            where = f"row {number}"
            text = f'{name}: {where}: "{cell}" stands in no column; is there a decimal comma?'
            raise DataError(text, where)
    padded = cells + [""] * (len(columns) - len(cells))
    named = dict.fromkeys((*REQUIRED, *OPTIONAL), "")
    named.update((column, cell) for column, cell in zip(columns, padded, strict=False) if column)
    return Row(number, named)
