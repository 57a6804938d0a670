"""The loss and the share of tokens of each task, as a trainer logs them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..torch.stats import Stats
from .step import Step
from .tasks import TaskTable


class TaskLog:
    """Adds up what the losses tell of their tasks, on their device, until it is logged.

    Args:
        tasks: which there are.
        group: the ranks to add up over; None: all.
    """

    def __init__(self, tasks: TaskTable, group: Any = None) -> None:
        self._tasks = tasks
        self._group = group
        self._sums: Tensor | None = None
        self._weights: Tensor | None = None
        self._steps = 0

    @property
    def is_empty(self) -> bool:
        """Whether no loss has said anything since the last time."""
        return self._sums is None

    def add(self, stats: Stats, step: Step | None = None) -> None:
        """What one loss says, and the weights of its step if it has its own; nobody waits."""
        sums = torch.cat([stats.task_nll, stats.task_tokens.double(), stats.numerator[None]])
        self._sums = sums if self._sums is None else self._sums + sums
        if step is not None and step.task_weights is not None and step.micro_batch == 0:
            weights = step.task_weights.double()
            self._weights = weights if self._weights is None else self._weights + weights
            self._steps += 1

    def take(self, prefix: str = "", *, with_loss: bool = False) -> dict[str, float]:
        """What was added up since the last time, over all ranks, which must all call this.

        Args:
            prefix: of each name.
            with_loss: "loss" too, that of Eq. 2 over all that was added up.

        Returns:
            "loss/<task>", the mean nll of its tokens, and "token_share/<task>", of all valid ones;
            neither for a task that had none. And "weight/<task>", the mean over the steps of
            lambda, where steps had their own.
        """
        sums, self._sums = self._sums, None
        if sums is None:
            return {}
        if dist.is_available() and dist.is_initialized() and dist.get_world_size(self._group) > 1:
            dist.all_reduce(sums, group=self._group)
        tasks = len(self._tasks)
        nll, tokens, numerator = sums[:tasks].tolist(), sums[tasks:-1].tolist(), float(sums[-1])
        seen = [task for task in range(tasks) if tokens[task] > 0]
        logged = {}
        if with_loss:
            weights = self._tasks.weights.tolist()
            denominator = sum(weights[task] * tokens[task] for task in seen)
            logged[f"{prefix}loss"] = numerator / denominator if denominator else 0.0
        for task in seen:
            name = self._tasks.label(task)
            logged[f"{prefix}loss/{name}"] = nll[task] / tokens[task]
            logged[f"{prefix}token_share/{name}"] = tokens[task] / sum(tokens)
        return logged | self._take_weights(prefix)

    def _take_weights(self, prefix: str) -> dict[str, float]:
        weights, steps = self._weights, self._steps
        self._weights, self._steps = None, 0
        if weights is None:
            return {}
        means = (weights / steps).tolist()
        return {f"{prefix}weight/{self._tasks.label(n)}": mean for n, mean in enumerate(means)}
