"""How `visatb evaluate` shows an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from visatb._streams import printable

from .terminal import NARROWEST_NAME, Column, csv_text, render, window_width

_SUMMARY = ("dI", "dE", "dI_zero")
_NARROWEST = 8


def table(text: str) -> str:
    """A row a method with its summary; below, a row a task with a column a method."""
    evaluation = json.loads(text)
    methods: dict[str, dict[str, Any]] = evaluation["methods"]
    summary = [name for name in _SUMMARY if any(name in method for method in methods.values())]
    columns = [Column("method"), *(Column(f"{name} %", is_number=True) for name in summary)]
    rows = [
        [name, *(_shown(method.get(key), signed=key != "dE") for key in summary)]
        for name, method in methods.items()
    ]
    title = f"Improvement over {printable(evaluation['baseline'])}"
    tables = [render(columns, rows, title=title)]
    tasks = _tasks(methods)
    for names in _fitting(list(methods), tasks):
        columns = [Column("task"), *(Column(name, is_number=True) for name in names)]
        rows = [[task, *(_shown(methods[n]["tasks"].get(task)) for n in names)] for task in tasks]
        tables.append(render(columns, rows, title="By task, percent"))
    return "\n".join(tables)


def json_text(text: str) -> str:
    """The evaluation as the library writes it."""
    return text


def csv_table(text: str) -> str:
    """A row a method, with every digit; what a method does not have is empty."""
    methods: dict[str, dict[str, Any]] = json.loads(text)["methods"]
    tasks = _tasks(methods)
    rows = [
        [name, *(method.get(s, "") for s in _SUMMARY), *(method["tasks"].get(t, "") for t in tasks)]
        for name, method in methods.items()
    ]
    return csv_text([["method", *_SUMMARY, *tasks], *rows])


FORMATS: Mapping[str, Callable[[str], str]] = {
    "table": table,
    "json": json_text,
    "csv": csv_table,
}


def _shown(value: float | None, *, signed: bool = True) -> str:
    if value is None:
        return ""
    rounded = round(value, 2) + 0.0  # no -0.00
    return f"{rounded:+.2f}" if signed and rounded else f"{rounded:.2f}"


def _tasks(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(task for method in methods.values() for task in method["tasks"]))


def _fitting(methods: list[str], tasks: list[str]) -> Iterator[list[str]]:
    """The methods in runs whose columns fit beside the names of the tasks."""
    longest = max((len(task) for task in tasks), default=0)
    space = window_width() - min(longest, NARROWEST_NAME) - 2
    chosen: list[str] = []
    used = 0
    for method in methods:
        width = max(len(method), _NARROWEST) + 2
        if chosen and used + width > space:
            yield chosen
            chosen, used = [], 0
        chosen.append(method)
        used += width
    if chosen:
        yield chosen
