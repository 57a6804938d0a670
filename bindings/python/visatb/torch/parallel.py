"""vitw_vocab_parallel_loss: arguments in, the ranks' exchange, the loss out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from . import ops
from .arguments import Scalar, forms_in_forward, prepare_overwriting, prepare_terms, prepare_tokens
from .call import with_plain_rows
from .eager import call_eagerly
from .parallel_autograd import NAME, parallel_loss
from .places import Given
from .rows import Tokens
from .slices import find_slice
from .stats import Stats
from .task_weights import TaskWeights


@overload
def vitw_vocab_parallel_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    group: Any = ...,
    widths: Sequence[int] | None = ...,
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
def vitw_vocab_parallel_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    group: Any = ...,
    widths: Sequence[int] | None = ...,
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


def vitw_vocab_parallel_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    group: Any = None,
    widths: Sequence[int] | None = None,
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
    """`vitw_loss` where the ranks of a process group share the vocabulary (tensor parallelism).

    Every rank of the group calls this with the same labels, task ids, weights and options, and with
    the logits of its own words for all rows. They exchange six fp64 numbers for each row, once;
    the backward is each rank's own.

    Args:
        logits: [rows, width] or [batch, seq, width], of the words that this rank has. Those of rank
            0 are the first words of the vocabulary, those of rank 1 the next. Ranks may have
            different numbers of them. Otherwise as in `vitw_loss`.
        labels: [rows] or [batch, seq], integers: ignore_index or in [0, vocab), numbers of the
            whole vocabulary. Where another group shares the sequences (sequence or context
            parallelism), shift the labels before they are split, and count the `denominator` over
            that group: the last row of a part predicts the first label of the next.
        group: the ranks, a ProcessGroup; None: all of them.
        widths: how many words each rank has, in the order of ranks. None: they ask each other at
            every call, for which a GPU is waited for. With it nobody waits for a GPU, and nobody
            compares what the ranks have there: it is then for the caller to see to it that all have
            the same rows and the same widths, or they may hang, or find a wrong loss. On the CPU
            they ask in any case.
        task_ids, task_weights, ignore_index, denominator, reduction, shift, label_smoothing,
        softcap, z_loss, grad_scale, inplace, return_stats: as in `vitw_loss`.

    Returns:
        L, the same bits on every rank, as `vitw_loss` returns it. The gradient is that of this
        rank's logits: nothing is summed over ranks, and nothing averaged.

    torch.compile takes it as an interruption of its graph.

    Errors: those of `vitw_loss`; ArgumentError also where the ranks' rows differ in number, or
    their logits are not of `widths` (on a GPU with `widths`, those of this rank).
    A rank that alone finds its arguments wrong leaves the others waiting, as with any exchange.
    """
    # What PyTorch compiles around it is not to follow it inside.
    form: Callable[..., Any] = _loss
    if ops.is_tracing():
        form = torch.compiler.disable(_loss)  # type: ignore[no-untyped-call]
    found: Tensor | tuple[Tensor, Stats] = form(
        logits,
        labels,
        task_ids,
        task_weights,
        group,
        widths,
        inplace,
        return_stats,
        ignore_index=ignore_index,
        denominator=denominator,
        reduction=reduction,
        shift=shift,
        label_smoothing=label_smoothing,
        softcap=softcap,
        z_loss=z_loss,
        grad_scale=grad_scale,
    )
    return found


def _loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    group: Any,
    widths: Sequence[int] | None,
    inplace: bool,
    return_stats: bool,
    **options: Any,
) -> Tensor | tuple[Tensor, Stats]:
    tokens = Tokens("logits", logits)
    rows = prepare_tokens(tokens, "width")
    needed = torch.is_grad_enabled() and logits.requires_grad
    overwritten = inplace and needed
    rows = prepare_overwriting(logits, rows) if overwritten else with_plain_rows(rows)
    terms = prepare_terms(tokens, labels, task_ids, task_weights, **options)
    formed = needed and forms_in_forward(logits.dtype, options["grad_scale"])
    words = find_slice(rows.detach(), group, widths)
    arguments = (rows, words, overwritten, formed, *terms)
    given = Given(labels, task_ids, options["shift"])
    loss, *statistics = call_eagerly(NAME, parallel_loss, arguments, given, differentiable=1)
    return (loss, Stats(*statistics)) if return_stats else loss
