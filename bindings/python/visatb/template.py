"""An empty score file to fill in: the right runs and tasks, and no score yet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._arguments import known_form, name_bytes
from ._errors import ArgumentError

METRIC = "score"
Groups = Mapping[str, Sequence[str]]
FixedWeights = Mapping[str, float]

_COLUMNS = ("run", "task", "metric", "score", "higher_is_better")

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


def score_template(
    tasks: Sequence[str],
    form: str = "full",
    *,
    groups: Groups | None = None,
    fixed_weights: FixedWeights | None = None,
) -> dict[str, Any]:
    """An empty score file; null stands where a score belongs, and is refused until it is replaced.

    Args:
        tasks: the names. Each gets one metric, "score", higher being better.
        form: "full", "simple" or "precise".
        groups: {group: its tasks}; a group is trained and weighed as one.
        fixed_weights: {task: weight} of tasks that are not weighed and need no score.

    Errors: ArgumentError, also where fewer than two groups and tasks are left to be weighed.
    """
    mix = _Mix(tasks, groups, fixed_weights)
    runs: dict[str, Any] = {}
    for run, unit, task in mix.rows(known_form(form)):
        scores = runs.setdefault(run, {})
        if unit is not None:
            scores = scores.setdefault(unit, {})
        scores[task] = {METRIC: None}
    meanings = "; ".join(_MEANING[run] for run in _RUNS[form])
    return {
        "visatb_scores": 1,
        "form": form,
        "note": f"Replace every null by a validation score. {meanings}.",
        "tasks": [mix.describe(task) for task in mix.tasks],
        "runs": runs,
    }


def score_template_json(tasks: Sequence[str], form: str = "full", **mix: Any) -> str:
    """The text of `score_template`, with a line for every score."""
    return json.dumps(score_template(tasks, form, **mix), ensure_ascii=False, indent=2) + "\n"


def score_template_csv(
    tasks: Sequence[str],
    form: str = "full",
    *,
    groups: Groups | None = None,
    fixed_weights: FixedWeights | None = None,
) -> str:
    """The same as CSV: a row for every score, and the column score empty."""
    mix = _Mix(tasks, groups, fixed_weights)
    more = ["group"] * bool(mix.group_of) + ["fixed_weight"] * bool(mix.fixed)
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, [*_COLUMNS, *more], restval="", lineterminator="\n")
    writer.writeheader()
    for run, unit, task in mix.rows(known_form(form)):
        row = {"run": run if unit is None else f"{run}:{unit}", "task": task}
        row |= {"metric": METRIC, "higher_is_better": "true"}
        if task in mix.group_of:
            row["group"] = mix.group_of[task]
        writer.writerow(row)
    for task, weight in mix.fixed.items():
        writer.writerow({"task": task, "fixed_weight": repr(weight)})
    return sheet.getvalue()


class _Mix:
    """The tasks, and which of them are weighed together or not at all."""

    def __init__(self, tasks: Any, groups: Any, fixed_weights: Any) -> None:
        self.tasks = _checked(tasks)
        self.fixed = {task: float(weight) for task, weight in (fixed_weights or {}).items()}
        self.group_of = {task: name for name, of in (groups or {}).items() for task in of}
        for task in [*self.fixed, *self.group_of]:
            if task not in self.tasks:
                raise ArgumentError(f'"{task}" is not among the tasks {", ".join(self.tasks)}')
        both = sorted(self.fixed.keys() & self.group_of.keys())
        if both:
            raise ArgumentError(f'task "{both[0]}" has a fixed weight, so it is in no group')
        self.weighed = [task for task in self.tasks if task not in self.fixed]
        self.units = list(dict.fromkeys(self.group_of.get(task, task) for task in self.weighed))
        if len(self.units) < 2:
            raise ArgumentError(f"tasks = {tasks!r}; expected two or more to be weighed")

    def describe(self, task: str) -> dict[str, Any]:
        """The task as a score file lists it."""
        if task in self.fixed:
            return {"name": task, "fixed_weight": self.fixed[task]}
        described: dict[str, Any] = {"name": task}
        described["metrics"] = [{"name": METRIC, "higher_is_better": True}]
        if task in self.group_of:
            described["group"] = self.group_of[task]
        return described

    def rows(self, form: str) -> Iterator[tuple[str, str | None, str]]:
        """Run, unit and task of every score that the form needs."""
        for run, scores_all in _RUNS[form].items():
            for unit in [None] if run in _SINGLE else self.units:
                for task in self.weighed:
                    if scores_all or self.group_of.get(task, task) == unit:
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
