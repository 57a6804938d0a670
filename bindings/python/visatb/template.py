"""An empty score file to fill in: the right runs and tasks, and no score yet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ._arguments import known_form, name_bytes
from ._errors import ArgumentError

METRIC = "score"

# The runs of a form and whether each is scored on every task or on its own unit only.
_ALL, _OWN = True, False
_RUNS: dict[str, dict[str, bool]] = {
    "full": {"mini": _ALL, "with_mini": _ALL},
    "simple": {"base": _ALL, "only": _ALL, "mini_only": _OWN},
    "precise": {"mini": _ALL, "with_mini": _ALL, "only": _OWN, "mini_only": _OWN},
}
_SINGLE = ("base", "mini")
_MEANING = {
    "base": "base: the model before any of this training",
    "mini": "mini: trained on the mini subsets of all tasks",
    "with_mini": "with_mini.X: trained on X's large subset and everyone's mini subset",
    "only": "only.X: trained on X's large subset alone",
    "mini_only": "mini_only.X: trained on X's mini subset alone",
}


def score_template(tasks: Sequence[str], form: str = "full") -> dict[str, Any]:
    """An empty score file; null stands where a score belongs, and is refused until it is replaced.

    Args:
        tasks: the names, two or more. Each gets one metric, "score", higher being better.
        form: "full", "simple" or "precise".

    Errors: ArgumentError.
    """
    runs: dict[str, Any] = {}
    for run, unit, task in _rows(_checked(tasks), known_form(form)):
        scores = runs.setdefault(run, {})
        if unit is not None:
            scores = scores.setdefault(unit, {})
        scores[task] = {METRIC: None}
    meanings = "; ".join(_MEANING[run] for run in _RUNS[form])
    return {
        "visatb_scores": 1,
        "form": form,
        "note": f"Replace every null by a validation score. {meanings}.",
        "tasks": [
            {"name": task, "metrics": [{"name": METRIC, "higher_is_better": True}]}
            for task in tasks
        ],
        "runs": runs,
    }


def score_template_json(tasks: Sequence[str], form: str = "full") -> str:
    """The text of `score_template`, with a line for every score."""
    return json.dumps(score_template(tasks, form), ensure_ascii=False, indent=2) + "\n"


def score_template_csv(tasks: Sequence[str], form: str = "full") -> str:
    """The same as CSV: a row for every score, and the column score empty."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(["run", "task", "metric", "score", "higher_is_better"])
    for run, unit, task in _rows(_checked(tasks), known_form(form)):
        writer.writerow([run if unit is None else f"{run}:{unit}", task, METRIC, "", "true"])
    return sheet.getvalue()


def _rows(tasks: Sequence[str], form: str) -> Iterator[tuple[str, str | None, str]]:
    """Run, unit and task of every score that the form needs."""
    for run, scores_all in _RUNS[form].items():
        for unit in [None] if run in _SINGLE else tasks:
            for task in tasks:
                if scores_all or task == unit:
                    yield run, unit, task


def _checked(tasks: Any) -> list[str]:
    if isinstance(tasks, (str, bytes)) or not isinstance(tasks, Sequence) or len(tasks) < 2:
        raise ArgumentError(f"tasks = {tasks!r}; expected two or more names")
    for index, task in enumerate(tasks):
        name_bytes(f"tasks[{index}]", task)
        if not task or task != task.strip():
            raise ArgumentError(f"task {task!r}: a name is neither empty nor has spaces around it")
        if task in tasks[:index]:
            raise ArgumentError(f'task "{task}" is there twice')
    return list(tasks)
