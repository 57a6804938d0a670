"""The derivatives of the linear form, for the operator and for autograd.Function alike.

As in autograd.py, and for the same reasons: they are formed in the forward with `grad_scale` in
them, and multiplied in the backward by what else comes from upstream; in fp16 without a
`grad_scale` they are formed in the backward, from the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import linear_ops, ops
from .linear_ops import linear_loss, sorted_arguments
from .no_derivative import first_derivative_only
from .upstream import Upstream

NAME = "vitw_linear_loss"
_TENSORS = 8  # hidden, weight, bias, and five of the terms


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward needs: the gradients if there are any, else what they are formed from."""
    arguments = sorted_arguments(inputs)
    # Else autograd makes zeros of the gradients' sizes, the "gradients" of the gradients.
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.arguments = len(inputs)
    needed = ctx.needs_input_grad[:3]
    # Who calls the operator directly may ask for fewer gradients than the backward will.
    ctx.formed = all(
        is_formed or not is_needed
        for is_formed, is_needed in zip(arguments.wanted, needed, strict=True)
    )
    if ctx.formed:
        ctx.save_for_backward(*output[-3:], arguments.terms.grad_scale)
    else:
        ctx.others = inputs[_TENSORS:]
        ctx.save_for_backward(*inputs[:_TENSORS])


def backward(
    ctx: Any, upstream: Tensor | None, *_: Any, owned: bool = False
) -> tuple[Tensor | None, ...]:
    """upstream times each derivative that is needed, and None for every other argument.

    `owned` as in `Upstream`.
    """
    gradients: list[Tensor | None] = [None] * ctx.arguments
    if upstream is None:
        return tuple(gradients)
    with torch.no_grad():
        if ctx.formed:
            found = _saved_gradients(ctx, upstream, owned=owned)
        else:
            found = _new_gradients(ctx, upstream)
    for place, gradient in enumerate(found):
        if gradient is not None:
            gradients[place] = first_derivative_only(NAME, gradient, upstream)
    return tuple(gradients)


def _saved_gradients(ctx: Any, upstream: Tensor, *, owned: bool) -> list[Tensor | None]:
    *saved, grad_scale = ctx.saved_tensors
    factor = Upstream(upstream, grad_scale, owned=owned)
    return [
        factor.times(gradient) if is_needed else None
        for gradient, is_needed in zip(saved, ctx.needs_input_grad[:3], strict=True)
    ]


def _new_gradients(ctx: Any, upstream: Tensor) -> list[Tensor | None]:
    arguments = sorted_arguments((*ctx.saved_tensors, *ctx.others))
    needed = tuple(ctx.needs_input_grad[:3])
    terms = arguments.terms._replace(grad_scale=upstream.float())
    found = linear_loss(*arguments._replace(terms=terms, wanted=needed).flat())[-3:]
    return [
        gradient if is_needed else None for gradient, is_needed in zip(found, needed, strict=True)
    ]


class LinearLoss(torch.autograd.Function):
    """visatb::vitw_linear_loss where PyTorch has no torch.library.custom_op, and on a GPU."""

    @staticmethod
    def forward(*flat: Any) -> tuple[Tensor, ...]:
        """The arguments and results of the operator."""
        return linear_loss(*flat)

    setup_context = staticmethod(setup_context)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        """As `backward`."""
        return backward(ctx, *upstream, owned=True)


if ops.REGISTERED:
    linear_ops.linear_operator.register_autograd(backward, setup_context=setup_context)


def differentiable_linear_loss(*flat: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_linear_loss, differentiable in its head on every version of PyTorch."""
    if ops.is_operator_enough(flat[0]):
        return linear_loss(*flat)
    apply: Callable[..., tuple[Tensor, ...]] = LinearLoss.apply
    return apply(*flat)
