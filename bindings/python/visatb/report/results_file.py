"""The comparison of methods after the final run, as `visatb evaluate` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visatb._errors import DataError


@dataclass(frozen=True)
class Method:
    """A method's improvement over the baseline, in percent.

    Attributes:
        name: as "VisATB".
        gain: dI.
        loss: dE.
        zero_shot_gain: dI over the zero-shot tasks, where it was scored on them.
        by_task: I of every task that it was scored on.
    """

    name: str
    gain: float
    loss: float
    zero_shot_gain: float | None
    by_task: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """Methods compared with a baseline.

    Attributes:
        baseline: the method that all are compared with.
        zero_shot_baseline: the same on the zero-shot tasks.
        methods: in the order of the file, the baseline among them.
        trained: the tasks that were trained on.
        zero_shot: the others.
    """

    baseline: str
    zero_shot_baseline: str
    methods: tuple[Method, ...]
    trained: tuple[str, ...]
    zero_shot: tuple[str, ...]

    @property
    def compared(self) -> tuple[Method, ...]:
        """The methods but for the baseline."""
        return tuple(method for method in self.methods if method.name != self.baseline)


def read_results(
    name: str, document: Mapping[str, Any], evaluation: Mapping[str, Any], weighed: tuple[str, ...]
) -> Results:
    """The results, once `visatb.evaluate` has found them to be right.

    Args:
        name: how messages call the file.
        document: the file.
        evaluation: what `visatb.evaluate` makes of it.
        weighed: the tasks of the weights file.

    Errors: DataError (results of other tasks).
    """
    tasks = document["tasks"]
    trained = tuple(task["name"] for task in tasks if not task.get("zero_shot", False))
    if not set(trained) & set(weighed):
        raise DataError(f"{name}: tasks: none of them has a weight, so these are other results")
    return Results(
        baseline=evaluation["baseline"],
        zero_shot_baseline=document.get("zero_shot_baseline", "EW"),
        methods=tuple(
            Method(method, found["dI"], found["dE"], found.get("dI_zero"), found["tasks"])
            for method, found in evaluation["methods"].items()
        ),
        trained=trained,
        zero_shot=tuple(task["name"] for task in tasks if task.get("zero_shot", False)),
    )
