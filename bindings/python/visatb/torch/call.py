"""One call of visatb_vitw_loss on tensors: their memory in, new tensors out."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError
from .._lib import Dtype, Reduction, Report, VitwLossArgs, check, library

DTYPES = {
    torch.float32: Dtype.FLOAT32,
    torch.bfloat16: Dtype.BFLOAT16,
    torch.float16: Dtype.FLOAT16,
    torch.float64: Dtype.FLOAT64,
}
REDUCTIONS = {"mean": Reduction.MEAN, "sum": Reduction.SUM}

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def loss_dtype(logits: Tensor) -> torch.dtype:
    """fp32 for every logits but fp64, which are there to be checked by finite differences."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def has_plain_rows(logits: Tensor) -> bool:
    """Whether the C library can read the logits [rows, vocab] where they are."""
    rows, vocab = logits.shape
    return (vocab <= 1 or logits.stride(1) == 1) and (rows <= 1 or logits.stride(0) >= vocab)


def call_vitw_loss(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: Tensor,
    denominator: Tensor | None,
    grad_scale: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    softcap: float,
    z_loss: float,
    *,
    gradient: Tensor | None,
) -> Outputs:
    """Calls the C library; `gradient` is None, a tensor to fill, or `logits` itself for in place.

    Args:
        logits: [rows, vocab], fp32, bf16, fp16 or fp64, with `has_plain_rows`.
        labels: [rows] int64, task_ids: [rows] int32, task_weights: [tasks] fp32.
        denominator: () fp64 or None, grad_scale: () fp32 or None.

    Returns:
        loss (), numerator () fp64, denominator () fp64, task_nll [tasks] fp64,
        task_tokens [tasks] int64, report [2] int64 (code, first bad row).

    Errors:
        ArgumentError, UnsupportedError: what the C library says.
    """
    rows, vocab = logits.shape
    (tasks,) = task_weights.shape
    loss, numerator, denominator_out = torch.empty(3, dtype=torch.float64)
    task_nll = torch.empty(tasks, dtype=torch.float64)
    task_tokens = torch.empty(tasks, dtype=torch.int64)
    report = Report()
    inputs = [tensor.resolve_neg().contiguous() for tensor in (labels, task_ids, task_weights)]
    arguments = VitwLossArgs(
        rows=rows,
        vocab=vocab,
        tasks=tasks,
        logits=logits.data_ptr(),
        logits_stride=_row_stride("logits", logits),
        dtype=DTYPES[logits.dtype],
        reduction=REDUCTIONS[reduction],
        labels=_pointer("labels", inputs[0], ctypes.c_int64, rows),
        task_ids=_pointer("task_ids", inputs[1], ctypes.c_int32, rows),
        task_weights=_pointer("task_weights", inputs[2], ctypes.c_float, tasks),
        ignore_index=ignore_index,
        denominator=_pointer("denominator", denominator, ctypes.c_double, 1),
        grad_scale=_pointer("grad_scale", grad_scale, ctypes.c_float, 1),
        label_smoothing=label_smoothing,
        softcap=softcap,
        z_loss=z_loss,
        loss=_pointer("loss", loss, ctypes.c_double, 1),
        numerator=_pointer("numerator", numerator, ctypes.c_double, 1),
        denominator_out=_pointer("denominator", denominator_out, ctypes.c_double, 1),
        task_nll=_pointer("task_nll", task_nll, ctypes.c_double, tasks),
        task_tokens=_pointer("task_tokens", task_tokens, ctypes.c_int64, tasks),
        report=ctypes.pointer(report),
    )
    if gradient is not None:
        arguments.gradient = gradient.data_ptr()
        arguments.gradient_stride = _row_stride("gradient", gradient)
    check(library().visatb_vitw_loss(ctypes.byref(arguments)))
    return (
        loss.to(loss_dtype(logits), copy=True),
        numerator.clone(),
        denominator_out.clone(),
        task_nll,
        task_tokens,
        torch.tensor([report.code, report.first_bad_row]),
    )


_ELEMENTS = {
    ctypes.c_int64: torch.int64,
    ctypes.c_int32: torch.int32,
    ctypes.c_float: torch.float32,
    ctypes.c_double: torch.float64,
}


def _pointer(name: str, tensor: Tensor | None, element: Any, count: int) -> Any:
    """The address of a tensor, checked here, since the operators can be called directly."""
    if tensor is None:
        return None
    if tensor.dtype != _ELEMENTS[element] or tensor.numel() != count:
        raise ArgumentError(
            f"{name} has {tensor.numel()} elements of {tensor.dtype}; "
            f"expected {count} of {_ELEMENTS[element]}"
        )
    return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(element))


def _row_stride(name: str, tensor: Tensor) -> int:
    if not has_plain_rows(tensor):
        raise ArgumentError(
            f"{name} has strides {tensor.stride()}; expected 1 for the last, and for the first at "
            f"least the row length {tensor.shape[1]}"
        )
    # The stride of a single row means nothing and may be anything; 0 stands for the row length.
    return tensor.stride(0) if tensor.shape[0] > 1 else 0
