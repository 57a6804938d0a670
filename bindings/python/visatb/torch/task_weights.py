"""lambda, one weight per task: from a tensor, a sequence, or a weights.json."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from .._errors import ArgumentError
from ..scores import load_weights

TaskWeights = Tensor | Sequence[float] | str | os.PathLike[str]

_EXPECTED = "expected a float tensor [tasks], a sequence of numbers, or the path of a weights.json"


def prepare_task_weights(task_weights: TaskWeights, device: torch.device) -> Tensor:
    """The weights as fp32 [tasks] on the device; task id i has weight i (a file's "tasks" order).

    Errors: ArgumentError; for a file also FileError, DataError, UnsupportedError.
    """
    if isinstance(task_weights, Tensor):
        return _from_tensor(task_weights, device)
    if isinstance(task_weights, (str, os.PathLike)):
        return torch.from_numpy(load_weights(task_weights)).to(device)
    try:
        weights = torch.as_tensor(task_weights, dtype=torch.float32, device=device)
    except (TypeError, ValueError, RuntimeError):
        weights = torch.empty(0)
    if weights.dim() != 1 or not weights.numel():
        raise ArgumentError(f"task_weights = {task_weights!r}; {_EXPECTED}")
    return weights


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
    return task_weights.to(device, torch.float32)
