"""One call of visatb_vitw_linear_loss on tensors: a plan, a workspace of its size, and the loss."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import ArgumentError
from .._lib import LinearPlan, VitwLinearLossArgs, check, library
from .call import Call, Outputs, row_stride
from .rows import shape_of
from .terms import Terms


class Head(NamedTuple):
    """What the logits are made from: hidden weight^T + bias."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None


class Gradients(NamedTuple):
    """What is to be filled: of hidden in its type, of the head in fp32 (fp64 for fp64)."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


class Bounds(NamedTuple):
    """What the workspace follows; None is the library's own."""

    chunk_bytes: int | None
    max_valid_rows: int | None


def require_one_head(head: Head) -> None:
    """Raises ArgumentError unless the shapes fit each other."""
    hidden, weight, bias = head
    width = hidden.shape[-1]
    if weight.dim() != 2 or weight.shape[1] != width or not weight.shape[0]:
        raise ArgumentError(
            f"weight has shape {shape_of(weight)} with hidden of shape {shape_of(hidden)}; "
            f"expected (vocab, {width}), with vocab >= 1"
        )
    if bias is not None and shape_of(bias) != shape_of(weight)[:1]:
        raise ArgumentError(
            f"bias has shape {shape_of(bias)} with weight of shape {shape_of(weight)}; "
            f"expected {shape_of(weight)[:1]}"
        )


def require_one_dtype(head: Head) -> None:
    """Raises ArgumentError unless all of it has one type."""
    dtype = head.hidden.dtype
    for name, tensor in (("weight", head.weight), ("bias", head.bias)):
        if tensor is not None and tensor.dtype != dtype:
            raise ArgumentError(
                f"{name} is {tensor.dtype} with hidden of {dtype}; expected one type for both, "
                f"as {name}.to({dtype}) or torch.autocast makes it"
            )


def call_vitw_linear_loss(
    head: Head, terms: Terms, bounds: Bounds, *, gradients: Gradients
) -> Outputs:
    """Calls the C library; matrices with `has_plain_rows`, gradients contiguous.

    Errors:
        ArgumentError, UnsupportedError: what the C library says.
    """
    require_one_head(head)
    require_one_dtype(head)
    hidden, weight, bias = head
    rows, hidden_size = hidden.shape
    call = Call(rows, hidden.dtype, terms)
    bias = None if bias is None else bias.resolve_neg().contiguous()
    arguments = VitwLinearLossArgs(
        hidden_size=hidden_size,
        vocab=weight.shape[0],
        hidden=hidden.data_ptr(),
        hidden_stride=row_stride("hidden", hidden),
        weight=weight.data_ptr(),
        weight_stride=row_stride("weight", weight),
        bias=_address(bias),
        max_valid_rows=_most_valid_rows(terms, bounds.max_valid_rows),
        chunk_bytes=bounds.chunk_bytes or 0,
        hidden_gradient=_address(gradients.hidden),
        weight_gradient=_address(gradients.weight),
        bias_gradient=_address(gradients.bias),
        **call.fields,
    )
    plan = LinearPlan()
    check(library().visatb_vitw_linear_loss_plan(ctypes.byref(arguments), ctypes.byref(plan)))
    workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8, device="cpu")
    arguments.workspace = workspace.data_ptr()
    arguments.workspace_bytes = plan.workspace_bytes
    check(library().visatb_vitw_linear_loss(ctypes.byref(arguments)))
    return call.outputs()


def _most_valid_rows(terms: Terms, given: int | None) -> int:
    """For the C library, to which 0 is no bound."""
    if given is None:
        return 0
    if given == 0:
        valid = int((terms.labels != terms.ignore_index).sum())
        if valid:
            raise ArgumentError(
                f"max_valid_rows = 0; expected None or at least {valid}, the labels that differ "
                "from ignore_index"
            )
    return max(given, 1)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
