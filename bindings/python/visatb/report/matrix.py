"""The figure of contribution: who helps whom, with the means of rows and columns beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from .bars import unit_labels
from .gather import Material
from .sentences import number
from .style import DIVERGING, FAINT, LINE, MUTED, WIDTH, canvas

# Above this the cells are too small for numbers, and the picture is made of pixels.
MOST_WITH_NUMBERS = 40
_MOST_WITH_NAMES = 100
_GAP = 0.35
_WIDEST = 10.4
_NARROW = 0.4
# Beyond 1, which is as good as a unit's own data, the colour stays and the number tells.
_STRONGEST, _WEAKEST = 1.0, 0.5
# Numbers are white or nearly black, whichever has more contrast; here both have 4.4 to 1.
_BLACK = "#0b0f14"
_AS_FAR_FROM_BOTH = 0.19


def contribution_figure(material: Material) -> Figure:
    """[from, to] in colours and numbers; outward means at the right, inward means below."""
    matrix = material.weights.contribution
    units = len(matrix)
    outward, inward = (
        np.array([unit.measures[m] for unit in material.weights.units])
        for m in ("outward", "inward")
    )
    labels = list(unit_labels(material).values())
    cell = _cell(units)
    # Cut to what is drawn when it is saved: the labels may take what they need.
    figure, axes = canvas(cell * (units + 2) + 1.0, max(WIDTH, cell * (units + 2) + 2.5))
    limit = _limit(matrix)
    colours = Normalize(-limit, limit)
    hidden = np.where(np.eye(units, dtype=bool), np.nan, matrix)
    _cells(axes, hidden, 0, 0, colours, cell)
    _cells(axes, outward[:, None], units + _GAP, 0, colours, cell)
    _cells(axes, inward[None, :], 0, units + _GAP, colours, cell)
    _diagonal(axes, units)
    _labels(axes, labels, cell)
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, units + _GAP + 1.02)
    axes.set_ylim(units + _GAP + 1.02, -0.02)
    axes.set_anchor("W")
    axes.spines[:].set_visible(False)
    return figure


def omits_zeros(units: int) -> bool:
    """Whether its numbers have no 0 before the point."""
    return _cell(units) < _NARROW and units <= MOST_WITH_NUMBERS


def _cell(units: int) -> float:
    """Inches."""
    return min(0.72 if units <= 6 else 0.5, (_WIDEST - 1.9) / (units + 1.4))


def _limit(matrix: NDArray[np.float64]) -> float:
    off_diagonal = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(np.clip(np.abs(off_diagonal).max(), _WEAKEST, _STRONGEST))


def _cells(
    axes: Axes, values: NDArray[np.float64], x: float, y: float, colours: Normalize, cell: float
) -> None:
    rows, columns = values.shape
    has_numbers = max(rows, columns) <= MOST_WITH_NUMBERS
    axes.pcolormesh(
        x + np.arange(columns + 1),
        y + np.arange(rows + 1),
        values,
        cmap=DIVERGING,
        norm=colours,
        edgecolors="white" if has_numbers else "none",
        linewidth=min(1.5, 3 * cell),
        rasterized=not has_numbers,
    )
    if not has_numbers:
        return
    size = min(9.0, 72 * cell * 0.36)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        is_dark = _luminance(to_rgb(DIVERGING(colours(value)))) < _AS_FAR_FROM_BOTH
        axes.text(
            x + column + 0.5,
            y + row + 0.5,
            _in_cell(value, cell),
            ha="center",
            va="center_baseline",
            fontsize=size,
            color="white" if is_dark else _BLACK,
        )


def _luminance(colour: Sequence[float]) -> float:
    """That of WCAG 2, from sRGB."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _in_cell(value: float, cell: float) -> str:
    """Two decimals, and in small cells no 0 before the point."""
    text = number(value)
    is_small = cell < _NARROW and abs(value) < 0.995
    return text.replace("0.", ".", 1) if is_small else text


def _diagonal(axes: Axes, units: int) -> None:
    for place in range(units):
        axes.add_patch(
            Rectangle((place, place), 1, 1, facecolor=LINE, edgecolor="white", linewidth=0.5)
        )


def _labels(axes: Axes, labels: list[str], cell: float) -> None:
    units = len(labels)
    mean = units + _GAP + 0.5
    size = min(9.0, 72 * cell * 0.62)
    if units > _MOST_WITH_NAMES:
        axes.set_xticks([mean], ["outward"])
        axes.set_yticks([mean], ["inward"])
    else:
        middles = [place + 0.5 for place in range(units)]
        axes.set_xticks([*middles, mean], [*labels, "outward"], fontsize=size)
        axes.set_yticks([*middles, mean], [*labels, "inward"], fontsize=size)
    axes.tick_params(axis="both", length=0, pad=4)
    axes.xaxis.tick_top()
    widest = max(len(label) for label in [*labels, "outward"])
    if widest * size * 0.6 > 72 * cell:
        axes.set_xticks(
            axes.get_xticks(),
            [label.get_text() for label in axes.get_xticklabels()],
            rotation=90 if units > 12 else 40,
            ha="center" if units > 12 else "left",
            rotation_mode="default" if units > 12 else "anchor",
            fontsize=size,
        )
    for label in (axes.get_xticklabels()[-1], axes.get_yticklabels()[-1]):
        label.set_color(MUTED)
        label.set_fontstyle("italic")
    axes.set_xlabel("to", loc="left", color=MUTED)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("from", loc="top", color=MUTED)
    axes.tick_params(axis="both", color=FAINT)
