"""VITWLoss and VITWLinearLoss: the losses as modules that keep lambda and the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import ArgumentError
from . import gpu, ops
from .arguments import Scalar
from .denominator import count_task_tokens, vitw_denominator
from .function import vitw_loss
from .linear import vitw_linear_loss
from .places import Given
from .stats import Stats
from .task_weights import (
    TaskWeights,
    have_names,
    prepare_names,
    prepare_task_weights,
    weights_on,
)


class _Loss(nn.Module):
    """A loss with its weights and options kept.

    The weights are neither parameters nor buffers, since `.to(torch.bfloat16)` and training engines
    would round those. Each device that the loss is used on gets a copy, at the first call there.
    """

    def __init__(
        self,
        task_weights: TaskWeights,
        *,
        tasks: Sequence[str] | None,
        ignore_index: int,
        denominator: Scalar | None,
        reduction: str,
        shift: bool,
        label_smoothing: float,
        softcap: float | None,
        z_loss: float,
        grad_scale: Scalar | None,
        return_stats: bool,
    ) -> None:
        super().__init__()
        if tasks is not None and not have_names(task_weights):
            raise ArgumentError(
                "tasks with task_weights that have no names; expected tasks = None, "
                "a weights.json or visatb.Weights"
            )
        self.tasks = prepare_names(tasks)
        self.task_weights = task_weights
        self.ignore_index = ignore_index
        self.denominator = denominator
        self.reduction = reduction
        self.shift = shift
        self.label_smoothing = label_smoothing
        self.softcap = softcap
        self.z_loss = z_loss
        self.grad_scale = grad_scale
        self.return_stats = return_stats

    @property
    def task_weights(self) -> Tensor:
        """A copy of lambda, [tasks] fp32 on the CPU; set anew in any form the constructor takes.

        Weights that know their names come in the order of `tasks`, if that was given.
        """
        return self._by_device[torch.device("cpu")].clone()

    @task_weights.setter
    def task_weights(self, task_weights: TaskWeights) -> None:
        tasks = self.tasks if have_names(task_weights) else None
        weights = prepare_task_weights(task_weights, torch.device("cpu"), tasks)
        # A copy: what the caller does to his tensor later is not to change the loss unseen. None of
        # inference mode's, which could not be written to or saved for a backward after it.
        with torch.inference_mode(mode=False):
            weights = weights.detach().clone()
            before: dict[torch.device, Tensor] = self.__dict__.get("_by_device", {})
            kept = [one for one in before if gpu.is_gpu(one) and before[one].shape == weights.shape]
            # All of them before the first is changed: a capture refuses them.
            changed = {device: weights_on(device, weights) for device in kept}
            # In place: a CUDA graph reads the weights where they were when it was captured.
            copies = {device: before[device].copy_(new) for device, new in changed.items()}
        self._by_device = {weights.device: weights, **copies}

    def __getstate__(self) -> dict[str, Any]:
        # The GPU that a loss was used on need not be there where it is loaded.
        return {**self.__dict__, "_by_device": {torch.device("cpu"): self.task_weights}}

    def __setattr__(self, name: str, value: Any) -> None:
        # nn.Module would register a Parameter before the property could refuse it.
        if name == "task_weights":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def denominator_of(self, labels: Tensor, task_ids: Tensor) -> Tensor:
        """`vitw_denominator` of such a batch, with the weights and options of this loss."""
        return vitw_denominator(
            labels,
            task_ids,
            self.weights_on(labels.device),
            ignore_index=self.ignore_index,
            shift=self.shift,
        )

    def count_task_tokens(self, given: Given) -> Tensor:
        """`count_task_tokens` of such labels, with the tasks and the ignore_index of this loss."""
        tasks = len(self._by_device[torch.device("cpu")])
        return count_task_tokens(given, tasks, self.ignore_index)

    def weights_on(self, device: torch.device) -> Tensor:
        """Lambda on a device, [tasks] fp32, to be read only; kept there for later calls."""
        if device not in self._by_device:
            weights = self._by_device[torch.device("cpu")]
            if ops.is_tracing():
                self._by_device[device] = weights_on(device, weights)
            else:
                with torch.inference_mode(mode=False):
                    self._by_device[device] = weights_on(device, weights)
        return self._by_device[device]

    def _weights_of_call(self, task_weights: Tensor | None, device: torch.device) -> Tensor:
        """Those that a call gives itself, for this loss's tasks; else the loss's own."""
        if task_weights is None:
            return self.weights_on(device)
        tasks = len(self._by_device[torch.device("cpu")])
        if not isinstance(task_weights, Tensor):
            raise ArgumentError(
                f"task_weights of a call is a {type(task_weights).__name__}; expected a float "
                f"tensor [{tasks}]"
            )
        if task_weights.shape != (tasks,):
            shape = tuple(task_weights.shape)
            raise ArgumentError(f"task_weights has shape {shape}; expected ({tasks},)")
        return task_weights

    def _options(self, denominator: Scalar | None, grad_scale: Scalar | None) -> dict[str, Any]:
        """What both functions take, with the two that a call may give itself."""
        return {
            "ignore_index": self.ignore_index,
            "denominator": self.denominator if denominator is None else denominator,
            "reduction": self.reduction,
            "shift": self.shift,
            "label_smoothing": self.label_smoothing,
            "softcap": self.softcap,
            "z_loss": self.z_loss,
            "grad_scale": self.grad_scale if grad_scale is None else grad_scale,
        }

    def extra_repr(self) -> str:
        """The weights, and the options that shape the loss."""
        used = {
            "label_smoothing": self.label_smoothing,
            "softcap": self.softcap,
            "z_loss": self.z_loss,
        }
        return ", ".join(
            [
                f"task_weights={self.task_weights.tolist()}, ignore_index={self.ignore_index}",
                f"reduction={self.reduction!r}, shift={self.shift}",
                *(f"{name}={value}" for name, value in used.items() if value),
            ]
        )


class VITWLoss(_Loss):
    """`vitw_loss` with its weights and options kept.

        loss = VITWLoss("weights.json", shift=True)
        loss(logits, labels, task_ids).backward()

    The weights stay fp32 whatever the module is cast to, and in no state_dict. A GPU gets its copy
    of them at the first call there, which a CUDA graph cannot capture; new ones that are set later
    reach the replays of a graph too.

    Args:
        task_weights: as in `vitw_loss`; a weights.json is read once, here, so that `torch.compile`
            takes the module.
        tasks: the names of the tasks in the order of the trainer's ids, for a weights.json or
            visatb.Weights; task id i is tasks[i]. None: the file's order counts.
        ignore_index, denominator, reduction, shift, label_smoothing, softcap, z_loss, grad_scale,
        inplace, return_stats: as in `vitw_loss`. `denominator` and `grad_scale` change from step to
        step, so that a call can give its own; and its own task_weights, a float tensor [tasks].

    Errors: those of `vitw_loss`.
    """

    def __init__(
        self,
        task_weights: TaskWeights,
        *,
        tasks: Sequence[str] | None = None,
        ignore_index: int = -100,
        denominator: Scalar | None = None,
        reduction: str = "mean",
        shift: bool = False,
        label_smoothing: float = 0.0,
        softcap: float | None = None,
        z_loss: float = 0.0,
        grad_scale: Scalar | None = None,
        inplace: bool = False,
        return_stats: bool = False,
    ) -> None:
        super().__init__(
            task_weights,
            tasks=tasks,
            ignore_index=ignore_index,
            denominator=denominator,
            reduction=reduction,
            shift=shift,
            label_smoothing=label_smoothing,
            softcap=softcap,
            z_loss=z_loss,
            grad_scale=grad_scale,
            return_stats=return_stats,
        )
        self.inplace = inplace

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        task_ids: Tensor,
        *,
        denominator: Scalar | None = None,
        grad_scale: Scalar | None = None,
        task_weights: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Stats]:
        """The loss, or (loss, Stats); arguments and shapes as in `vitw_loss`."""
        loss, stats = vitw_loss(
            logits,
            labels,
            task_ids,
            self._weights_of_call(task_weights, logits.device),
            inplace=self.inplace,
            return_stats=True,
            **self._options(denominator, grad_scale),
        )
        return (loss, stats) if self.return_stats else loss

    def extra_repr(self) -> str:
        """The weights, and the options that shape the loss."""
        return f"{super().extra_repr()}, inplace={self.inplace}"


class VITWLinearLoss(_Loss):
    """`vitw_linear_loss` with its weights and options kept.

        loss = VITWLinearLoss("weights.json", shift=True)
        loss(hidden, model.lm_head.weight, labels, task_ids).backward()

    The head is not kept: it belongs to the model, and comes with each call.

    Args:
        task_weights, tasks: as in `VITWLoss`.
        ignore_index, denominator, reduction, shift, label_smoothing, softcap, z_loss, grad_scale,
        return_stats, chunk_bytes, allow_sync: as in `vitw_linear_loss`. `denominator` and
        `grad_scale` change from step to step, so that a call can give its own; and its own
        task_weights, a float tensor [tasks].

    Errors: those of `vitw_linear_loss`.
    """

    def __init__(
        self,
        task_weights: TaskWeights,
        *,
        tasks: Sequence[str] | None = None,
        ignore_index: int = -100,
        denominator: Scalar | None = None,
        reduction: str = "mean",
        shift: bool = False,
        label_smoothing: float = 0.0,
        softcap: float | None = None,
        z_loss: float = 0.0,
        grad_scale: Scalar | None = None,
        return_stats: bool = False,
        chunk_bytes: int | None = None,
        allow_sync: bool = False,
    ) -> None:
        super().__init__(
            task_weights,
            tasks=tasks,
            ignore_index=ignore_index,
            denominator=denominator,
            reduction=reduction,
            shift=shift,
            label_smoothing=label_smoothing,
            softcap=softcap,
            z_loss=z_loss,
            grad_scale=grad_scale,
            return_stats=return_stats,
        )
        self.chunk_bytes = chunk_bytes
        self.allow_sync = allow_sync

    def forward(
        self,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        task_ids: Tensor,
        *,
        bias: Tensor | None = None,
        denominator: Scalar | None = None,
        grad_scale: Scalar | None = None,
        task_weights: Tensor | None = None,
        max_valid_rows: int | None = None,
    ) -> Tensor | tuple[Tensor, Stats]:
        """The loss, or (loss, Stats); arguments and shapes as in `vitw_linear_loss`."""
        loss, stats = vitw_linear_loss(
            hidden,
            weight,
            labels,
            task_ids,
            self._weights_of_call(task_weights, hidden.device),
            bias=bias,
            return_stats=True,
            chunk_bytes=self.chunk_bytes,
            allow_sync=self.allow_sync,
            max_valid_rows=max_valid_rows,
            **self._options(denominator, grad_scale),
        )
        return (loss, stats) if self.return_stats else loss

    def extra_repr(self) -> str:
        """The weights, and the options that shape the loss."""
        sync = ", allow_sync=True" if self.allow_sync else ""
        return f"{super().extra_repr()}, chunk_bytes={self.chunk_bytes}{sync}"
