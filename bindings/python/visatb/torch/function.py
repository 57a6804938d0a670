"""vitw_loss: arguments in, the operator called, the loss out."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from . import ops
from .arguments import Scalar, forms_in_forward, prepare_overwriting, prepare_terms, prepare_tokens
from .autograd import NAME, functional_loss, inplace_loss
from .eager import call_eagerly
from .places import Given
from .rows import Tokens
from .stats import Stats
from .task_weights import TaskWeights


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

        L = sum_t lambda[task(t)] * l(t) / D,    D = sum_t lambda[task(t)]

    over the valid tokens t (label != ignore_index). D belongs to the whole optimiser step: with
    gradient accumulation or several ranks, count it first and pass it as `denominator`. l is the
    nll, or with the options, over the logits z after `softcap`,

        l = (1 - e) * nll + (e / vocab) * sum_j (lse - z_j) + zeta * lse^2

    Args:
        logits: [rows, vocab] or [batch, seq, vocab], on the CPU or a GPU of NVIDIA's; fp32, bf16 or
            fp16 (on the CPU fp64 too, for checks). Evenly strided rows are read where they are,
            others are copied. labels and task_ids are on the same device.
        labels: [rows] or [batch, seq], integers: ignore_index or in [0, vocab).
        task_ids: [batch], [batch, seq] or [rows], integers in [0, tasks); not read where the label
            is ignored.
        task_weights: lambda: a float tensor [tasks], a sequence, a visatb.Weights, or the path of a
            weights.json. Task id i has weight i; for the last two, in the order of their tasks
            (VITWLoss takes another). A file is read at every call, which torch.compile cannot
            take: there, use VITWLoss or a tensor. What is not on the logits' device is copied
            there at every call; VITWLoss does so once.
        ignore_index: the label of tokens that do not count.
        denominator: D, a number or a tensor of shape (), for which `vitw_denominator` counts; None:
            computed from these rows. Not with reduction="sum". On a GPU a CUDA graph reads a tensor
            of that GPU anew at each replay; a number, or a tensor of the CPU, stays what it was.
        reduction: "mean" divides by D, "sum" does not.
        shift: the labels are those of the logits' own positions, as causal models have them: row t
            predicts label t + 1, of that token's task, and the last row nothing. Needs
            [batch, seq] labels.
        label_smoothing: e in [0, 1]; 0 is off.
        softcap: c > 0 takes c tanh(logits / c) for the logits; None or 0 is off.
        z_loss: zeta >= 0; 0 is off.
        grad_scale: the factor that is expected from upstream, such as the scale of a GradScaler: a
            number or a tensor of shape (), finite and not 0. It is multiplied into the gradient
            before that is rounded. The gradient is upstream * dL/dlogits whatever is given here.
            For CUDA graphs as `denominator`.
        inplace: write the gradient over the logits, which nobody may read afterwards. Not for
            logits that are a leaf; one backward only. Where no gradient is needed the logits
            stay as they are; torch.compile manages memory itself and ignores this.
        return_stats: return (loss, Stats).

    Returns:
        L, a tensor of shape (), fp32 (fp64 for fp64 logits). Without a weighted token it is 0, and
        has a gradient of zeros.

    On a GPU neither this nor the backward waits for it, and CUDA graphs take both. So nobody looks
    at what its memory holds: a bad label, task id, weight or denominator is no ArgumentError there,
    but a loss of NaN, NaN in the gradients concerned, and a code in `Stats.report`.

    Errors:
        ArgumentError (a ValueError): what is wrong in which argument, and what would be right.
        UnsupportedError: a device that is neither, a GPU that this library or this machine cannot
            use, a second derivative or one in forward mode.
        DataError, FileError: a weights.json. Error: a second backward in place, a GPU that failed.
    """
    tokens = Tokens("logits", logits)
    rows = prepare_tokens(tokens, "vocab")
    needed = torch.is_grad_enabled() and logits.requires_grad
    overwritten = inplace and needed and not ops.is_tracing()
    if overwritten:
        rows = prepare_overwriting(logits, rows)
    terms = prepare_terms(
        tokens,
        labels,
        task_ids,
        task_weights,
        ignore_index=ignore_index,
        denominator=denominator,
        reduction=reduction,
        shift=shift,
        label_smoothing=label_smoothing,
        softcap=softcap,
        z_loss=z_loss,
        grad_scale=grad_scale,
    )
    formed = needed and forms_in_forward(logits.dtype, grad_scale)
    arguments = (rows, *terms, formed)
    if ops.is_tracing():
        loss, *statistics = functional_loss(*arguments)
    else:
        form = inplace_loss if overwritten else functional_loss
        given = Given(labels, task_ids, shift)
        loss, *statistics = call_eagerly(NAME, form, arguments, given, differentiable=1)
    return (loss, Stats(*statistics[:5])) if return_stats else loss


visatb_vitw_loss = vitw_loss
