"""What the commands share: tables for terminals and pipes, CSV, and names of files."""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from visatb._sources import shown
from visatb._streams import printable

# In a pipe a line is a row, however long.
_UNLIMITED = 100_000
_GAP, _GAP_IN_TERMINAL = 2, 1

# A name is folded in a window that is too narrow, but not below this.
NARROWEST_NAME = 40


class Column(NamedTuple):
    """A column of a table; numbers stand at its right edge and are never broken.

    Attributes:
        name: its header.
        is_number: whether it holds numbers.
        stays: a table too wide for the window leaves out the columns that stay least.
    """

    name: str
    is_number: bool = False
    stays: int = 3


ALWAYS = Column._field_defaults["stays"]


def render(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """A table as text: plain in a pipe, no wider than the window in a terminal if it can be."""
    # Imported here: the other formats do without it, and start faster.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    in_terminal = sys.stdout.isatty()
    gap, window = _GAP_IN_TERMINAL if in_terminal else _GAP, window_width()
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells)
    kept = _that_fit(columns, widths, gap, window)
    shrunk = _shrunk(columns, {index: widths[index] for index in kept}, gap, window)

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for index in kept:
        table.add_column(
            Text(printable(columns[index].name)),
            justify="right" if columns[index].is_number else "left",
            width=shrunk[index],
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(row[index]) for index in kept))

    text = io.StringIO()
    console = Console(
        file=text,
        width=max(window, sum(shrunk.values()) + gap * len(kept)),
        color_system="standard" if in_terminal else None,
        highlight=False,
    )
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
    dropped = [column.name for index, column in enumerate(columns) if index not in kept]
    below = [*notes, *([f"no room for {', '.join(dropped)}"] if dropped else [])]
    if below:
        console.print()
        for note in below:
            console.print(Text(printable(note)))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """What every column needs in a terminal, where some characters are two wide."""
    from rich.cells import cell_len

    return [
        max(cell_len(cell) for cell in (printable(column.name), *(row[index] for row in rows)))
        for index, column in enumerate(columns)
    ]


def _that_fit(columns: Sequence[Column], widths: Sequence[int], gap: int, window: int) -> list[int]:
    """The columns that are shown, by their numbers."""
    kept = list(range(len(columns)))
    for least in range(ALWAYS):
        if _total([widths[index] for index in kept], gap) <= window:
            break
        kept = [index for index in kept if columns[index].stays > least]
    return kept


def _shrunk(
    columns: Sequence[Column], widths: dict[int, int], gap: int, window: int
) -> dict[int, int]:
    """The widths with long names folded where that is needed."""
    over = _total(list(widths.values()), gap) - window
    result = dict(widths)
    for index, width in widths.items():
        if over > 0 and not columns[index].is_number:
            result[index] = max(min(width, NARROWEST_NAME), width - over)
            over -= width - result[index]
    return result


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def window_width() -> int:
    """Columns to fill: the window's, or all there are in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def name_of(path: str) -> str:
    """How messages call an input."""
    return "standard input" if path == "-" else shown(path)


def file_only(text: str) -> str:
    """An argument that names a file, where "-" for a standard stream makes no sense."""
    if text == "-":
        raise argparse.ArgumentTypeError("-: expected a file")
    return text
