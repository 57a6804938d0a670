"""The figures of bars: weights by what they are made of, and difficulty."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .gather import Material
from .names import in_figures
from .sentences import number
from .style import FAINT, INK, LINE, MUTED, PART_COLOURS, canvas, row_height
from .weights_file import PARTS

_CALLED = {"out": "outward", "in": "inward", "difficulty": "difficulty"}
_THICK = 0.62
_WHISKER = 0.16


def unit_labels(material: Material) -> dict[str, str]:
    """A label for every unit, a group with the number of its tasks."""
    units = material.weights.units
    fallbacks = [
        f"{'group of ' if unit.is_group else ''}{_by_id(material, unit.tasks[0])}" for unit in units
    ]
    labels = in_figures([unit.name for unit in units], fallbacks)
    return {
        unit.name: f"{label} ({len(unit.tasks)} tasks)" if len(unit.tasks) > 1 else label
        for unit, label in zip(units, labels, strict=True)
    }


def task_labels(material: Material, tasks: Sequence[str]) -> list[str]:
    """A label for each of these tasks, of which some may have no weight."""
    fallbacks = [
        _by_id(material, task) if task in material.weights.tasks else f"other task {number}"
        for number, task in enumerate(tasks)
    ]
    return in_figures(tasks, fallbacks)


def _by_id(material: Material, task: str) -> str:
    return f"task {material.weights.tasks.index(task)}"


def weights_figure(material: Material) -> Figure:
    """Each unit's weight as three stacked shares, the heaviest first; fixed tasks below."""
    weights = material.weights
    units = sorted(weights.units, key=lambda unit: -unit.weight)
    fixed = list(weights.fixed.items())
    rows = len(units) + len(fixed)
    figure, axes = canvas(0.95 + row_height(rows) * rows)
    labels = unit_labels(material)
    _guides(axes, material)
    for row, unit in enumerate(units):
        left = 0.0
        for part in PARTS:
            axes.barh(row, unit.shares[part], _THICK, left=left, color=PART_COLOURS[part], zorder=2)
            left += unit.shares[part]
        interval = weights.intervals.of("weight", unit.name) if weights.intervals else None
        _value(axes, row, unit.weight, interval)
    names = task_labels(material, [name for name, _ in fixed])
    for row, (_, weight) in enumerate(fixed, start=len(units)):
        axes.barh(row, weight, _THICK, color="white", edgecolor=FAINT, hatch="////", zorder=2)
        _value(axes, row, weight, None, note="fixed")
    _rows(axes, [*(labels[unit.name] for unit in units), *names])
    _key(axes, material)
    axes.set_xlim(0, 1.03 * _furthest(material))
    axes.set_xlabel("weight")
    return figure


def difficulty_figure(material: Material) -> Figure:
    """Each unit's difficulty, the hardest first."""
    weights = material.weights
    units = sorted(weights.units, key=lambda unit: -unit.measures["difficulty"])
    figure, axes = canvas(0.6 + row_height(len(units)) * len(units))
    labels = unit_labels(material)
    values = [unit.measures["difficulty"] for unit in units]
    axes.barh(range(len(units)), values, _THICK, color=PART_COLOURS["difficulty"], zorder=2)
    ends = [0.0, *values]
    for row, (unit, value) in enumerate(zip(units, values, strict=True)):
        interval = weights.intervals.of("difficulty", unit.name) if weights.intervals else None
        _value(axes, row, value, interval)
        ends += interval or ()
    _rows(axes, [labels[unit.name] for unit in units])
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=3)
    span = (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(ends) - (0.03 * span if min(ends) < 0 else 0), max(ends) + 0.03 * span)
    axes.set_xlabel("difficulty: the share of its score that a task owes to more data of its own")
    return figure


def _furthest(material: Material) -> float:
    """Where the longest bar or its whisker ends, or the range does."""
    weights = material.weights
    ends = [material.range[1], *weights.weights.values()]
    if weights.intervals:
        found = [weights.intervals.of("weight", unit.name) for unit in weights.units]
        ends += [interval[1] for interval in found if interval]
    return max(ends)


def _guides(axes: Axes, material: Material) -> None:
    """Lines at 1 and at the ends of the range, which the ticks below name."""
    low, high = material.range
    for place in (low, high):
        axes.axvline(place, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
    axes.axvline(1, color=INK, linewidth=0.9, zorder=3)
    axes.set_xticks(sorted({0.0, low, 1.0, high}))
    axes.xaxis.set_major_formatter(lambda place, _: f"{place:g}")


def _value(
    axes: Axes, row: int, value: float, interval: tuple[float, float] | None, note: str = ""
) -> None:
    """The number of a bar in the column at the right, and the whisker of its interval."""
    text = number(value)
    if interval is not None:
        axes.hlines(row, *interval, color=INK, linewidth=1.1, zorder=4)
        axes.vlines(interval, row - _WHISKER, row + _WHISKER, color=INK, linewidth=1.1, zorder=4)
        text += f"  ({number(interval[0])} to {number(interval[1])})"
    text += f"  {note}" if note else ""
    axes.annotate(
        text,
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=8.5,
    )


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=9 if len(labels) <= 40 else 7)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=False)
    axes.tick_params(axis="x", colors=LINE, labelcolor=MUTED)


def _key(axes: Axes, material: Material) -> None:
    """What the colours are, in words of their own colour's square above the bars."""
    handles = [
        axes.barh(0, 0, color=PART_COLOURS[part], label=f"by {_CALLED[part]} ({alpha:g})")
        for part, alpha in zip(PARTS, material.weights.alphas, strict=True)
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=3,
        frameon=False,
        handlelength=0.9,
        handleheight=0.9,
        columnspacing=1.6,
        borderaxespad=0.2,
        labelcolor=MUTED,
    )
