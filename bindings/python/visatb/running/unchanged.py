"""Whether a plan is still that of its project, told without reading the data again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._errors import DataError, cut
from ..procedure.moving import has_begun
from ..procedure.plan import Plan, Run
from ..procedure.project import Project, Task
from ..procedure.runs import COMPARE, Recipe, recipes

# Of a plan whose runs have begun, what may be planned otherwise all the same.
_MAY_CHANGE = ("methods", "runs")

_OF_A_TASK = ("metrics", "group", "fixed_weight", "zero_shot")


def check_unchanged(project: Project, plan: Plan) -> None:
    """Refuses a plan that `visatb plan` would make otherwise now.

    Errors: DataError (what is not as it was; the plan is of sizes alone).
    """
    if not plan.can_run:
        raise DataError(f"{project.file}: has sizes in place of data, so there is nothing to run")
    for place, was, is_ in _compared(project, plan):
        if was != is_:
            raise DataError(
                f"{project.file}: {place}: was {_brief(was)} when the plan was made, and is "
                f"{_brief(is_)}; {_advice(project, place)}"
            )


def _advice(project: Project, place: str) -> str:
    if place in _MAY_CHANGE or not has_begun(project.output):
        return "run `visatb plan` again"
    return "its runs have begun, so put it back, or name another output"


def _compared(project: Project, plan: Plan) -> Iterator[tuple[str, Any, Any]]:
    yield "form", plan.form, project.form
    yield "run.base_model", plan.base_model, project.commands.base_model
    sampling = project.sampling
    yield "seed", plan.seed, sampling.seed
    yield "sampling.large", plan.sampling["large"], float(sampling.large)
    yield "sampling.mini", plan.sampling["mini"], float(sampling.mini)
    yield "sampling.batch_size", plan.sampling["batch_size"], sampling.batch_size
    yield "sampling.epochs", plan.sampling["epochs"], sampling.epochs
    tasks = {task["name"]: task for task in plan.tasks}
    yield "tasks", list(tasks), [task.name for task in project.tasks]
    for task in project.tasks:
        said = _said(task)
        for key in _OF_A_TASK:
            yield f"tasks.{task.name}.{key}", tasks[task.name].get(key), said.get(key)
    of_data = project.of_data
    for place in plan.data | of_data:
        yield place, plan.data.get(place), of_data.get(place)
    found = [(run.name, run.purpose, run.split, run.scores) for run in plan.runs]
    wanted = [(one.name, one.purpose, one.split, one.scores) for one in recipes(project)]
    yield "methods", _methods(plan.runs), _methods(recipes(project))
    yield "runs", found, wanted


def _methods(runs: Iterable[Run | Recipe]) -> list[str]:
    return list(dict.fromkeys(run.method for run in runs if run.purpose == COMPARE))


def _said(task: Task) -> Mapping[str, Any]:
    """Of a task what a plan would say of it."""
    metrics = [{"name": m.name, "higher_is_better": m.higher_is_better} for m in task.metrics]
    said = {"metrics": metrics, "group": task.group, "fixed_weight": task.fixed_weight}
    return said | ({"zero_shot": True} if task.zero_shot else {})


def _brief(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return cut(text)
