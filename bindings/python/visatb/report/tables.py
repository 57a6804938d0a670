"""The numbers behind the figures as tables of text, and the figures' descriptions in words."""

from __future__ import annotations

from typing import NamedTuple

from .error_bars import Interval
from .gather import Material
from .names import brief, shown
from .results_file import Results
from .sentences import counted, listed, number
from .weights_file import PARTS, Unit

# Descriptions for screen readers name no more than this; the table below has all.
_MOST_TOLD = 40


class Table(NamedTuple):
    """A table of text.

    Attributes:
        head: its columns.
        rows: each as long as the head.
        texts: how many columns at the left are no numbers.
    """

    head: list[str]
    rows: list[list[str]]
    texts: int = 1


def weights_table(material: Material) -> Table:
    """A row a task, in the order of task ids."""
    weights = material.weights
    grouped = any(unit.is_group for unit in weights.units)
    unit_of = {task: unit for unit in weights.units for task in unit.tasks}
    head = ["task", *(["group"] if grouped else []), "id", "weight"]
    head += [_percent(material)] if weights.intervals else []
    head += ["outward", "inward", "difficulty", "by outward", "by inward", "by difficulty"]
    rows = []
    for index, task in enumerate(weights.tasks):
        unit = unit_of.get(task)
        group = [shown(unit.name) if unit and unit.is_group else ""] if grouped else []
        row = [shown(task), *group, str(index), number(weights.weights[task], 4)]
        if weights.intervals:
            row.append(_between(weights.intervals.bounds["weight"].get(unit.name)) if unit else "")
        row += _made(unit) if unit else ["fixed", "", "", "", "", ""]
        rows.append(row)
    return Table(head, rows, 2 if grouped else 1)


def contribution_table(material: Material) -> Table:
    """From rows to columns, with the means."""
    weights = material.weights
    head = ["from \N{RIGHTWARDS ARROW} to", *(shown(unit.name) for unit in weights.units)]
    rows = [
        [
            shown(unit.name),
            *(number(value, 3) for value in row),
            number(unit.measures["outward"], 3),
        ]
        for unit, row in zip(weights.units, weights.contribution.tolist(), strict=True)
    ]
    inward = [number(unit.measures["inward"], 3) for unit in weights.units]
    return Table([*head, "outward"], [*rows, ["inward", *inward, ""]])


def difficulty_table(material: Material) -> Table:
    """A row a unit."""
    intervals = material.weights.intervals
    head = ["unit" if any(u.is_group for u in material.weights.units) else "task", "difficulty"]
    rows = [
        [
            shown(unit.name),
            number(unit.measures["difficulty"], 4),
            *([_between(intervals.bounds["difficulty"][unit.name])] if intervals else []),
        ]
        for unit in material.weights.units
    ]
    return Table([*head, *([_percent(material)] if intervals else [])], rows)


def temperature_table(material: Material) -> Table:
    """The weights at the temperatures that the automatic choice goes through, and at the chosen."""
    weights = material.weights
    places = sorted({0.125, 0.25, 0.5, 1.0, 2.0, 4.0, weights.temperature})
    columns = [weights.balance(place).weights.tolist() for place in places]
    head = ["task", *(f"T = {place:g}" for place in places)]
    return Table(
        head,
        [
            [shown(unit.name), *(number(value, 3) for value in row)]
            for unit, row in zip(weights.units, zip(*columns, strict=True), strict=True)
        ],
    )


def methods_table(results: Results) -> Table:
    """A row a method with its summary."""
    has_zero_shot = any(method.zero_shot_gain is not None for method in results.methods)
    head = ["method", "dI %", "dE %", *(["dI zero-shot %"] if has_zero_shot else [])]
    rows = []
    for method in results.methods:
        row = [shown(method.name), _signed(method.gain), number(method.loss)]
        rows.append([*row, *([_signed(method.zero_shot_gain)] if has_zero_shot else [])])
    return Table(head, rows)


def changes_table(results: Results) -> Table:
    """A row a task with a column a method."""
    tasks = [(task, "") for task in results.trained]
    tasks += [(task, " (zero-shot)") for task in results.zero_shot]
    return Table(
        ["task", *(shown(method.name) for method in results.compared)],
        [
            [shown(task) + kind, *(_signed(m.by_task.get(task)) for m in results.compared)]
            for task, kind in tasks
        ],
    )


def describe_weights(material: Material) -> str:
    """The weights in words, the heaviest first."""
    units = sorted(material.weights.units, key=lambda unit: -unit.weight)
    told = [f"{brief(unit.name)} {number(unit.weight)}" for unit in units]
    fixed = [f"{brief(t)} fixed at {w:g}" for t, w in material.weights.fixed.items()]
    return f"Bars of the weights: {_some([*told, *fixed])}."


def describe_contribution(material: Material) -> str:
    """The extremes of the contribution in words."""
    weights = material.weights
    names = [brief(unit.name) for unit in weights.units]
    pairs = [
        (weights.contribution[i, j], f"{names[i]} to {names[j]}")
        for i in range(len(names))
        for j in range(len(names))
        if i != j
    ]
    most, least = max(pairs), min(pairs)
    told = ""
    if len(pairs) <= _MOST_TOLD:
        told = " All: " + "; ".join(f"{pair} {number(value)}" for value, pair in pairs) + "."
    return (
        f"Matrix of contributions among {len(names)} units. Highest: {most[1]}, {number(most[0])}. "
        f"Lowest: {least[1]}, {number(least[0])}.{told}"
    )


def describe_difficulty(material: Material) -> str:
    """The difficulties in words, the hardest first."""
    units = sorted(material.weights.units, key=lambda unit: -unit.measures["difficulty"])
    told = [f"{brief(unit.name)} {number(unit.measures['difficulty'])}" for unit in units]
    return f"Bars of difficulty: {_some(told)}."


def describe_temperature(material: Material) -> str:
    """The ends of the lines in words."""
    weights = material.weights
    lowest, highest = weights.balance(0.125).weights, weights.balance(4.0).weights
    return (
        f"Lines of the weights over temperature. At 0.125 they span {number(lowest.min())} to "
        f"{number(lowest.max())}, at the chosen {weights.temperature:g} "
        f"{number(min(u.weight for u in weights.units))} to "
        f"{number(max(u.weight for u in weights.units))}, at 4 {number(highest.min())} to "
        f"{number(highest.max())}."
    )


def describe_improvement(results: Results) -> str:
    """Every method in words."""
    told = [f"{brief(m.name)} dI {_signed(m.gain)}, dE {number(m.loss)}" for m in results.compared]
    return f"Bars of improvement over {brief(results.baseline)} in percent: {'; '.join(told)}."


def _some(told: list[str]) -> str:
    if len(told) <= _MOST_TOLD:
        return listed(told)
    return listed([*told[:_MOST_TOLD], f"{counted(len(told) - _MOST_TOLD, 'more', 'more')}"])


def _made(unit: Unit) -> list[str]:
    measures = [number(unit.measures[measure], 3) for measure in PARTS.values()]
    return measures + [number(unit.components[part], 3) for part in PARTS]


def _percent(material: Material) -> str:
    confidence = material.weights.intervals.confidence if material.weights.intervals else 0
    return f"{100 * confidence:g}% interval"


def _between(interval: Interval | None) -> str:
    if interval is None or None in interval:
        return "none holds"
    return " to ".join(number(bound or 0.0, 3) for bound in interval)


def _signed(value: float | None) -> str:
    return "" if value is None else number(value, signed=True)
