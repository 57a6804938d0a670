"""The tasks of a training: their names, their order, their weights."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError
from ..scores import Weights, task_names
from ..torch.task_weights import (
    TaskWeights,
    have_names,
    prepare_names,
    prepare_task_weights,
)

NamedWeights = TaskWeights | Mapping[str, float]


class TaskTable:
    """Which id and which weight each task has.

    Args:
        task_weights: a weights.json or visatb.Weights; {name: weight}; or weights without names, by
            task id: a float tensor or a sequence.
        tasks: the names in the order of the ids, where a trainer's order is not that of the
            weights. With weights that have no names, it names them.

    Attributes:
        names: of the tasks by id; None where nobody named them.
        weights: lambda, [tasks] fp32, on the CPU.

    Errors: ArgumentError; for a file also FileError, DataError.
    """

    def __init__(self, task_weights: NamedWeights, tasks: Sequence[str] | None = None) -> None:
        order = prepare_names(tasks)
        if isinstance(task_weights, Mapping):
            order = list(task_weights) if order is None else order
            task_weights = [_weight_of(task_weights, name) for name in order]
            self.names: list[str] | None = order
        elif have_names(task_weights):
            self.names = order or _names_of(task_weights)
        else:
            self.names = order
        by_name = self.names if have_names(task_weights) else None
        self.weights: Tensor = prepare_task_weights(task_weights, torch.device("cpu"), by_name)
        if self.names is not None:
            _require_distinct(self.names)
            if len(self.names) != len(self.weights):
                raise ArgumentError(
                    f"tasks names {len(self.names)} tasks with {len(self.weights)} task_weights; "
                    "expected as many names as weights"
                )
            self._ids = {name: task for task, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.weights)

    def id_of(self, task: Any, where: str) -> int:
        """The id of a task that a dataset names, or numbers.

        Args:
            task: a name, or an id in [0, tasks).
            where: begins the message, such as "the dataset".
        """
        found = task.item() if isinstance(task, Tensor) and task.numel() == 1 else task
        if self.names is not None and isinstance(found, str) and found in self._ids:
            return self._ids[found]
        if _is_integer(found) and 0 <= found < len(self):
            return int(found)
        raise ArgumentError(f"{where}: task {task!r}; expected {self._expected()}")

    def check(self, tasks: Iterable[Any], where: str) -> None:
        """Raises ArgumentError unless each of the tasks is one of these."""
        for task in tasks:
            self.id_of(task, where)

    def label(self, task: int) -> str:
        """How logs call the task of this id."""
        return str(task) if self.names is None else self.names[task]

    def _expected(self) -> str:
        if self.names is None:
            return f"an id in [0, {len(self)}), for these task weights have no names"
        return f"one of those that the task weights have: {', '.join(self.names)}"


def _is_integer(task: Any) -> bool:
    """NumPy's integers are numbers.Integral, and so is a bool."""
    return not isinstance(task, bool) and isinstance(task, numbers.Integral)


def _names_of(task_weights: object) -> list[str]:
    if isinstance(task_weights, Weights):
        return list(task_weights.tasks)
    assert isinstance(task_weights, (str, os.PathLike))  # noqa: S101 - `have_names` said so
    return task_names(task_weights)


def _weight_of(weights: Mapping[str, float], name: str) -> float:
    if name not in weights:
        raise ArgumentError(
            f"tasks names {name!r}; expected names that the weights have: {', '.join(weights)}"
        )
    return weights[name]


def _require_distinct(names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ArgumentError(f"tasks names {', '.join(sorted(twice))} more than once; expected once")
