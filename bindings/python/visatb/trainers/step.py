"""One numerator and one denominator over an optimiser step: the sum over micro-batches and ranks.

The denominator of Eq. 2 is known before the first forward of a step: it is made of labels, task ids
and weights alone. Whoever has the batches of a step ahead counts them here, once; each loss then
divides by it, and the sums add up by themselves, over micro-batches by gradient accumulation, and
over ranks by the averaging of gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from .._errors import ArgumentError
from ..methods import Method
from ..torch import gpu
from ..torch.denominator import weigh
from ..torch.module import VITWLinearLoss, VITWLoss
from ..torch.places import Given
from ..torch.stats import Stats
from .step_weights import StepWeights, make_method

Scope = Literal["step", "local"]
Criterion = VITWLoss | VITWLinearLoss

# Where a batch carries its Step; and before, how many of its rows are valid, where that is known on
# the host although the labels are on a GPU.
STEP = "visatb_step"
VALID_ROWS = "visatb_valid_rows"

Batch = dict[str, Any]


class Step:
    """What the loss of one micro-batch must know of its optimiser step.

    Neither a tensor nor a container: what moves, casts or splits the tensors of a batch lets it be.

    Attributes:
        denominator: () fp64, what the loss of this micro-batch divides by: D of the whole step,
            over the ranks that gradients are averaged over; in the scope "local", its own D times
            the micro-batches that are averaged.
        task_tokens: [tasks] int64, valid tokens of the whole step by task, over ranks too, in
            either scope.
        task_weights: [tasks] fp32, lambda of this step, where a method changes it; else None, for
            the criterion has it.
        own_tokens: [tasks] int64, those of this micro-batch.
        max_valid_rows: how many of this micro-batch's rows are valid, for `vitw_linear_loss`; None
            where only the GPU knows.
        micro_batch, micro_batches: the how-manieth of how many, on this rank.
    """

    __slots__ = (
        "denominator",
        "max_valid_rows",
        "micro_batch",
        "micro_batches",
        "own_tokens",
        "task_tokens",
        "task_weights",
    )

    def __init__(
        self,
        denominator: Tensor,
        task_tokens: Tensor,
        own_tokens: Tensor,
        max_valid_rows: int | None,
        micro_batch: int,
        micro_batches: int,
        task_weights: Tensor | None = None,
    ) -> None:
        self.denominator = denominator
        self.task_tokens = task_tokens
        self.own_tokens = own_tokens
        self.max_valid_rows = max_valid_rows
        self.micro_batch = micro_batch
        self.micro_batches = micro_batches
        self.task_weights = task_weights

    @property
    def is_last(self) -> bool:
        """Whether the optimiser steps after this micro-batch."""
        return self.micro_batch == self.micro_batches - 1


class StepCounter:
    """Counts the tokens of optimiser steps, each by one sum over ranks of a few integers.

    Args:
        criterion: the loss whose weights and options count.
        method: what changes the weights from step to step, by name or as a `visatb.Method`; each
            `Step` has its own, which the criterion must be given, and `add` must be told of each
            loss. None: the criterion's.
        scope: "step", Eq. 2; or "local", which divides each micro-batch by its own weight and
            averages: not Eq. 2, but what the paper's authors published. For comparisons.
        group: the ranks whose batches make up a step, all of which count together; None: all there
            are. Not the ranks of a tensor- or sequence-parallel group that share a batch.
        averaged: whether gradients are averaged over those ranks, as DistributedDataParallel, FSDP
            and DeepSpeed do, or added up.
        divided_later_by: what else the loss will be divided by, such as the accumulation steps by
            a trainer that does so in any case.
    """

    def __init__(
        self,
        criterion: Criterion,
        *,
        scope: Scope = "step",
        group: Any = None,
        averaged: bool = True,
        divided_later_by: int = 1,
        method: str | Method | None = None,
    ) -> None:
        if scope not in ("step", "local"):
            raise ArgumentError(f'scope = {scope!r}; expected "step" or "local"')
        if criterion.reduction != "mean":
            raise ArgumentError(
                f'a criterion with reduction = {criterion.reduction!r}; expected "mean", '
                "for the step's denominator divides"
            )
        self.criterion = criterion
        self._scope = scope
        self._group = group
        self._averaged = averaged
        self._divided_later_by = divided_later_by
        self.step_weights: StepWeights | None = None
        if method is not None:
            tasks = len(criterion.task_weights)
            self.step_weights = StepWeights(make_method(method, tasks), group)

    def count(self, given: Given) -> Tensor:
        """The tokens of one micro-batch by task, as `steps` takes them; nobody waits for a GPU."""
        return self.criterion.count_task_tokens(given)

    def steps(self, counts: Sequence[Tensor]) -> list[Step]:
        """The step of each micro-batch of one rank's window.

        Every rank of the group must call it as often, whatever its window holds.

        Args:
            counts: of each micro-batch, [tasks + 1] int64 by `count`, all on one device.
        """
        if not counts:
            return []
        ranks = self._ranks()
        total = torch.stack(list(counts)).sum(0)
        if ranks > 1:
            total = _sum_over_ranks(total, self._group)
        weights = None if self.step_weights is None else self.step_weights.of_step(total)
        return [self._step(total, counts, index, ranks, weights) for index in range(len(counts))]

    def add(self, stats: Stats, step: Step) -> None:
        """Tells the method, if there is one, what the loss of a micro-batch found.

        Each micro-batch of a step once, in their order; nobody waits for a GPU. A step that is
        never told of its last was abandoned, and is none to the method.
        """
        if self.step_weights is not None:
            self.step_weights.add(stats, counted=step.task_tokens, is_last=step.is_last)

    def attach(self, batches: Sequence[Batch], count: Callable[[Batch], Tensor]) -> list[Step]:
        """Gives each batch of a window its step; `count` says what tokens a batch has."""
        steps = self.steps([count(batch) for batch in batches])
        for batch, step in zip(batches, steps, strict=True):
            valid_rows = batch.pop(VALID_ROWS, None)
            if step.max_valid_rows is None:
                step.max_valid_rows = valid_rows
            batch[STEP] = step
        return steps

    def _step(
        self,
        total: Tensor,
        counts: Sequence[Tensor],
        index: int,
        ranks: int,
        weights: Tensor | None,
    ) -> Step:
        own = counts[index]
        if self._scope == "step":
            factor = self._divided_later_by * (ranks if self._averaged else 1)
            denominator = self._weigh(total, weights) / factor
        else:
            parts = len(counts) * (1 if self._averaged else ranks)
            denominator = self._weigh(own, weights) * (parts / self._divided_later_by)
        # Nobody waits for a GPU to tell.
        valid = int(own.sum()) if own.device.type == "cpu" else None
        return Step(denominator, total[:-1], own[:-1], valid, index, len(counts), weights)

    def _weigh(self, counts: Tensor, weights: Tensor | None) -> Tensor:
        own = self.criterion.weights_on(counts.device) if weights is None else weights
        return weigh(counts, own.to(counts.device))

    def _ranks(self) -> int:
        if not (dist.is_available() and dist.is_initialized()):
            return 1
        return dist.get_world_size(self._group)


def _sum_over_ranks(counts: Tensor, group: Any) -> Tensor:
    # NCCL knows no memory but a GPU's.
    if counts.device.type == "cpu" and dist.get_backend(group) == "nccl":
        device = torch.device("cuda", torch.cuda.current_device())
        counts = gpu.without_waiting("the counts of a step", counts, device)
    dist.all_reduce(counts, group=group)
    return counts
