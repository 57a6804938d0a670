"""What the commands share: tables for terminals and pipes, CSV, and safe text."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# In a pipe a line is a row, however long.
_UNLIMITED = 100_000
_GAP, _GAP_IN_TERMINAL = 2, 1


class Column(NamedTuple):
    """A column of a table; numbers stand at its right edge and are never broken."""

    name: str
    is_number: bool = False


def render(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """A table as text: plain in a pipe, no wider than the window in a terminal."""
    # Imported here: the other formats do without it, and start faster.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    in_terminal = sys.stdout.isatty()
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, _GAP_IN_TERMINAL if in_terminal else _GAP, 0, 0),
        header_style="bold",
    )
    for column in columns:
        table.add_column(
            Text(printable(column.name)),
            justify="right" if column.is_number else "left",
            no_wrap=column.is_number,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))

    text = io.StringIO()
    console = Console(
        file=text,
        width=window_width(),
        force_terminal=in_terminal,
        color_system="standard" if in_terminal else None,
        highlight=False,
    )
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
    if notes:
        console.print()
        for note in notes:
            console.print(Text(printable(note)))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def window_width() -> int:
    """Columns to fill: the window's, or all there are in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write(text: str) -> None:
    """Writes to standard output, as UTF-8 to the byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def printable(text: str) -> str:
    """The text with what could move a terminal's cursor written as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def name_of(path: str) -> str:
    """How messages call an input."""
    return "standard input" if path == "-" else path
