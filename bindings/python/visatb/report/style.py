"""How the figures look, and how they become files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Told apart without colour vision, and by lightness alone.
INK, MUTED, FAINT, LINE = "#1f2933", "#5f6b7a", "#c3cad3", "#e4e8ed"
PART_COLOURS = {"out": "#2c5f93", "in": "#9cc3e0", "difficulty": "#e2a144"}
HELPS, HARMS = "#2c5f93", "#b4532a"
DIVERGING = LinearSegmentedColormap.from_list(
    "visatb", ["#8a3a17", HARMS, "#e3b08f", "#f7f6f4", "#a9c8e2", HELPS, "#17406b"]
)
WIDTH = 8.8  # inches; 96 CSS pixels each
_FONT = 9.0
_PNG_DPI = 200

_SETTINGS = {
    "font.family": ["DejaVu Sans"],  # which matplotlib brings along
    "font.size": _FONT,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a "$"
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.labelsize": _FONT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": _FONT,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.06,
    # Outlines instead of text: the same picture whatever fonts a reader has.
    "svg.fonttype": "path",
    # Ids that do not change from run to run.
    "svg.hashsalt": "visatb",
}


class Drawing(NamedTuple):
    """A figure as it is shown and saved.

    Attributes:
        name: of its files.
        svg: the picture.
        png: the same in pixels; empty where nobody asked for it.
        width: in CSS pixels.
        height: in CSS pixels.
    """

    name: str
    svg: bytes
    png: bytes
    width: int
    height: int


@contextmanager
def applied() -> Iterator[None]:
    """Our settings, whatever the user's own matplotlibrc says, and the user's again afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def render(name: str, figure: Figure, *, png: bool) -> Drawing:
    """The figure as SVG, and as PNG if that is asked for."""
    svg = _saved(figure, "svg", {"Date": None, "Creator": None})
    pixels = _saved(figure, "png", {"Software": None}) if png else b""
    view = re.search(rb'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    width, height = (float(points) / 0.75 for points in view.groups()) if view else (0.0, 0.0)
    return Drawing(name, svg, pixels, round(width), round(height))


def _saved(figure: Figure, form: str, metadata: dict[str, None]) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=form, dpi=_PNG_DPI, metadata=metadata)
    return file.getvalue()


def row_height(rows: int) -> float:
    """Inches for a row of bars, fewer where there are many rows."""
    return 0.36 if rows <= 12 else 0.25 if rows <= 40 else 0.17
