"""The derivatives that the loss does not have: of second order, and in forward mode.

Autograd would take either for zero without a word, which is wrong and seen by nobody. Calls that
are being traced have no part in it: compiled code has one backward, and PyTorch says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._errors import UnsupportedError


def refuse_forward_mode(name: str, tensors: Iterable[Tensor]) -> None:
    """Raises UnsupportedError for a tensor with a tangent, of torch.func.jvp for example."""
    for tensor in tensors:
        dual = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
        if dual.tangent is not None:
            raise UnsupportedError(
                f"{name}: no derivative in forward mode (torch.func.jvp, jacfwd, "
                "torch.autograd.forward_ad); expected a backward"
            )


def anchor(loss: Tensor, tensors: Iterable[Tensor]) -> Tensor:
    """The loss, as a tensor whose backward can be followed to the tensors (see `_Anchored`)."""
    apply: Callable[..., Tensor] = _Anchored.apply
    # None of the rows: a piece of their graph without their memory, which a view would hold.
    return apply(loss, *(tensor[:0].clone() for tensor in tensors))


def first_derivative_only(name: str, gradient: Tensor, upstream: Tensor) -> Tensor:
    """Under create_graph=True, a gradient that says so instead of passing for a constant."""
    if not torch.is_grad_enabled():
        return gradient
    apply: Callable[..., Tensor] = _FirstDerivativeOnly.apply
    return apply(name, gradient.detach().requires_grad_(), upstream)


class _Anchored(torch.autograd.Function):
    """The identity on the loss, whose backward ties the upstream factor to what it was made from.

    The gradient that the loss hands out does not depend on its logits (or hidden states, or head)
    as far as autograd can see, and who differentiates it with respect to them alone would never
    come past `_FirstDerivativeOnly`. It does depend on the upstream factor, so that is the way.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(loss: Tensor, *_: Tensor) -> Tensor:
        # A view could not be changed in place, as in `loss /= steps`.
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        anchors = ctx.saved_tensors
        if upstream is not None and torch.is_grad_enabled():
            for each in anchors:
                upstream = upstream + each.sum().to(upstream.dtype)  # It has no elements.
        return upstream, *(None,) * len(anchors)


class _FirstDerivativeOnly(torch.autograd.Function):
    """The identity, with an error for a derivative."""

    @staticmethod
    def forward(ctx: Any, name: str, gradient: Tensor, _: Tensor) -> Tensor:
        ctx.name = name
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Tensor:
        raise UnsupportedError(
            f"{ctx.name}: no second derivative: its gradient cannot be differentiated again; "
            "expected a backward without create_graph=True, or another loss"
        )
