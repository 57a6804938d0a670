"""The figure of temperature: what weights the same measurement makes at every T."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from .bars import unit_labels
from .gather import Material
from .style import FAINT, HARMS, HELPS, INK, LINE, MUTED, WIDTH, canvas

LOWEST, HIGHEST = 0.125, 4.0
# More lines than this have no names but for the outermost.
_MOST_NAMED = 12
_OUTERMOST = 4
_POINTS = 81
_HEIGHT = 3.9
_FLOOR, _CEILING = 1 / 16, 16.0


def temperature_figure(material: Material) -> Figure:
    """A line a unit over T, both axes logarithmic; the range as a band, the chosen T marked."""
    weights = material.weights
    chosen = weights.temperature
    places = np.geomspace(min(LOWEST, chosen), max(HIGHEST, chosen), _POINTS)
    curves = np.array([weights.balance(float(place)).weights for place in places]).T
    figure, axes = canvas(_HEIGHT, WIDTH)
    low, high = material.range
    axes.axhspan(low, high, color=LINE, alpha=0.55, linewidth=0, zorder=0)
    axes.axhline(1, color=FAINT, linewidth=0.8, zorder=1)
    axes.axvline(chosen, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
    for unit, curve in zip(weights.units, curves, strict=True):
        colour = HELPS if unit.weight >= 1 else HARMS
        axes.plot(places, curve, color=colour, linewidth=1.3, alpha=_alpha(len(curves)), zorder=3)
        axes.plot([chosen], [unit.weight], "o", markersize=3.5, color=colour, zorder=4)
    _axes(axes, places, curves, material)
    _names(axes, curves, list(unit_labels(material).values()))
    axes.annotate(
        f"T = {chosen:g}",
        (chosen, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        color=INK,
    )
    return figure


def _alpha(lines: int) -> float:
    return 1.0 if lines <= _MOST_NAMED else 0.55


def _axes(
    axes: Axes, places: NDArray[np.float64], curves: NDArray[np.float64], material: Material
) -> None:
    low, high = material.range
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(places[0], places[-1])
    bottom = max(_FLOOR, min(0.9 * low, 0.93 * float(curves.min())))
    top = min(_CEILING, max(1.1 * high, 1.07 * float(curves.max())))
    axes.set_ylim(bottom, top)
    marks = [2.0**power for power in range(-4, 5)]
    axes.set_yticks([mark for mark in marks if bottom <= mark <= top])
    axes.set_xticks([mark for mark in marks if places[0] <= mark <= places[-1]])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda mark, _: f"{mark:g}")
        axis.set_minor_locator(NullLocator())
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.tick_params(axis="y", labelcolor=MUTED, labelsize=8.5, length=3)
    axes.spines[["left", "right"]].set_visible(False)
    axes.set_xlabel("temperature T: low lets differences count, high levels them")
    axes.set_ylabel("weight")


def _names(axes: Axes, curves: NDArray[np.float64], labels: list[str]) -> None:
    """Names at the left ends, moved apart where lines lie too close."""
    order = list(np.argsort(-curves[:, 0]))
    if len(order) > _MOST_NAMED:
        order = order[:_OUTERMOST] + order[-_OUTERMOST:]
    bottom, top = axes.get_ylim()
    span = math.log(top / bottom)
    heights = [math.log(np.clip(curves[i, 0], bottom, top) / bottom) / span for i in order]
    for index, height in zip(order, _apart(heights), strict=True):
        exact = math.log(np.clip(curves[index, 0], bottom, top) / bottom) / span
        colour = HELPS if curves[index, 0] >= 1 else HARMS
        axes.plot(
            [-0.022, -0.003],
            [height, exact],
            transform=axes.transAxes,
            color=FAINT,
            linewidth=0.7,
            clip_on=False,
        )
        axes.text(
            -0.028,
            height,
            labels[index],
            transform=axes.transAxes,
            ha="right",
            va="center_baseline",
            color=colour,
            fontsize=8.5,
        )


def _apart(heights: list[float], gap: float = 0.052) -> list[float]:
    """Falling heights, each at least a gap below the one before and none below the axis."""
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, placed[-1] - gap) if placed else height)
    lift = 0.0
    for index in reversed(range(len(placed))):
        lift = max(
            0.0, (placed[index + 1] + gap if index + 1 < len(placed) else 0.0) - placed[index]
        )
        placed[index] += lift
    return placed
