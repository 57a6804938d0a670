"""vitw_linear_loss: arguments in, the operator called, the loss out."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from . import gpu, ops
from .arguments import Scalar, forms_in_forward, prepare_count, prepare_terms
from .eager import call_eagerly
from .head import prepare_head
from .linear_autograd import NAME, differentiable_linear_loss
from .linear_call import Bounds, count_valid
from .linear_ops import LinearArguments
from .places import Given
from .rows import Tokens
from .stats import Stats
from .task_weights import TaskWeights


@overload
def vitw_linear_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    bias: Tensor | None = ...,
    ignore_index: int = ...,
    denominator: Scalar | None = ...,
    reduction: str = ...,
    shift: bool = ...,
    label_smoothing: float = ...,
    softcap: float | None = ...,
    z_loss: float = ...,
    grad_scale: Scalar | None = ...,
    return_stats: Literal[False] = ...,
    chunk_bytes: int | None = ...,
    max_valid_rows: int | None = ...,
    allow_sync: bool = ...,
) -> Tensor: ...


@overload
def vitw_linear_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    bias: Tensor | None = ...,
    ignore_index: int = ...,
    denominator: Scalar | None = ...,
    reduction: str = ...,
    shift: bool = ...,
    label_smoothing: float = ...,
    softcap: float | None = ...,
    z_loss: float = ...,
    grad_scale: Scalar | None = ...,
    return_stats: Literal[True],
    chunk_bytes: int | None = ...,
    max_valid_rows: int | None = ...,
    allow_sync: bool = ...,
) -> tuple[Tensor, Stats]: ...


def vitw_linear_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: TaskWeights,
    *,
    bias: Tensor | None = None,
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
    max_valid_rows: int | None = None,
    allow_sync: bool = False,
) -> Tensor | tuple[Tensor, Stats]:
    """`vitw_loss` of the logits hidden @ weight.T + bias, which are never all there at once.

    The rows of valid tokens pass in chunks through a workspace. Ignored ones cost nothing; on a
    GPU, where `max_valid_rows` or `allow_sync` tells how many there are.

    Args:
        hidden: [rows, d] or [batch, seq, d], on the CPU or a GPU of NVIDIA's; fp32, bf16 or fp16
            (on the CPU fp64 too, for checks). Evenly strided rows are read where they are, others
            are copied.
        weight: [vocab, d], of the type of hidden, as nn.Linear(d, vocab) has it. Under
            torch.autocast, hidden, weight and bias are cast as nn.Linear casts them.
        bias: [vocab], of the same type, or None.
        labels, task_ids, task_weights, ignore_index, denominator, reduction, shift,
        label_smoothing, softcap, z_loss: as in `vitw_loss`, with hidden for the logits.
        grad_scale: as in `vitw_loss`. The gradients are formed with the loss, and only those of
            hidden, weight and bias that require grad: a frozen head costs nothing. fp16 without a
            grad_scale forms them in the backward, which computes the logits a second time.
        return_stats: return (loss, Stats).
        chunk_bytes: the most that the workspace may take, on a GPU the logits in it; None: the
            library's own, 256 MiB, on a GPU 1 GiB. Larger chunks are faster, up to a point.
        max_valid_rows: more labels than this are never valid, so that a chunk need not be larger;
            None: as many as there are. A GPU multiplies so many rows, whatever the labels say:
            for it the number is rounded up, by an eighth at most or to a multiple of 128, and
            without one all rows are multiplied.
        allow_sync: on a GPU, without max_valid_rows, count the valid rows, for which this thread
            waits until the GPU has come to the labels. Worth it where many labels are ignored.
            torch.compile, and a CUDA graph that is captured, cannot wait, and multiply all rows.

    Returns:
        L, a tensor of shape (), fp32 (fp64 for fp64). The logits and their gradient are fp32 in
        between, on a GPU of the type of hidden; the gradients of weight and bias are summed in fp32
        and rounded once.

    Errors: those of `vitw_loss`; ArgumentError also for chunk_bytes that do not hold one row, and
    for more valid labels than max_valid_rows (on a GPU, than that rounded up: NaN, and a report).
    UnsupportedError also where there is no cuBLAS for a GPU, and where a CUDA graph is to capture
    the first call there is, which opens it.
    """
    tokens = Tokens("hidden", hidden)
    head = prepare_head(tokens, weight, bias)
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
    bounds = Bounds(
        prepare_count("chunk_bytes", chunk_bytes, 1),
        prepare_count("max_valid_rows", max_valid_rows, 0),
    )
    if allow_sync and max_valid_rows is None and _can_wait(terms.labels):
        counted = count_valid(terms.labels, terms.ignore_index)
        bounds = bounds._replace(max_valid_rows=counted)
    in_forward = torch.is_grad_enabled() and forms_in_forward(head.hidden.dtype, grad_scale)
    wanted = (
        in_forward and head.hidden.requires_grad,
        in_forward and head.weight.requires_grad,
        in_forward and head.bias is not None and head.bias.requires_grad,
    )
    arguments = LinearArguments(head, terms, bounds, wanted).flat()
    if ops.is_tracing():
        loss, *statistics = differentiable_linear_loss(*arguments)
    else:
        given = Given(labels, task_ids, shift)
        loss, *statistics = call_eagerly(
            NAME, differentiable_linear_loss, arguments, given, differentiable=3
        )
    return (loss, Stats(*statistics[:5])) if return_stats else loss


def _can_wait(labels: Tensor) -> bool:
    """Whether there is a GPU to wait for, and this call is one that may."""
    is_there = gpu.is_gpu(labels.device) and type(labels) is Tensor and not ops.is_tracing()
    return is_there and not gpu.is_capturing(labels.device)
