"""vitw_loss: arguments in, the operator called, the loss out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from . import ops
from .arguments import (
    Scalar,
    prepare_logits,
    prepare_options,
    prepare_overwriting,
    prepare_scalar,
    without_inference,
)
from .autograd import functional_loss, inplace_loss
from .no_derivative import anchor_to_logits, refuse_forward_mode
from .places import Given, in_words_of_the_caller
from .rows import prepare_rows
from .task_weights import TaskWeights, prepare_task_weights


class Stats(NamedTuple):
    """What the loss was made of, on the device of the logits; none of it is differentiable.

    Attributes:
        numerator: () fp64, sum of lambda * nll over the valid tokens.
        denominator: () fp64, D, as given or computed.
        task_nll: [tasks] fp64, sums of nll, not weighted.
        task_tokens: [tasks] int64, numbers of valid tokens.
        report: [2] int64: 0, or 1 if a valid row holds logits that are NaN, +inf or nothing but
            -inf; and the first such row, or -1.
    """

    numerator: Tensor
    denominator: Tensor
    task_nll: Tensor
    task_tokens: Tensor
    report: Tensor


@overload
def vitw_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    ignore_index: int = ...,
    denominator: Scalar | None = ...,
    reduction: str = ...,
    shift: bool = ...,
    label_smoothing: float = ...,
    softcap: float | None = ...,
    z_loss: float = ...,
    grad_scale: Scalar | None = ...,
    inplace: bool = ...,
    return_stats: Literal[False] = ...,
) -> Tensor: ...


@overload
def vitw_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    ignore_index: int = ...,
    denominator: Scalar | None = ...,
    reduction: str = ...,
    shift: bool = ...,
    label_smoothing: float = ...,
    softcap: float | None = ...,
    z_loss: float = ...,
    grad_scale: Scalar | None = ...,
    inplace: bool = ...,
    return_stats: Literal[True],
) -> tuple[Tensor, Stats]: ...


def vitw_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
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
) -> Tensor | tuple[Tensor, Stats]:
    """The task-weighted cross-entropy of VisATB (Eq. 2).

        L = sum_t lambda[task(t)] * nll(t) / D,    D = sum_t lambda[task(t)]

    over the valid tokens t (label != ignore_index). D belongs to the whole optimiser step: with
    gradient accumulation or several ranks, count it first and pass it as `denominator`.

    Args:
        logits: [rows, vocab] or [batch, seq, vocab]; fp32, bf16 or fp16 (fp64 for checks), on the
            CPU. Evenly strided rows are read where they are, others are copied.
        labels: [rows] or [batch, seq], integers: ignore_index or in [0, vocab).
        task_ids: [batch], [batch, seq] or [rows], integers in [0, tasks); not read where the label
            is ignored.
        task_weights: lambda: a float tensor [tasks], a sequence, a visatb.Weights, or the path of a
            weights.json. Task id i has weight i; for the last two, in the order of their tasks
            (VITWLoss takes another). A file is read at every call, which torch.compile cannot
            take: there, use VITWLoss or a tensor.
        ignore_index: the label of tokens that do not count.
        denominator: D, a number or a tensor of shape (), for which `vitw_denominator` counts; None:
            computed from these rows. Not with reduction="sum".
        reduction: "mean" divides by D, "sum" does not.
        shift: the labels are those of the logits' own positions, as causal models have them: row t
            predicts label t + 1, of that token's task, and the last row nothing. Needs
            [batch, seq] labels.
        label_smoothing, softcap, z_loss: off; this version has nothing else.
        grad_scale: the factor that is expected from upstream, such as the scale of a GradScaler: a
            number or a tensor of shape (), finite and not 0. It is multiplied into the gradient
            before that is rounded. The gradient is upstream * dL/dlogits whatever is given here.
        inplace: write the gradient over the logits, which nobody may read afterwards. Not for
            logits that are a leaf; one backward only. Where no gradient is needed the logits
            stay as they are; torch.compile manages memory itself and ignores this.
        return_stats: return (loss, Stats).

    Returns:
        L, a tensor of shape (), fp32 (fp64 for fp64 logits). Without a weighted token it is 0, and
        has a gradient of zeros.

    Errors:
        ArgumentError (a ValueError): what is wrong in which argument, and what would be right.
        UnsupportedError: another device than the CPU, an option that is not built yet, a second
        derivative or one in forward mode. DataError, FileError: a weights.json. Error: a second
        backward in place.
    """
    rows = prepare_logits(logits)
    needed = torch.is_grad_enabled() and logits.requires_grad
    overwritten = inplace and needed and not ops.is_tracing()
    if overwritten:
        rows = prepare_overwriting(logits, rows)
    row_labels, row_tasks = prepare_rows(logits, labels, task_ids, ignore_index, shift)
    arguments = (
        rows,
        row_labels,
        row_tasks,
        prepare_task_weights(task_weights, logits.device),
        prepare_scalar("denominator", denominator, logits.device, torch.float64),
        prepare_scalar("grad_scale", grad_scale, logits.device, torch.float32),
        *prepare_options(
            ignore_index,
            reduction,
            label_smoothing,
            softcap,
            z_loss,
            has_denominator=denominator is not None,
        ),
        # fp16 gradients of a whole step underflow before an unknown loss scale can reach them.
        needed and (logits.dtype != torch.float16 or grad_scale is not None),
    )
    if ops.is_tracing():
        loss, *statistics = functional_loss(*arguments)
    else:
        refuse_forward_mode(logits)
        given = Given(labels, task_ids, shift)
        loss, *statistics = _eager_loss(arguments, given, needed=needed, overwritten=overwritten)
    return (loss, Stats(*statistics[:5])) if return_stats else loss


def _eager_loss(
    arguments: tuple[Any, ...], given: Given, *, needed: bool, overwritten: bool
) -> tuple[Tensor, ...]:
    """The operator's results, with what compiled code does without."""
    if needed:
        arguments = tuple(
            without_inference(each) if isinstance(each, Tensor) else each for each in arguments
        )
    form = inplace_loss if overwritten else functional_loss
    try:
        loss, *others = form(*arguments)
    except (ArgumentError, UnsupportedError) as error:
        raise in_words_of_the_caller(error, given) from None
    return (anchor_to_logits(loss, arguments[0]) if needed else loss, *others)


visatb_vitw_loss = vitw_loss
