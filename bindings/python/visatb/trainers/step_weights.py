"""Lambda of each step, where a method changes it: `Method` told of the steps of a training.

The weights of a step are made before its first forward, of the losses up to the step before. Those
are added up on their device; with the step's last loss their sum over ranks sets out for the host,
and is awaited when the next step begins. By then the backward has long been under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._errors import ArgumentError, Error
from ..methods import METHODS, Method
from ..torch.gpu import HostCopy
from ..torch.stats import Stats
from ..torch.task_weights import weights_on


def make_method(method: str | Method, tasks: int, seed: int = 0) -> Method:
    """The method itself, or that of this name, for so many tasks.

    Errors: ArgumentError for another name, and for a method of another number of tasks.
    """
    if isinstance(method, str):
        return Method(method, tasks, seed=seed)
    if not isinstance(method, Method):
        raise ArgumentError(
            f"method = {method!r}; expected one of {', '.join(METHODS)}, or a visatb.Method"
        )
    if method.tasks != tasks:
        raise ArgumentError(
            f"a method for {method.tasks} tasks with {tasks} task_weights; expected as many"
        )
    return method


class StepWeights:
    """What a method makes of the steps of a training.

    Every rank has its own, and all of them the same weights.

    Args:
        method: it is told of every step from here on.
        group: the ranks whose losses make up a step; None: all there are.
    """

    def __init__(self, method: Method, group: Any = None) -> None:
        self.method = method
        self._group = group
        self._is_begun = False
        self._sums: Tensor | None = None
        self._on_its_way: HostCopy | None = None

    def of_step(self, counts: Tensor) -> Tensor:
        """Lambda of the step that begins, [tasks] fp32, on the device of the counts.

        Args:
            counts: valid tokens of the whole step, over ranks too, [tasks + 1] as of
                `count_task_tokens`.
        """
        self._finish()
        self._is_begun, self._sums = True, None
        if self.method.name == "TLA":
            # As `Method` has it; but the tokens may be on a GPU, which nobody waits for.
            tokens = counts[:-1].double()
            return torch.where(tokens > 0, 1.0 / tokens, 0.0).float()
        return weights_on(counts.device, torch.from_numpy(self.method.weights()))

    def add(self, stats: Stats, *, counted: Tensor, is_last: bool) -> None:
        """What the loss of one micro-batch says; nobody waits for it.

        Args:
            counted: valid tokens of the whole step by task, [tasks].
            is_last: whether it is the last micro-batch of the step, on this rank as on all.
        """
        if not self.method.reads_losses:
            return
        sums = torch.stack([stats.task_nll, stats.task_tokens.double()]).detach()
        self._sums = sums if self._sums is None else self._sums + sums
        if is_last:
            if _ranks(self._group) > 1:
                dist.all_reduce(self._sums, group=self._group)
            told = torch.cat([self._sums, counted.to(sums.device).double()[None]])
            self._on_its_way = HostCopy(told)

    def require_losses(self) -> None:
        """Raises Error where a step is done, and nobody has added its losses."""
        if self.method.reads_losses and self._is_begun and self._on_its_way is None:
            raise Error(
                f"the method {self.method.name} was not told the losses of a step; expected "
                "StepCounter.add(stats, step) after the loss of each micro-batch"
            )

    def state_dict(self) -> dict[str, Any]:
        """`Method.state_dict`, with the step that was trained last; not in the midst of one."""
        self._finish()
        return self.method.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """`Method.load_state_dict`; the step that was trained last is forgotten."""
        self.method.load_state_dict(state)
        self._is_begun, self._sums, self._on_its_way = False, None, None

    def _finish(self) -> None:
        """Tells the method of the step that was trained, unless it was abandoned or told before."""
        on_its_way, self._on_its_way = self._on_its_way, None
        is_begun, self._is_begun = self._is_begun, False
        if not self.method.reads_losses:
            if is_begun:
                self.method.update()
        elif on_its_way is not None:
            nll, found, counted = on_its_way.wait()
            if not torch.equal(found, counted):
                raise Error(
                    f"the losses of a step were of {_integers(found)} valid tokens by task, and "
                    f"{_integers(counted)} were counted; expected the same: each micro-batch's "
                    "loss told once"
                )
            # What overflowed is no loss: its task counts as one that was not there.
            is_loss = nll.isfinite()
            tokens = torch.where(is_loss, found, 0.0)
            self.method.update(torch.where(is_loss, nll, 0.0).numpy(), tokens.long().numpy())


def _ranks(group: Any) -> int:
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(group)


def _integers(tokens: Tensor) -> list[int]:
    return [int(each) for each in tokens.tolist()]
