"""The derivatives that the loss does not have: of second order, and in forward mode.

Autograd would take either for zero without a word, which is wrong and seen by nobody. Calls that
are being traced have no part in it: compiled code has one backward, and PyTorch says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._errors import UnsupportedError


def refuse_forward_mode(logits: Tensor) -> None:
    """Raises UnsupportedError for logits with a tangent, of torch.func.jvp for example."""
    dual = forward_ad.unpack_dual(logits)  # type: ignore[no-untyped-call]
    if dual.tangent is not None:
        raise UnsupportedError(
            "vitw_loss: no derivative in forward mode (torch.func.jvp, jacfwd, "
            "torch.autograd.forward_ad); expected a backward"
        )


def anchor_to_logits(loss: Tensor, rows: Tensor) -> Tensor:
    """The loss, as a tensor whose backward can be followed to the logits (see `_Anchored`)."""
    apply: Callable[..., Tensor] = _Anchored.apply
    # None of the rows: a piece of their graph without their memory, which a view would hold.
    return apply(loss, rows[:0].clone())


def first_derivative_only(gradient: Tensor, upstream: Tensor) -> Tensor:
    """Under create_graph=True, a gradient that says so instead of passing for a constant."""
    if not torch.is_grad_enabled():
        return gradient
    apply: Callable[..., Tensor] = _FirstDerivativeOnly.apply
    return apply(gradient.detach().requires_grad_(), upstream)


class _Anchored(torch.autograd.Function):
    """The identity on the loss, whose backward ties the upstream factor to the logits.

    The gradient that the loss hands out does not depend on the logits as far as autograd can see,
    and who differentiates it with respect to them alone would never come past
    `_FirstDerivativeOnly`. It does depend on the upstream factor, so that is the way.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(loss: Tensor, _: Tensor) -> Tensor:
        # A view could not be changed in place, as in `loss /= steps`.
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, None]:
        if upstream is not None and torch.is_grad_enabled():
            (anchor,) = ctx.saved_tensors
            upstream = upstream + anchor.sum().to(upstream.dtype)  # It has no elements.
        return upstream, None


class _FirstDerivativeOnly(torch.autograd.Function):
    """The identity, with an error for a derivative."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Tensor:
        raise UnsupportedError(
            "vitw_loss: no second derivative: its gradient cannot be differentiated again; "
            "expected a backward without create_graph=True, or another loss"
        )
