"""One call of visatb_vitw_linear_loss on tensors: a plan, a workspace of its size, and the loss."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import ArgumentError
from .._lib import LinearPlan, VitwLinearLossArgs, check, library
from . import gpu
from .call import Call, Outputs, choices_of, layout_of, row_stride
from .context import context_of
from .rows import shape_of
from .terms import Terms
from .workspace import workspace_on


class Head(NamedTuple):
    """What the logits are made from: hidden weight^T + bias."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None


class Gradients(NamedTuple):
    """What is to be filled: of hidden in its type, of the head too on a GPU.

    On a CPU of the head in fp32 (fp64 for fp64).
    """

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
        ArgumentError, UnsupportedError, Error: what the C library says.
    """
    require_one_head(head)
    require_one_dtype(head)
    hidden, weight, bias = head
    device = hidden.device
    _require_one_device(head)
    head = head._replace(bias=None if bias is None else bias.resolve_neg().contiguous())
    with gpu.made_current(device), context_of(device) as context:
        call = Call(hidden, terms)
        arguments = VitwLinearLossArgs(
            hidden_size=hidden.shape[1],
            vocab=weight.shape[0],
            hidden=hidden.data_ptr(),
            hidden_stride=row_stride("hidden", hidden),
            weight=weight.data_ptr(),
            weight_stride=row_stride("weight", weight),
            bias=_address(head.bias),
            max_valid_rows=_most_valid_rows(terms, bounds.max_valid_rows),
            chunk_bytes=bounds.chunk_bytes or 0,
            hidden_gradient=_address(gradients.hidden),
            weight_gradient=_address(gradients.weight),
            bias_gradient=_address(gradients.bias),
            context=context,
            **call.fields,
        )
        if gpu.is_gpu(device):
            arguments.head_gradient_dtype = arguments.dtype
        workspace = _workspace(arguments, head, terms, gradients)
        arguments.workspace = workspace.data_ptr()
        arguments.workspace_bytes = workspace.numel()
        check(library().visatb_vitw_linear_loss(ctypes.byref(arguments)))
        return call.outputs()


def _workspace(
    arguments: VitwLinearLossArgs, head: Head, terms: Terms, gradients: Gradients
) -> Tensor:
    def plan() -> int:
        found = LinearPlan()
        check(library().visatb_vitw_linear_loss_plan(ctypes.byref(arguments), ctypes.byref(found)))
        return int(found.workspace_bytes)

    device = head.hidden.device
    if not gpu.is_gpu(device):  # where it depends on the threads too
        return torch.empty(plan(), dtype=torch.uint8, device=device)
    bounds = arguments.max_valid_rows, arguments.chunk_bytes
    layouts = map(layout_of, (*head, *gradients))
    return workspace_on(device, ("linear", choices_of(terms), bounds, *layouts), plan)


def rounded_up(valid: int, rows: int) -> int:
    """A bound of the valid rows that serves more batches than one, at most an eighth above it.

    A GPU multiplies as many rows as the bound says. Its products want whole tiles of 128, and a
    number of rows that is not new at every step finds its plan and its memory made.
    """
    eighth = 1 << max(valid.bit_length() - 4, 0)
    step = max(eighth, 128)
    return min(-(-valid // step) * step, rows)


def _most_valid_rows(terms: Terms, given: int | None) -> int:
    """For the C library, to which 0 is no bound."""
    if given is None:
        return 0
    (rows,) = terms.labels.shape
    if gpu.is_gpu(terms.labels.device):  # where nobody waits to count
        return rounded_up(max(given, 1), rows)
    if given == 0:
        valid = count_valid(terms.labels, terms.ignore_index)
        if valid:
            raise ArgumentError(
                f"max_valid_rows = 0; expected None or at least {valid}, the labels that differ "
                "from ignore_index"
            )
    return max(given, 1)


def count_valid(labels: Tensor, ignore_index: int) -> int:
    """How many rows are valid, for which the host waits."""
    return int((labels != ignore_index).sum())


def _require_one_device(head: Head) -> None:
    device = head.hidden.device
    for name, tensor in (("weight", head.weight), ("bias", head.bias)):
        if tensor is not None and tensor.device != device:
            raise ArgumentError(
                f"{name} is on device {str(tensor.device)!r}; expected that of hidden, "
                f"{str(device)!r}"
            )


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
