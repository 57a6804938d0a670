"""The operators visatb::vitw_loss and visatb::vitw_loss_inplace, and their fake kernels.

From PyTorch 2.4 on both are registered with torch.library; before, `loss` and `loss_inplace` call
the plain functions instead. Derivatives stand in autograd.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .call import Outputs, call_vitw_loss, has_plain_rows, loss_dtype

# Tests turn it off to walk the path of older versions.
REGISTERED = hasattr(torch.library, "custom_op")

# Schemas are written out, since how they are inferred from annotations differs between versions.
_ARGUMENTS = (
    "Tensor labels, Tensor task_ids, Tensor task_weights, Tensor? denominator, "
    "Tensor? grad_scale, int ignore_index, str reduction, float label_smoothing, "
    "float softcap, float z_loss"
)
GRAD_SCALE = 5  # its place among them, the logits being the first
_STATISTICS = "Tensor, Tensor, Tensor, Tensor, Tensor, Tensor"


def form_loss(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """(loss, numerator, denominator, task_nll, task_tokens, report, gradient).

    The last argument says whether to form the gradient [rows, vocab]; it has no elements else.
    """
    *options, with_gradient = arguments
    # PyTorch resolves a lazy negation for registered operators only.
    logits = logits.resolve_neg()
    if not has_plain_rows(logits):
        logits = logits.contiguous()
    gradient = _empty_gradient(logits, with_gradient)
    outputs = _call(logits, *options, gradient=gradient if with_gradient else None)
    return (*outputs, gradient)


def form_loss_inplace(logits: Tensor, *options: Any) -> Outputs:
    """(loss, numerator, denominator, task_nll, task_tokens, report); logits become the gradient."""
    return _call(logits, *options, gradient=logits)


def _call(logits: Tensor, *options: Any, gradient: Tensor | None) -> Outputs:
    """call_vitw_loss, with a gradient of NaN for a grad_scale that is NaN or infinite.

    The library refuses such a scale. It comes here as the upstream factor of fp16 logits, and a
    loss scaler finds out by the gradient that its factor was too large.
    """
    scale = options[GRAD_SCALE - 1]
    if scale is None or scale.isfinite().all():
        return call_vitw_loss(logits, *options, gradient=gradient)
    unscaled = (*options[: GRAD_SCALE - 1], None, *options[GRAD_SCALE:])
    outputs = call_vitw_loss(logits, *unscaled, gradient=gradient)
    if gradient is not None:
        gradient.fill_(torch.nan)
    return outputs


def _empty_gradient(logits: Tensor, with_gradient: bool) -> Tensor:
    return logits.new_empty(logits.shape if with_gradient else (0,))


def _fake_statistics(logits: Tensor, task_weights: Tensor) -> Outputs:
    tasks = task_weights.shape[0]
    return (
        logits.new_empty((), dtype=loss_dtype(logits)),
        logits.new_empty((), dtype=torch.float64),
        logits.new_empty((), dtype=torch.float64),
        logits.new_empty((tasks,), dtype=torch.float64),
        logits.new_empty((tasks,), dtype=torch.int64),
        logits.new_empty((2,), dtype=torch.int64),
    )


def _fake_loss(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    return (*_fake_statistics(logits, arguments[2]), _empty_gradient(logits, arguments[-1]))


def _fake_loss_inplace(logits: Tensor, *options: Any) -> Outputs:
    return _fake_statistics(logits, options[2])


if REGISTERED:
    loss_operator = torch.library.custom_op(
        "visatb::vitw_loss",
        form_loss,
        mutates_args=(),
        device_types="cpu",
        schema=f"(Tensor logits, {_ARGUMENTS}, bool with_gradient) -> ({_STATISTICS}, Tensor)",
    )
    loss_operator.register_fake(_fake_loss)
    inplace_operator = torch.library.custom_op(
        "visatb::vitw_loss_inplace",
        form_loss_inplace,
        mutates_args=("logits",),
        device_types="cpu",
        schema=f"(Tensor(a!) logits, {_ARGUMENTS}) -> ({_STATISTICS})",
    )
    inplace_operator.register_fake(_fake_loss_inplace)


def is_tracing() -> bool:
    """Whether torch.compile reads this call, which only the registered operators let it do."""
    return REGISTERED and torch.compiler.is_compiling()


def has_value(tensor: Tensor) -> bool:
    """Whether to look at a value: a traced tensor has none, and one on a GPU makes us wait."""
    return type(tensor) is Tensor and tensor.device.type == "cpu" and not is_tracing()


def loss(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_loss."""
    if REGISTERED:
        return tuple(torch.ops.visatb.vitw_loss(logits, *arguments))
    return form_loss(logits, *arguments)


def loss_inplace(logits: Tensor, *options: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_loss_inplace; moves the version of the logits, as every mutation does."""
    if REGISTERED:
        return tuple(torch.ops.visatb.vitw_loss_inplace(logits, *options))
    outputs = form_loss_inplace(logits, *options)
    torch.autograd.graph.increment_version(logits)
    return outputs
