"""How `visatb weights` shows weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
        *(Column(name, is_number=True, stays=1) for name in _MEASURES),
        *(Column(name, is_number=True, stays=0) for name in ("by-out", "by-in", "by-diff")),
    ]
    rows = []
    for task, unit in weights.units.items():
        group = [unit if unit not in {None, task} else ""] if grouped else []
        shown = ["fixed"] + [""] * 5 if unit is None else [_shown(x) for x in _made(weights, unit)]
        rows.append([task, *group, f"{weights.weights[task]:.4f}", *shown])
    return render(columns, rows, notes=_notes(weights))


def json_text(weights: Weights) -> str:
    """The weights file itself."""
    return weights.to_json()


def csv_table(weights: Weights) -> str:
    """The table with every digit; what a task of fixed weight does not have is empty."""
    header = ["task", "unit", "weight", *_MEASURES, *(f"by_{name}" for name in _COMPONENTS)]
    rows = [
        [
            task,
            unit or "",
            weights.weights[task],
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
    ]
