"""What a plan tells of the runs, their cost and their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from visatb._arguments import FORMS
from visatb._errors import DataError
from visatb.procedure.plan import Cost, plan_of

from .documents import Reader
from .scores_file import Scores
from .weights_file import WeightsFile

# What runs are trained on and how; a plan may say more.
_SAMPLING = ("large", "mini", "seed", "batch_size", "epochs")


@dataclass(frozen=True)
class Run:
    """A run of the plan: its name, what it is for, its samples and its steps."""

    name: str
    purpose: str
    samples: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        name: how messages call its file.
        identity: the SHA-256 of all that it was made from.
        form: full, simple or precise.
        seed: of the draws.
        inputs: the SHA-256 of each input, by name.
        unit_of_task: for each task its group, or itself; None for a task of fixed weight.
        fixed: the weights of the latter.
        metrics: {metric: whether higher is better} of each other task.
        runs: in their order.
        cost: of the measuring runs.
        sampling: rates of the subsets, and how runs are trained.
        warnings: {"code", "path", "message"}.
    """

    name: str
    identity: str
    form: str
    seed: int
    inputs: Mapping[str, str]
    unit_of_task: Mapping[str, str | None]
    fixed: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, bool]]
    runs: tuple[Run, ...]
    cost: Cost
    sampling: Mapping[str, float]
    warnings: tuple[Mapping[str, str], ...]


def read_plan(name: str, document: dict[str, Any], tasks: object) -> Plan:
    """What a plan says.

    Args:
        name: how messages call it.
        document: the file.
        tasks: those of the weights file.

    Errors: DataError (something is missing or wrong, it was edited, or it plans other tasks).
    """
    plan_of(document, name)
    reader = Reader(name, document)
    unit_of_task = _units(reader)
    if not isinstance(tasks, list) or set(unit_of_task) != {str(task) for task in tasks}:
        raise DataError(f"{name}: tasks: not those of the weights, so this is another plan")
    form = reader.text("form")
    if form not in FORMS:
        reader.refuse(("form",), 'expected "full", "simple" or "precise"')
    places = {reader.text("tasks", i, "name"): i for i in range(len(reader.items("tasks")))}
    return Plan(
        name=name,
        identity=reader.text("identity"),
        form=form,
        seed=reader.whole("seed"),
        inputs={
            reader.text("inputs", i, "name"): reader.text("inputs", i, "sha256")
            for i in range(len(reader.items("inputs")))
        },
        unit_of_task=unit_of_task,
        fixed={
            task: reader.number("tasks", places[task], "fixed_weight")
            for task, unit in unit_of_task.items()
            if unit is None
        },
        metrics={
            task: _metrics(reader, places[task])
            for task, unit in unit_of_task.items()
            if unit is not None
        },
        runs=tuple(_run(reader, index) for index in range(len(reader.items("runs")))),
        cost=_cost(reader),
        sampling={
            key: reader.number("sampling", key)
            for key in reader.keys("sampling")
            if key in _SAMPLING
        },
        warnings=reader.warnings(),
    )


def check_plan(plan: Plan, weights: WeightsFile, scores: Scores | None) -> None:
    """Refuses a plan that is not the one of these weights, as far as their scores tell.

    Errors: DataError.
    """
    if scores is not None:
        _check_scores(plan, scores)
    for task, weight in plan.fixed.items():
        if weight != weights.fixed[task]:
            found = f"{weights.fixed[task]:g} in the weights file"
            _refuse(plan, "tasks", f'"{task}" has the fixed weight {weight:g}, and {found}')


def _check_scores(plan: Plan, scores: Scores) -> None:
    form = scores.own_form or scores.form
    if plan.form != form:
        _refuse(plan, "form", f"{plan.form}, and {form} in the scores")
    if plan.unit_of_task != scores.unit_of_task:
        _refuse(plan, "tasks", "not grouped as in the scores")
    for task, unit in scores.unit_of_task.items():
        if unit is not None and plan.metrics[task] != scores.metrics[task]:
            _refuse(plan, "tasks", f'"{task}" has other metrics than in the scores')
    for key, value in scores.sampling.items():
        if plan.sampling.get(key, value) != value:
            found = f"{plan.sampling[key]:g}, and {value:g} in the scores"
            _refuse(plan, f"sampling.{key}", found)


def _refuse(plan: Plan, path: str, difference: str) -> NoReturn:
    raise DataError(f"{plan.name}: {path}: {difference}, so this is another plan", path)


def _units(reader: Reader) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for index, task in enumerate(reader.items("tasks")):
        name = reader.text("tasks", index, "name")
        found[name] = reader.text("tasks", index, "group") if "group" in task else name
        if "fixed_weight" in task and not task.get("zero_shot"):
            found[name] = None
        if task.get("zero_shot"):  # it is scored only, and has no weight
            del found[name]
    return found


def _metrics(reader: Reader, task: int) -> dict[str, bool]:
    found = {}
    for index in range(len(reader.items("tasks", task, "metrics"))):
        path = ("tasks", task, "metrics", index)
        higher = reader.get(*path, "higher_is_better")
        if not isinstance(higher, bool):
            reader.refuse((*path, "higher_is_better"), "expected true or false")
        found[reader.text(*path, "name")] = higher
    return found


def _run(reader: Reader, index: int) -> Run:
    return Run(
        name=reader.text("runs", index, "name"),
        purpose=reader.text("runs", index, "purpose"),
        samples=int(reader.number("runs", index, "samples")),
        steps=int(reader.number("runs", index, "steps")),
    )


def _cost(reader: Reader) -> Cost:
    return Cost(
        formula=reader.number("cost", "formula"),
        counted=reader.number("cost", "counted"),
        measuring_samples=int(reader.number("cost", "measuring_samples")),
        final_samples=int(reader.number("cost", "final_samples")),
        measuring_steps=int(reader.number("cost", "measuring_steps")),
        final_steps=int(reader.number("cost", "final_steps")),
    )
