"""What a plan tells of the runs, their cost and their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visatb._arguments import FORMS
from visatb._errors import DataError

from .documents import Reader


@dataclass(frozen=True)
class Run:
    """A run of the plan: its name, what it is for, its samples and its steps."""

    name: str
    purpose: str
    samples: int
    steps: int


@dataclass(frozen=True)
class Cost:
    """What measuring costs beside the final run: shares of it, and the counts behind them."""

    formula: float
    counted: float
    measuring_samples: int
    final_samples: int
    measuring_steps: int
    final_steps: int


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        identity: the SHA-256 of all that it was made from.
        form: full, simple or precise.
        seed: of the draws.
        inputs: the SHA-256 of each input, by name.
        unit_of_task: for each task its group, or itself; None for a task of fixed weight.
        runs: in their order.
        cost: of the measuring runs.
        sampling: rates of the subsets, and how runs are trained.
        warnings: {"code", "path", "message"}.
    """

    identity: str
    form: str
    seed: int
    inputs: Mapping[str, str]
    unit_of_task: Mapping[str, str | None]
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

    Errors: DataError (something is missing or wrong, or it plans other tasks).
    """
    reader = Reader(name, document)
    unit_of_task = _units(reader)
    if not isinstance(tasks, list) or set(unit_of_task) != {str(task) for task in tasks}:
        raise DataError(f"{name}: tasks: not those of the weights, so this is another plan")
    form = reader.text("form")
    if form not in FORMS:
        reader.refuse(("form",), 'expected "full", "simple" or "precise"')
    sampling = {key: reader.number("sampling", key) for key in reader.keys("sampling")}
    return Plan(
        identity=reader.text("identity"),
        form=form,
        seed=int(reader.number("seed")),
        inputs={
            reader.text("inputs", i, "name"): reader.text("inputs", i, "sha256")
            for i in range(len(reader.items("inputs")))
        },
        unit_of_task=unit_of_task,
        runs=tuple(_run(reader, index) for index in range(len(reader.items("runs")))),
        cost=_cost(reader),
        sampling=sampling,
        warnings=reader.warnings(),
    )


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
