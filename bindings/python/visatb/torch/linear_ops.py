"""The operator visatb::vitw_linear_loss and its fake kernel; its derivative: linear_autograd.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import gpu, ops
from .call import Outputs, sum_dtype, with_plain_rows
from .linear_call import Bounds, Gradients, Head, call_vitw_linear_loss
from .ops import STATISTICS_SCHEMA, call_with_any_scale, fake_statistics
from .terms import TERMS_SCHEMA, Terms

# Bounds may change from step to step; as an int each would be a constant of compiled code.
_SCHEMA = (
    f"(Tensor hidden, Tensor weight, Tensor? bias, {TERMS_SCHEMA}, SymInt? chunk_bytes, "
    "SymInt? max_valid_rows, bool hidden_gradient, bool weight_gradient, bool bias_gradient) "
    f"-> ({STATISTICS_SCHEMA}, Tensor, Tensor, Tensor)"
)


class LinearArguments(NamedTuple):
    """The arguments of the operator, sorted."""

    head: Head
    terms: Terms
    bounds: Bounds
    wanted: tuple[bool, bool, bool]  # the gradients of hidden, weight and bias

    def flat(self) -> tuple[Any, ...]:
        """In the order of the schema."""
        return (*self.head, *self.terms, *self.bounds, *self.wanted)


def sorted_arguments(flat: tuple[Any, ...]) -> LinearArguments:
    """The reverse of `LinearArguments.flat`."""
    head, terms, bounds, wanted = flat[:3], flat[3:-5], flat[-5:-3], flat[-3:]
    return LinearArguments(Head(*head), Terms(*terms), Bounds(*bounds), wanted)


def form_linear_loss(*flat: Any) -> tuple[Tensor, ...]:
    """(loss, numerator, denominator, task_nll, task_tokens, report, and three gradients).

    The gradients are those of hidden, weight and bias, each in its own type. One that is not
    wanted has no elements.
    """
    head, terms, bounds, wanted = sorted_arguments(flat)
    head = Head(with_plain_rows(head.hidden), with_plain_rows(head.weight), head.bias)
    dtype = head.hidden.dtype
    # A CPU sums over rows where it is to write; a GPU in its workspace, or rounds once as it is.
    wide = dtype if gpu.is_gpu(head.hidden.device) else sum_dtype(dtype)
    gradients = Gradients(
        *(
            head.hidden.new_empty(tensor.shape, dtype=kind)
            if tensor is not None and is_wanted
            else None
            for tensor, kind, is_wanted in zip(head, (dtype, wide, wide), wanted, strict=True)
        )
    )

    def call(terms: Terms) -> Outputs:
        return call_vitw_linear_loss(head, terms, bounds, gradients=gradients)

    outputs = call_with_any_scale(call, terms, *gradients)
    # What sums over all rows is rounded to the head's type here, once.
    formed = (head.hidden.new_empty(0) if g is None else g.to(dtype) for g in gradients)
    return (*outputs, *formed)


def _fake_linear_loss(*flat: Any) -> tuple[Tensor, ...]:
    head, terms, _, wanted = sorted_arguments(flat)
    gradients = (
        head.hidden.new_empty(tensor.shape if tensor is not None and is_wanted else (0,))
        for tensor, is_wanted in zip(head, wanted, strict=True)
    )
    return (*fake_statistics(head.hidden, terms), *gradients)


if ops.REGISTERED:
    linear_operator = torch.library.custom_op(
        "visatb::vitw_linear_loss",
        form_linear_loss,
        mutates_args=(),
        device_types=ops.DEVICE_TYPES,
        schema=_SCHEMA,
    )
    linear_operator.register_fake(_fake_linear_loss)


def linear_loss(*flat: Any) -> tuple[Tensor, ...]:
    """visatb::vitw_linear_loss."""
    if ops.REGISTERED:
        return tuple(torch.ops.visatb.vitw_linear_loss(*flat))
    return form_linear_loss(*flat)
