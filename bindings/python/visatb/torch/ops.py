"""The operators visatb::vitw_loss and visatb::vitw_loss_inplace, and their fake kernels.

From PyTorch 2.4 on both are registered with torch.library; before, `loss` and `loss_inplace` call
the plain functions instead. Derivatives stand in autograd.py. What visatb::vitw_linear_loss shares
with them stands here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import gpu
from .call import Outputs, call_vitw_loss, sum_dtype, with_plain_rows
from .terms import TERMS_SCHEMA, Terms

# Tests turn it off to walk the path of older versions.
REGISTERED = hasattr(torch.library, "custom_op")
# Where the library computes.
DEVICE_TYPES = ("cpu", "cuda")

STATISTICS_SCHEMA = "Tensor, Tensor, Tensor, Tensor, Tensor, Tensor"


def form_loss(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """(loss, numerator, denominator, task_nll, task_tokens, report, gradient).

    The last argument says whether to form the gradient [rows, vocab]; it has no elements else.
    """
    *terms, with_gradient = arguments
    logits = with_plain_rows(logits)
    gradient = _empty_gradient(logits, with_gradient)
    outputs = _call(logits, Terms(*terms), gradient if with_gradient else None)
    return (*outputs, gradient)


def form_loss_inplace(logits: Tensor, *terms: Any) -> Outputs:
    """(loss, numerator, denominator, task_nll, task_tokens, report); logits become the gradient."""
    return _call(logits, Terms(*terms), logits)


def _call(logits: Tensor, terms: Terms, gradient: Tensor | None) -> Outputs:
    def call(terms: Terms) -> Outputs:
        return call_vitw_loss(logits, terms, gradient=gradient)

    return call_with_any_scale(call, terms, gradient)


def call_with_any_scale(
    call: Callable[[Terms], Outputs], terms: Terms, *gradients: Tensor | None
) -> Outputs:
    """The call, with gradients of NaN for a grad_scale that is NaN or infinite.

    The library refuses such a scale where it can see it, and where only the GPU can, does the same
    itself. It comes here as the upstream factor in fp16, and a loss scaler finds out by the
    gradient that its factor was too large.
    """
    scale = terms.grad_scale
    if scale is None or scale.device.type != "cpu" or scale.isfinite().all():
        return call(terms)
    outputs = call(terms._replace(grad_scale=None))
    for gradient in gradients:
        if gradient is not None:
            gradient.fill_(torch.nan)
    return outputs


def _empty_gradient(logits: Tensor, with_gradient: bool) -> Tensor:
    return logits.new_empty(logits.shape if with_gradient else (0,))


def fake_statistics(of: Tensor, terms: Terms) -> Outputs:
    """Tensors like those that a call on such logits, or such hidden states, gives."""
    tasks = terms.task_weights.shape[0]
    return (
        of.new_empty((), dtype=sum_dtype(of.dtype)),
        of.new_empty((), dtype=torch.float64),
        of.new_empty((), dtype=torch.float64),
        of.new_empty((tasks,), dtype=torch.float64),
        of.new_empty((tasks,), dtype=torch.int64),
        of.new_empty((2,), dtype=torch.int64),
    )


def _fake_loss(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *terms, with_gradient = arguments
    return (*fake_statistics(logits, Terms(*terms)), _empty_gradient(logits, with_gradient))


def _fake_loss_inplace(logits: Tensor, *terms: Any) -> Outputs:
    return fake_statistics(logits, Terms(*terms))


if REGISTERED:
    loss_operator = torch.library.custom_op(
        "visatb::vitw_loss",
        form_loss,
        mutates_args=(),
        device_types=DEVICE_TYPES,
        schema=(
            f"(Tensor logits, {TERMS_SCHEMA}, bool with_gradient) -> ({STATISTICS_SCHEMA}, Tensor)"
        ),
    )
    loss_operator.register_fake(_fake_loss)
    inplace_operator = torch.library.custom_op(
        "visatb::vitw_loss_inplace",
        form_loss_inplace,
        mutates_args=("logits",),
        device_types=DEVICE_TYPES,
        schema=f"(Tensor(a!) logits, {TERMS_SCHEMA}) -> ({STATISTICS_SCHEMA})",
    )
    inplace_operator.register_fake(_fake_loss_inplace)


def is_tracing() -> bool:
    """Whether torch.compile reads this call, which only the registered operators let it do."""
    return REGISTERED and torch.compiler.is_compiling()


def has_value(tensor: Tensor) -> bool:
    """Whether to look at a value: a traced tensor has none, and one on a GPU makes us wait."""
    return type(tensor) is Tensor and tensor.device.type == "cpu" and not is_tracing()


def is_operator_enough(tokens: Tensor) -> bool:
    """Whether the registered operator alone does what can be done: see autograd.py for a GPU."""
    return REGISTERED and (is_tracing() or not gpu.is_gpu(tokens.device))


def loss(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_loss."""
    if REGISTERED:
        return tuple(torch.ops.visatb.vitw_loss(logits, *arguments))
    return form_loss(logits, *arguments)


def loss_inplace(logits: Tensor, *terms: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_loss_inplace; moves the version of the logits, as every mutation does."""
    if REGISTERED:
        return tuple(torch.ops.visatb.vitw_loss_inplace(logits, *terms))
    outputs = form_loss_inplace(logits, *terms)
    torch.autograd.graph.increment_version(logits)
    return outputs
