"""D of the whole optimiser step, counted before its losses."""

from __future__ import annotations

import torch
from torch import Tensor

from .._errors import ArgumentError
from . import gpu, ops
from .arguments import prepare_ignore_index
from .places import Given, place_and_value
from .rows import prepare_rows_without_logits
from .task_weights import TaskWeights, prepare_task_weights


def vitw_denominator(
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    ignore_index: int = -100,
    shift: bool = False,
) -> Tensor:
    """The denominator that `vitw_loss` computes for such a batch: the weight of its valid tokens.

    With gradient accumulation or several ranks, add it up over all batches of the optimiser step
    and give each loss the sum as its `denominator`.

    Args:
        labels, task_ids, task_weights, ignore_index, shift: as in `vitw_loss`. Labels of [rows]
            say where a sequence ends by task ids of [batch, seq] or [batch] only.

    Returns:
        D, a tensor of shape (), fp64, on the device of the labels.

    Errors: ArgumentError, also for a task id of a valid token that is not in [0, tasks); on a GPU,
    where nobody waits to look at it, it makes D NaN. Labels are not compared with a vocabulary. For
    a weights.json those of `load_weights`.
    """
    ignored = prepare_ignore_index(ignore_index)
    row_labels, row_tasks = prepare_rows_without_logits(labels, task_ids, ignored, shift)
    weights = prepare_task_weights(task_weights, labels.device)
    valid = row_labels != ignored
    # What stands beside an ignored label is not read.
    tasks = torch.where(valid, row_tasks, 0)
    weight = weights.double()
    if ops.has_value(tasks):
        _require_tasks(tasks, len(weights), Given(labels, task_ids, shift))
    elif gpu.is_gpu(tasks.device):
        # To read beyond the weights would end the process's work on this GPU.
        weight = torch.cat([weight, weight.new_full((1,), torch.nan)])
        tasks = torch.where((tasks < 0) | (tasks >= len(weights)), len(weights), tasks)
    weight = weight.index_select(0, tasks)
    return torch.where(valid, weight, 0.0).sum()


def _require_tasks(row_tasks: Tensor, tasks: int, given: Given) -> None:
    wrong = ((row_tasks < 0) | (row_tasks >= tasks)).nonzero()
    if len(wrong):
        found = place_and_value(given, "task_ids", int(wrong[0]))
        raise ArgumentError(f"{found}; expected a value in [0, {tasks})")
