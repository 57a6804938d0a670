"""Lambda of each step, where a method changes it: `Method` told of the steps of a training.

The weights of a step are made before its first forward, of the losses up to the step before. Those
are added up on their device; with the step's last loss their sum over ranks sets out for the host,
and is awaited when the next step begins. By then the backward has long been under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._errors import ArgumentError, Error
from ..methods import METHODS, Method
from ..torch.gpu import HostCopy, beside
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


@dataclass
class _Begun:
    """A step whose weights were asked for.

    Attributes:
        steps_before: how many steps the optimiser had made; None where nobody knows.
        sums: nll and tokens by task, [2, tasks] fp64, of the micro-batches so far.
        on_its_way: the sums of the whole step, and what was counted, [3, tasks].
        is_told: whether its last micro-batch was.
    """

    steps_before: int | None
    sums: Tensor | None = None
    on_its_way: HostCopy | None = None
    is_told: bool = False


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
        self._begun: _Begun | None = None
        self._optimizer_steps: Callable[[], int] | None = None

    def follow(self, optimizer_steps: Callable[[], int]) -> None:
        """Lets `state_dict` know whether the optimiser has stepped since a step began.

        Args:
            optimizer_steps: says how many steps it has made in this training.
        """
        self._optimizer_steps = optimizer_steps

    def of_step(self, counts: Tensor) -> Tensor:
        """Lambda of the step that begins, [tasks] fp32, on the device of the counts.

        Args:
            counts: valid tokens of the whole step, over ranks too, [tasks + 1] as of
                `count_task_tokens`.
        """
        self._finish()
        self._begun = _Begun(None if self._optimizer_steps is None else self._optimizer_steps())
        if self.method.name == "TLA":
            # As `Method` has it; but the tokens may be on a GPU, which nobody waits for.
            tokens = counts[:-1].double()
            return torch.where(tokens > 0, 1.0 / tokens, 0.0).float()
        return weights_on(counts.device, torch.from_numpy(self.method.weights()))

    def add(self, stats: Stats, *, counted: Tensor, is_last: bool) -> None:
        """What the loss of one micro-batch says; nobody waits for it.

        Args:
            counted: valid tokens of the whole step by task, [tasks].
            is_last: whether it is the last micro-batch of the step, on this rank as on all. A step
                whose last nobody told of was abandoned, and is none to any method.
        """
        begun = self._begun
        if begun is None:  # It was forgotten, for a state was loaded.
            return
        begun.is_told = begun.is_told or is_last
        if not self.method.reads_losses:
            return
        sums = torch.stack([stats.task_nll, stats.task_tokens.double()]).detach()
        begun.sums = sums = sums if begun.sums is None else begun.sums + sums
        if is_last:
            if _ranks(self._group) > 1:
                dist.all_reduce(sums, group=self._group)
            counted = beside("the counts of a step", counted, sums)
            begun.on_its_way = HostCopy(torch.cat([sums, counted.double()[None]]))

    def require_losses(self) -> None:
        """Raises Error where a step is done, and nobody has added its losses."""
        if self._begun is not None and not self._begun.is_told:
            raise Error(
                f"the method {self.method.name} was not told the losses of a step; expected "
                "StepCounter.add(stats, step) after the loss of each micro-batch"
            )

    def state_dict(self) -> dict[str, Any]:
        """`Method.state_dict`, with the step that was trained last; to be asked between two steps.

        Where the optimiser is followed (`follow`), at any time: a step that it has not made is not
        in the state.
        """
        begun = self._begun
        steps = None if self._optimizer_steps is None else self._optimizer_steps()
        if begun is not None and (steps is None or steps != begun.steps_before):
            self._finish()
        return self.method.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """`Method.load_state_dict`; the step that was trained last is forgotten."""
        self.method.load_state_dict(state)
        self._begun = None

    def _finish(self) -> None:
        """Tells the method of the step that was trained, unless it was abandoned or told before."""
        begun = self._begun
        if begun is None or not begun.is_told:
            return
        self._begun = None
        if begun.on_its_way is None:
            self.method.update()
            return
        nll, found, counted = begun.on_its_way.wait()
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
