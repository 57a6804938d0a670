"""lambda, one weight per task: a tensor, a sequence, a weights.json, or `visatb.Weights`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .._errors import ArgumentError
from ..scores import Weights, load_weights
from . import gpu, ops

TaskWeights = Tensor | Sequence[float] | str | os.PathLike[str] | Weights

_EXPECTED = (
    "expected a float tensor [tasks], a sequence of numbers, the path of a weights.json, "
    "or visatb.Weights"
)


def prepare_task_weights(
    task_weights: TaskWeights, device: torch.device, tasks: Sequence[str] | None = None
) -> Tensor:
    """The weights as fp32 [tasks] on the device; task id i has weight i.

    Args:
        task_weights: as in `vitw_loss`.
        device: where the weights go.
        tasks: for weights by name, the names in the order of the ids; None: as they stand there.

    Errors: ArgumentError; for a file also FileError, DataError, UnsupportedError.
    """
    if isinstance(task_weights, Tensor):
        return _from_tensor(task_weights, device)
    if isinstance(task_weights, Weights):
        named = torch.tensor(_from_weights(task_weights, tasks), dtype=torch.float32, device="cpu")
        return weights_on(device, named)
    if isinstance(task_weights, (str, os.PathLike)):
        return weights_on(device, torch.from_numpy(load_weights(task_weights, tasks)))
    try:
        weights = torch.as_tensor(task_weights, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        weights = torch.empty(0)
    if weights.dim() != 1 or not weights.numel():
        raise ArgumentError(f"task_weights = {task_weights!r}; {_EXPECTED}")
    return weights_on(device, weights)


def weights_on(device: torch.device, weights: Tensor) -> Tensor:
    """The weights as fp32 on the device.

    Errors: UnsupportedError for weights of the host's while a CUDA graph is captured.
    """
    weights = weights.to(torch.float32)
    if gpu.is_gpu(device) and ops.has_value(weights):
        return gpu.without_waiting("task_weights", weights, device)
    return weights.to(device)


def prepare_names(tasks: Sequence[str] | None) -> list[str] | None:
    """A copy of the names; which of them there are, the weights know."""
    if tasks is None:
        return None
    # A string is a sequence of strings too.
    if isinstance(tasks, (str, bytes)) or not isinstance(tasks, Iterable):
        raise ArgumentError(f"tasks = {tasks!r}; expected a list of names")
    names = list(tasks)
    if not names:
        raise ArgumentError("tasks = []; expected at least one name")
    return names


def have_names(task_weights: object) -> bool:
    """Whether the weights know the names of their tasks."""
    return isinstance(task_weights, (str, os.PathLike, Weights))


def _from_weights(weights: Weights, tasks: Sequence[str] | None) -> list[float]:
    names = weights.tasks if tasks is None else tasks
    for name in names:
        if name not in weights.tasks:
            raise ArgumentError(
                f"tasks names {name!r}; expected names that the weights have: "
                f"{', '.join(weights.tasks)}"
            )
    return [weights.weights[name] for name in names]


def _from_tensor(task_weights: Tensor, device: torch.device) -> Tensor:
    if not task_weights.is_floating_point():
        raise ArgumentError(f"task_weights is a tensor of {task_weights.dtype}; {_EXPECTED}")
    if task_weights.dim() != 1 or not task_weights.numel():
        shape = tuple(task_weights.shape)
        raise ArgumentError(f"task_weights has shape {shape}; expected (tasks,), with tasks >= 1")
    if task_weights.requires_grad:
        raise ArgumentError(
            "task_weights requires grad; expected task_weights.detach(), "
            "for the loss is not differentiated in it"
        )
    return weights_on(device, task_weights)
