"""What a weights file says, checked against itself, with its units and the tasks they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visatb._errors import ArgumentError, DataError
from visatb.balance import Balance, balance_weights, contribution_means

from .documents import Reader
from .error_bars import Intervals, read_intervals

Part = Literal["out", "in", "difficulty"]
Measure = Literal["outward", "inward", "difficulty"]
# Each weighting, and what it was made from.
PARTS: dict[Part, Measure] = {"out": "outward", "in": "inward", "difficulty": "difficulty"}
# Between what the file says and what its own numbers make again.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Unit:
    """A task, or a group of tasks, that was weighed.

    Attributes:
        name: the task's, or the group's.
        tasks: whom its weight is for.
        weight: lambda.
        measures: outward and inward contribution, and difficulty.
        components: the weighting by each, of mean 1 over the units.
        shares: what each adds to the weight: alpha * component.
        effects: what each moves the weight away from 1: alpha * (component - 1).
    """

    name: str
    tasks: tuple[str, ...]
    weight: float
    measures: Mapping[Measure, float]
    components: Mapping[Part, float]
    shares: Mapping[Part, float]
    effects: Mapping[Part, float]

    @property
    def is_group(self) -> bool:
        """Whether its tasks are weighed as one."""
        return self.tasks != (self.name,)


@dataclass(frozen=True)
class WeightsFile:
    """A weights file.

    Attributes:
        tasks: the names; task id i is tasks[i].
        weights: by task.
        units: what was weighed, in the order of the file.
        fixed: tasks of fixed weight.
        contribution: [units, units], C[i -> j].
        temperature: T.
        alphas: out, in, difficulty.
        warnings: {"code", "path", "message"}.
        scores_sha256: of the scores it was made from.
        intervals: where it has error bars.
    """

    tasks: tuple[str, ...]
    weights: Mapping[str, float]
    units: tuple[Unit, ...]
    fixed: Mapping[str, float]
    contribution: NDArray[np.float64]
    temperature: float
    alphas: tuple[float, float, float]
    warnings: tuple[Mapping[str, str], ...]
    scores_sha256: str
    intervals: Intervals | None

    def balance(self, temperature: float) -> Balance:
        """The weights that the same measurement makes at another temperature."""
        return balance_weights(
            [unit.measures["outward"] for unit in self.units],
            [unit.measures["inward"] for unit in self.units],
            [unit.measures["difficulty"] for unit in self.units],
            alphas=self.alphas,
            temperature=temperature,
        )


def read_weights_file(
    name: str, document: dict[str, Any], unit_of_task: Mapping[str, str | None] | None
) -> WeightsFile:
    """What a weights file says.

    Args:
        name: how messages call it.
        document: the file.
        unit_of_task: the unit of every task, None for one of fixed weight, where another file says
            so; a weights file does not.

    Errors: DataError (something is missing or wrong, or the file contradicts itself).
    """
    reader = Reader(name, document)
    tasks = _names(reader)
    weights = reader.numbers(tasks, "weights")
    units = reader.keys("contribution")
    if len(units) < 2:
        reader.refuse(("contribution",), f"too few units, {len(units)}; expected two or more")
    matrix = np.array([[reader.number("contribution", i, j) for j in units] for i in units])
    alphas = tuple(reader.number("alphas", part) for part in PARTS)
    measures = {measure: reader.numbers(units, measure) for measure in PARTS.values()}
    components = {part: reader.numbers(units, "components", part) for part in PARTS}
    temperature = reader.number("temperature")
    if temperature <= 0:
        reader.refuse(("temperature",), f"{temperature:g}; expected a number above 0")

    _check_means(reader, matrix, units, measures)
    made = _balance_again(reader, measures, alphas, temperature, units)
    weight_of = dict(zip(units, made.weights.tolist(), strict=True))
    for part, row in zip(PARTS, made.components, strict=True):
        _check_same(reader, ("components", part), components[part], dict(zip(units, row)))  # noqa: B905 - of one length
    members = _members(reader, tasks, weights, weight_of, unit_of_task)
    return WeightsFile(
        tasks=tuple(tasks),
        weights=weights,
        units=tuple(
            _unit(unit, members, weight_of, measures, components, alphas) for unit in units
        ),
        fixed={task: weights[task] for task, unit in members.items() if unit is None},
        contribution=matrix,
        temperature=temperature,
        alphas=(alphas[0], alphas[1], alphas[2]),
        warnings=reader.warnings(),
        scores_sha256=reader.text("scores_sha256"),
        intervals=read_intervals(reader, members, units) if reader.has("intervals") else None,
    )


def _names(reader: Reader) -> list[str]:
    names = [reader.text("tasks", index) for index in range(len(reader.items("tasks")))]
    for index, name in enumerate(names):
        if name in names[:index]:
            reader.refuse(("tasks", index), f'"{name}" stands there twice')
    return names


def _check_means(
    reader: Reader,
    matrix: NDArray[np.float64],
    units: list[str],
    measures: Mapping[Measure, Mapping[str, float]],
) -> None:
    means = contribution_means(matrix)
    _check_same(reader, ("outward",), measures["outward"], dict(zip(units, means.outward)))  # noqa: B905
    _check_same(reader, ("inward",), measures["inward"], dict(zip(units, means.inward)))  # noqa: B905


def _balance_again(
    reader: Reader,
    measures: Mapping[Measure, Mapping[str, float]],
    alphas: tuple[float, ...],
    temperature: float,
    units: list[str],
) -> Balance:
    out, into, hard = ([measures[m][unit] for unit in units] for m in PARTS.values())
    three = (alphas[0], alphas[1], alphas[2])
    try:
        return balance_weights(out, into, hard, alphas=three, temperature=temperature)
    except (ArgumentError, DataError) as reason:
        problem = str(reason).removeprefix("visatb_balance_weights: ")
        raise DataError(f"{reader.name}: {problem}") from None


def _check_same(
    reader: Reader, path: tuple[str, ...], said: Mapping[str, float], made: Mapping[str, float]
) -> None:
    for name, value in said.items():
        if abs(value - made[name]) > _TOLERANCE * max(1.0, abs(value)):
            reader.refuse(
                (*path, name),
                f"{value:.9g}; the file's other numbers make {made[name]:.9g} of it, so it was "
                "changed after `visatb weights` wrote it",
            )


def _members(
    reader: Reader,
    tasks: list[str],
    weights: Mapping[str, float],
    weight_of: Mapping[str, float],
    unit_of_task: Mapping[str, str | None] | None,
) -> dict[str, str | None]:
    """The unit of every task, and None for one of fixed weight."""
    if unit_of_task is None:
        members = {task: _guess(reader, task, tasks, weights, weight_of) for task in tasks}
    else:
        members = {task: unit_of_task[task] for task in tasks}
    for task, unit_of_it in members.items():
        if unit_of_it is not None and unit_of_it not in weight_of:
            reader.refuse(
                ("contribution",),
                f'no unit "{unit_of_it}", which the plan or the scores weigh {task} with',
            )
    for unit in weight_of:
        if unit not in members.values():
            reader.refuse(("contribution", unit), "no task has the weight of this unit")
    said = {task: weights[task] for task, unit in members.items() if unit is not None}
    made = {task: weight_of[unit] for task, unit in members.items() if unit is not None}
    _check_same(reader, ("weights",), said, made)
    return members


def _guess(
    reader: Reader,
    task: str,
    tasks: list[str],
    weights: Mapping[str, float],
    weight_of: Mapping[str, float],
) -> str | None:
    """The unit of a task by its weight, which those of a group have in common."""
    if task in weight_of:
        return task
    fitting = [
        unit
        for unit, weight in weight_of.items()
        if unit not in tasks and abs(weight - weights[task]) <= _TOLERANCE
    ]
    if len(fitting) > 1:
        reader.refuse(
            ("weights", task),
            f"{' and '.join(fitting)} have this weight, so its group cannot be told; give the "
            "score file too (--scores)",
        )
    return fitting[0] if fitting else None


def _unit(
    name: str,
    members: Mapping[str, str | None],
    weight_of: Mapping[str, float],
    measures: Mapping[Measure, Mapping[str, float]],
    components: Mapping[Part, Mapping[str, float]],
    alphas: tuple[float, ...],
) -> Unit:
    parts = {part: components[part][name] for part in PARTS}
    return Unit(
        name=name,
        tasks=tuple(task for task, unit in members.items() if unit == name),
        weight=weight_of[name],
        measures={measure: measures[measure][name] for measure in PARTS.values()},
        components=parts,
        shares={p: alpha * parts[p] for p, alpha in zip(PARTS, alphas, strict=True)},
        effects={p: alpha * (parts[p] - 1) for p, alpha in zip(PARTS, alphas, strict=True)},
    )
