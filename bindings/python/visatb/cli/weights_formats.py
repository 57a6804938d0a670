"""How `visatb weights` shows weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from visatb.scores import Weights

from .terminal import Column, csv_text, render

_COMPONENTS = ("out", "in", "difficulty")
_MEASURES = ("outward", "inward", "difficulty")
_CHOSEN = {
    "argument": "from --temperature",
    "file": "from the scores file",
    "automatic": "automatic: lowest of 4 to 0.125 with all weights in range",
}


def table(weights: Weights) -> str:
    """Every task with its weight and what it was made from."""
    grouped = any(unit not in {None, task} for task, unit in weights.units.items())
    columns = [
        Column("task"),
        *([Column("group")] if grouped else []),
        Column("weight", is_number=True),
        *_interval_column(weights.intervals),
        *(Column(name, is_number=True, stays=1) for name in _MEASURES),
        *(Column(name, is_number=True, stays=0) for name in ("by-out", "by-in", "by-diff")),
    ]
    rows = []
    for task, unit in weights.units.items():
        group = [unit if unit not in {None, task} else ""] if grouped else []
        shown = ["fixed"] + [""] * 5 if unit is None else [_shown(x) for x in _made(weights, unit)]
        interval = _interval_cell(weights.intervals, task)
        rows.append([task, *group, f"{weights.weights[task]:.4f}", *interval, *shown])
    return render(columns, rows, notes=_notes(weights))


def json_text(weights: Weights) -> str:
    """The weights file itself."""
    return weights.to_json()


def csv_table(weights: Weights) -> str:
    """The table with every digit; what a task of fixed weight does not have is empty."""
    ends = ["low", "high"] if weights.intervals else []
    header = ["task", "unit", "weight", *ends, *_MEASURES, *(f"by_{name}" for name in _COMPONENTS)]
    rows = [
        [
            task,
            unit or "",
            weights.weights[task],
            *_ends(weights.intervals, task),
            *([""] * 6 if unit is None else _made(weights, unit)),
        ]
        for task, unit in weights.units.items()
    ]
    return csv_text([header, *rows])


def shell(weights: Weights) -> str:
    """The weights on one line, in the order of the tasks."""
    return " ".join(repr(weights.weights[task]) for task in weights.tasks) + "\n"


FORMATS: Mapping[str, Callable[[Weights], str]] = {
    "table": table,
    "json": json_text,
    "csv": csv_table,
    "shell": shell,
}


def _made(weights: Weights, unit: str) -> list[float]:
    """What the weight of a unit was made from."""
    components = weights.data["components"]
    measures = [weights.data[name][unit] for name in _MEASURES]
    return measures + [components[name][unit] for name in _COMPONENTS]


def _shown(value: float) -> str:
    # Adding 0 to what rounds to -0 takes its sign away.
    return f"{round(value, 3) + 0.0:.3f}"


def _notes(weights: Weights) -> list[str]:
    alphas = weights.data["alphas"]
    out, into, difficulty = (f"{alphas[name]:.4g}" for name in _COMPONENTS)
    return [
        f"weight = {out} by-out + {into} by-in + {difficulty} by-diff",
        f"temperature {weights.temperature:g} ({_CHOSEN[weights.temperature_from]})",
        *_what_is_told_apart(weights),
    ]


def _interval_column(intervals: dict[str, Any] | None) -> list[Column]:
    if intervals is None:
        return []
    return [Column(f"{100 * intervals['confidence']:g}% interval", is_number=True, stays=2)]


def _interval_cell(intervals: dict[str, Any] | None, task: str) -> list[str]:
    if intervals is None:
        return []
    if task not in intervals["weights"]:
        return [""]
    ends = intervals["weights"][task]
    return ["none" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"]


def _ends(intervals: dict[str, Any] | None, task: str) -> list[float | str]:
    """For the sheet: low and high; empty where the task has none."""
    if intervals is None:
        return []
    return intervals["weights"].get(task) or ["", ""]


def _what_is_told_apart(weights: Weights) -> list[str]:
    """The intervals in words."""
    intervals = weights.intervals
    if intervals is None:
        return []
    told = intervals["apart_from_one"]
    rest = [task for task in intervals["weights"] if task not in told]
    # A group has one weight, however many tasks.
    unit_of = weights.units
    units = {unit for unit in unit_of.values() if unit is not None}
    apart = {frozenset((unit_of[a], unit_of[b])) for a, b in intervals["apart"]}
    pairs = len(units) * (len(units) - 1) // 2
    return [
        f"{intervals['resamples']} resamples of the validation samples at this temperature; "
        f"{intervals['refused'] or 'none'} refused",
        f"told apart from 1: {', '.join(told) or 'none'}; "
        f"not told apart: {', '.join(rest) or 'none'}",
        f"{len(apart)} of {pairs} pairs are told apart",
    ]
