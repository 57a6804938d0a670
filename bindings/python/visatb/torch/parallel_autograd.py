"""The derivative of the loss of a vocabulary in slices: as in autograd.py, of a rank's own slice.

What the ranks tell each other is gathered before; neither the forward nor the backward of the
function here communicates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._errors import Error
from .call import Outputs
from .no_derivative import first_derivative_only
from .ops import call_with_any_scale
from .slice_call import call_slice_loss, call_slice_statistics
from .slices import Slice, gather_statistics
from .terms import Terms
from .upstream import Upstream

NAME = "vitw_vocab_parallel_loss"


def parallel_loss(
    logits: Tensor, words: Slice, overwritten: bool, formed: bool, *terms: Any
) -> tuple[Tensor, ...]:
    """(loss, numerator, denominator, task_nll, task_tokens, report), differentiable in the logits.

    Args:
        logits: [rows, width] with `has_plain_rows`.
        overwritten: whether the gradient takes the place of the logits.
        formed: whether the forward forms it, else the backward.
    """
    with torch.no_grad():
        told = gather_statistics(call_slice_statistics(logits, Terms(*terms), words), words)
    apply: Callable[..., tuple[Tensor, ...]] = _ParallelLoss.apply
    return apply(logits, told, words, overwritten, formed, *terms)


class _ParallelLoss(torch.autograd.Function):
    """The loss from what all slices tell, and the gradient of one of them."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        told: Tensor,
        words: Slice,
        overwritten: bool,
        formed: bool,
        *flat: Any,
    ) -> tuple[Tensor, ...]:
        terms = Terms(*flat)
        ctx.set_materialize_grads(False)
        ctx.arguments = 5 + len(flat)
        ctx.words, ctx.overwritten, ctx.formed, ctx.spent = words, overwritten, formed, False
        rows = logits.detach()  # Only its memory and its version matter.
        gradient = _gradient_of(rows, overwritten) if formed else None
        outputs = _call(rows, terms, words, told, gradient)
        if formed:
            ctx.save_for_backward(gradient, terms.grad_scale)
        else:
            ctx.options = terms[5:]
            ctx.save_for_backward(rows, told, *terms[:4])
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        nothing = (None,) * (ctx.arguments - 1)
        if upstream is None:
            return (None, *nothing)
        if ctx.spent:
            raise Error(
                f"{NAME}: a second backward through an in-place loss: its gradient was handed out "
                "by the first; use inplace=False"
            )
        with torch.no_grad():
            gradient = _saved_gradient(ctx, upstream) if ctx.formed else _new(ctx, upstream)
        ctx.spent = ctx.overwritten
        return (first_derivative_only(NAME, gradient, upstream), *nothing)


def _saved_gradient(ctx: Any, upstream: Tensor) -> Tensor:
    gradient, grad_scale = ctx.saved_tensors
    factor = Upstream(upstream, grad_scale, owned=True)
    return factor.times_(gradient) if ctx.overwritten else factor.times(gradient)


def _new(ctx: Any, upstream: Tensor) -> Tensor:
    """The gradient with the upstream factor in it, from the logits and what was told of them."""
    rows, told, *tensors = ctx.saved_tensors
    flat: tuple[Any, ...] = (*tensors, upstream.float(), *ctx.options)
    gradient = _gradient_of(rows, ctx.overwritten)
    _call(rows, Terms(*flat), ctx.words, told, gradient)
    return gradient


def _gradient_of(rows: Tensor, overwritten: bool) -> Tensor:
    if not overwritten:
        return rows.new_empty(rows.shape)
    # As every operation in place does, so that who kept the logits for a backward fails.
    torch.autograd.graph.increment_version(rows)
    return rows


def _call(
    rows: Tensor, terms: Terms, words: Slice, told: Tensor, gradient: Tensor | None
) -> Outputs:
    def call(terms: Terms) -> Outputs:
        return call_slice_loss(rows, terms, words, told, gradient=gradient)

    return call_with_any_scale(call, terms, gradient)
