"""D of the whole optimiser step, and the tokens that it is made of, counted before its losses."""

from __future__ import annotations

import torch
from torch import Tensor

from .._errors import ArgumentError
from . import ops
from .arguments import prepare_ignore_index
from .places import Given, place_and_value
from .rows import prepare_rows_without_logits
from .task_weights import TaskWeights, prepare_task_weights


def count_task_tokens(given: Given, tasks: int, ignore_index: int = -100) -> Tensor:
    """The numbers of valid tokens by task, [tasks + 1] int64, on the device of the labels.

    Integers, so that sums over micro-batches and ranks have the same bits in any order, and engines
    that cast the float tensors of a batch leave them alone.

    Args:
        given: labels [batch, seq] or [rows]; task ids [batch], [batch, seq] or [rows]; and whether
            row t predicts label t + 1.
        tasks: how many there are.

    Returns:
        Behind the tasks stands the number of valid tokens with a task id that is not in [0, tasks):
        0 on the CPU, where it is an error; on a GPU nobody waits to look at it.

    Errors: ArgumentError.
    """
    row_labels, row_tasks = prepare_rows_without_logits(*given[:2], ignore_index, given.shift)
    valid = row_labels != ignore_index
    # What stands beside an ignored label is not read.
    row_tasks = torch.where(valid, row_tasks, 0)
    wrong = (row_tasks < 0) | (row_tasks >= tasks)
    if ops.has_value(wrong):
        _refuse(wrong, tasks, given)
    slots = torch.where(wrong, tasks, row_tasks).to(torch.int64)
    return slots.new_zeros(tasks + 1).index_add(0, slots, valid.to(torch.int64))


def weigh(counts: Tensor, weights: Tensor) -> Tensor:
    """The weight of so many tokens by task, () fp64; NaN if some have no task.

    Args:
        counts: as `count_task_tokens` gives them, or a sum of such.
        weights: lambda, [tasks] fp32, on the same device.
    """
    # Not by indices, which ask for the device of tensors that have none (fake ones).
    tokens, lost = torch.split(counts, [len(weights), 1])
    # Without a token of a task its weight, be it infinite, adds nothing.
    each = torch.where(tokens > 0, weights.double() * tokens, 0.0)
    return torch.where(lost.squeeze(0) > 0, torch.nan, each.sum())


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
    given = Given(labels, task_ids, shift)
    # What is no tensor has no device, and is refused when it is counted.
    device = getattr(labels, "device", torch.device("cpu"))
    weights = prepare_task_weights(task_weights, device)
    return weigh(count_task_tokens(given, len(weights), ignored), weights)


def _refuse(wrong: Tensor, tasks: int, given: Given) -> None:
    rows = wrong.nonzero()
    if len(rows):
        found = place_and_value(given, "task_ids", int(rows[0]))
        raise ArgumentError(f"{found}; expected a value in [0, {tasks})")
