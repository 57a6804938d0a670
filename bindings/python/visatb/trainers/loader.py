"""A DataLoader whose batches know their optimiser step."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from .._errors import ArgumentError
from ..torch.places import Given
from .refusals import refuse_weighted_sampling
from .step import Batch, Criterion, Scope, StepCounter


class StepLoader:
    """Any DataLoader, looking one accumulation window ahead.

        for batch in StepLoader(loader, criterion, accumulation_steps=4):
            step = batch.pop("visatb_step")
            logits = model(batch["input_ids"])
            loss = criterion(
                logits, batch["labels"], batch["task_ids"], denominator=step.denominator
            )
            loss.backward()
            if step.is_last:
                optimizer.step()
                optimizer.zero_grad()

    The window's batches are taken from the loader together, then handed out one by one; with
    accumulation_steps=1 nothing waits. The last window of an epoch may be shorter.

    Args:
        loader: of dicts, which get their `Step` as "visatb_step"; the attribute `loader`. What it
            has besides, such as `set_epoch`, is there too.
        criterion: VITWLoss or VITWLinearLoss, or the StepCounter of one, which may have a method
            that changes the weights from step to step.
        accumulation_steps: micro-batches of a rank between two steps of the optimiser.
        count: how many valid tokens of each task a batch has, where that is not to be read off its
            "labels" and "task_ids" (`StepCounter.count`).
        scope, group, averaged, divided_later_by: as in `StepCounter`.
        allow_weighted_sampling: the loader draws by weights that are not the task weights.

    Every rank must have as many batches.

    Errors: ArgumentError; for a batch without labels or task ids too.
    """

    def __init__(
        self,
        loader: Iterable[Batch],
        criterion: Criterion | StepCounter,
        *,
        accumulation_steps: int = 1,
        count: Callable[[Batch], Tensor] | None = None,
        scope: Scope = "step",
        group: Any = None,
        averaged: bool = True,
        divided_later_by: int = 1,
        allow_weighted_sampling: bool = False,
    ) -> None:
        if accumulation_steps < 1:
            raise ArgumentError(f"accumulation_steps = {accumulation_steps}; expected at least 1")
        if not allow_weighted_sampling:
            refuse_weighted_sampling(loader)
        self.loader = loader
        self._accumulation_steps = accumulation_steps
        self._counter = (
            criterion
            if isinstance(criterion, StepCounter)
            else StepCounter(
                criterion,
                scope=scope,
                group=group,
                averaged=averaged,
                divided_later_by=divided_later_by,
            )
        )
        self._count = self._count_labels if count is None else count

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        # A window is taken whole and no further: what comes after the last one, a loader is asked
        # for only when the trainer is done with it.
        while window := list(itertools.islice(batches, self._accumulation_steps)):
            self._counter.attach(window, self._count)
            yield from window
            if self._counter.step_weights is not None:
                self._counter.step_weights.require_losses()

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        # While it is unpickled there is no loader yet.
        if "loader" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["loader"], name)

    def over(self, loader: Iterable[Batch]) -> StepLoader:
        """The same over another loader, such as one that skips batches."""
        other = copy.copy(self)
        other.loader = loader
        return other

    def _count_labels(self, batch: Batch) -> Tensor:
        for key in ("labels", "task_ids"):
            if key not in batch:
                raise ArgumentError(
                    f"a batch without {key!r} (it has: {', '.join(map(str, batch))}); "
                    "expected labels and task_ids, which TaskCollator adds"
                )
        shift = self._counter.criterion.shift
        return self._counter.count(Given(batch["labels"], batch["task_ids"], shift))
