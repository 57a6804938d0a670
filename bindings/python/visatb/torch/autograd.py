"""The derivative of the loss, for the operator and for autograd.Function alike.

The forward forms the gradient with `grad_scale`, the factor that is expected from upstream, and
the backward makes of it what is owed for the factor that comes (upstream.py). fp16 logits without a
`grad_scale` would underflow in it, so theirs is formed in the backward, with that factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._errors import Error
from . import ops
from .no_derivative import first_derivative_only
from .upstream import Upstream

NAME = "vitw_loss"
# In the arguments of the operator.
GRAD_SCALE = 5
OPTIONS = slice(6, 11)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward needs: the gradient if there is one, else what it is formed from."""
    # Else autograd makes a zero of the logits' size, the "gradient" of the gradient output.
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.arguments = len(inputs)
    ctx.formed = inputs[-1]
    if ctx.formed:
        ctx.save_for_backward(output[-1], inputs[GRAD_SCALE])
    else:
        ctx.options = inputs[OPTIONS]
        ctx.save_for_backward(*inputs[:GRAD_SCALE])


def backward(
    ctx: Any, upstream: Tensor | None, *_: Any, owned: bool = False
) -> tuple[Tensor | None, ...]:
    """upstream * dL/dlogits, and None for every other argument; `owned` as in `Upstream`."""
    nothing = (None,) * (ctx.arguments - 1)
    if upstream is None:
        return (None, *nothing)
    with torch.no_grad():
        if ctx.formed:
            gradient, grad_scale = ctx.saved_tensors
            gradient = Upstream(upstream, grad_scale, owned=owned).times(gradient)
        else:
            arguments = (*ctx.saved_tensors, upstream.float(), *ctx.options, True)
            gradient = ops.loss(*arguments)[-1]
    return (first_derivative_only(NAME, gradient, upstream), *nothing)


class FunctionalLoss(torch.autograd.Function):
    """visatb::vitw_loss where PyTorch has no torch.library.custom_op, and on a GPU.

    There its backward saves a pass over the gradient, by writing where nobody else can read.
    """

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        """The arguments and results of the operator."""
        return ops.loss(*arguments)

    setup_context = staticmethod(setup_context)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        """As `backward`."""
        return backward(ctx, *upstream, owned=True)


if ops.REGISTERED:
    ops.loss_operator.register_autograd(backward, setup_context=setup_context)


def functional_loss(*arguments: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_loss, differentiable in the logits on every version of PyTorch."""
    if ops.is_operator_enough(arguments[0]):
        return ops.loss(*arguments)
    apply: Callable[..., tuple[Tensor, ...]] = FunctionalLoss.apply
    return apply(*arguments)


def inplace_loss(*arguments: Any) -> tuple[Tensor, ...]:
    """(loss, numerator, denominator, task_nll, task_tokens, report); see `InplaceLoss`."""
    apply: Callable[..., tuple[Tensor, ...]] = InplaceLoss.apply
    return apply(*arguments)


class InplaceLoss(torch.autograd.Function):
    """The loss whose gradient takes the place of the logits.

    The logits are not declared as a result: nobody may compute with what they hold now. Their
    version counter moves, so that whoever kept them for a backward fails.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        """The arguments of visatb::vitw_loss; the last says whether to form the gradient now."""
        *inputs, ctx.formed = arguments
        ctx.set_materialize_grads(False)
        ctx.spent = False
        ctx.arguments = len(arguments)
        if ctx.formed:
            output = ops.loss_inplace(*inputs)
            # Detached, for only its memory and its version matter.
            ctx.save_for_backward(inputs[0].detach(), inputs[GRAD_SCALE])
        else:
            output = ops.loss(*arguments)[:-1]
            ctx.options = inputs[OPTIONS]
            ctx.save_for_backward(inputs[0].detach(), *inputs[1:GRAD_SCALE])
        ctx.mark_non_differentiable(*output[1:])
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        """As `backward`, once: what is returned is the logits' memory, which then is autograd's."""
        nothing = (None,) * (ctx.arguments - 1)
        if upstream is None:
            return (None, *nothing)
        if ctx.spent:
            raise Error(
                "vitw_loss: a second backward through an in-place loss: its gradient was handed "
                "out by the first; use inplace=False"
            )
        with torch.no_grad():
            logits = ctx.saved_tensors[0]
            if ctx.formed:
                logits = Upstream(upstream, ctx.saved_tensors[1], owned=True).times_(logits)
            else:
                ops.loss_inplace(logits, *ctx.saved_tensors[1:], upstream.float(), *ctx.options)
        ctx.spent = True
        return (first_derivative_only(NAME, logits, upstream), *nothing)
