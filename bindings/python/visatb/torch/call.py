"""One call of the C library on tensors: their memory in, new tensors out.

`Call` is what visatb_vitw_loss and visatb_vitw_linear_loss have in common; the call of the latter
stands in linear_call.py.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError
from .._lib import Dtype, Reduction, Report, Team, VitwLossArgs, check, library
from .team import torch_team
from .terms import Terms

DTYPES = {
    torch.float32: Dtype.FLOAT32,
    torch.bfloat16: Dtype.BFLOAT16,
    torch.float16: Dtype.FLOAT16,
    torch.float64: Dtype.FLOAT64,
}
REDUCTIONS = {"mean": Reduction.MEAN, "sum": Reduction.SUM}

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What comes of sums over such values: fp32, but fp64 for the fp64 of finite differences."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def has_plain_rows(matrix: Tensor) -> bool:
    """Whether the C library can read the matrix where it is."""
    rows, width = matrix.shape
    return (width <= 1 or matrix.stride(1) == 1) and (rows <= 1 or matrix.stride(0) >= width)


def with_plain_rows(matrix: Tensor) -> Tensor:
    """The matrix where it is, if the C library can read it there, else a copy."""
    # PyTorch resolves a lazy negation for registered operators only.
    matrix = matrix.resolve_neg()
    return matrix if has_plain_rows(matrix) else matrix.contiguous()


class Call:
    """The fields that both structs of arguments have, and the memory that they point to."""

    def __init__(self, rows: int, dtype: torch.dtype, terms: Terms) -> None:
        (tasks,) = terms.task_weights.shape
        self._dtype = sum_dtype(dtype)
        # With their device, for others may be the default.
        self._scalars = torch.empty(3, dtype=torch.float64, device="cpu")
        self._task_nll = torch.empty(tasks, dtype=torch.float64, device="cpu")
        self._task_tokens = torch.empty(tasks, dtype=torch.int64, device="cpu")
        self._report = Report()
        labels, task_ids, task_weights = (each.resolve_neg().contiguous() for each in terms[:3])
        self._inputs = (labels, task_ids, task_weights, terms)
        loss, numerator, denominator_out = self._scalars
        self.fields: dict[str, Any] = {
            "rows": rows,
            "tasks": tasks,
            "dtype": DTYPES[dtype],
            "reduction": REDUCTIONS[terms.reduction],
            "labels": _pointer("labels", labels, ctypes.c_int64, rows),
            "task_ids": _pointer("task_ids", task_ids, ctypes.c_int32, rows),
            "task_weights": _pointer("task_weights", task_weights, ctypes.c_float, tasks),
            "ignore_index": terms.ignore_index,
            "denominator": _pointer("denominator", terms.denominator, ctypes.c_double, 1),
            "grad_scale": _pointer("grad_scale", terms.grad_scale, ctypes.c_float, 1),
            "label_smoothing": terms.label_smoothing,
            "softcap": terms.softcap,
            "z_loss": terms.z_loss,
            # Asked for at every call, for it may change after a compilation.
            "threads": torch.get_num_threads(),
            "team": torch_team() or Team(),
            "loss": _pointer("loss", loss, ctypes.c_double, 1),
            "numerator": _pointer("numerator", numerator, ctypes.c_double, 1),
            "denominator_out": _pointer("denominator", denominator_out, ctypes.c_double, 1),
            "task_nll": _pointer("task_nll", self._task_nll, ctypes.c_double, tasks),
            "task_tokens": _pointer("task_tokens", self._task_tokens, ctypes.c_int64, tasks),
            "report": ctypes.pointer(self._report),
        }

    def outputs(self) -> Outputs:
        """What the library wrote.

        loss (), numerator () fp64, denominator () fp64, task_nll [tasks] fp64, task_tokens [tasks]
        int64, report [2] int64 (code, first bad row).
        """
        loss, numerator, denominator = self._scalars
        return (
            loss.to(self._dtype, copy=True),
            numerator.clone(),
            denominator.clone(),
            self._task_nll,
            self._task_tokens,
            torch.tensor([self._report.code, self._report.first_bad_row], device="cpu"),
        )


def call_vitw_loss(logits: Tensor, terms: Terms, *, gradient: Tensor | None) -> Outputs:
    """Calls the C library; `gradient` is None, a tensor to fill, or `logits` itself for in place.

    Args:
        logits: [rows, vocab], fp32, bf16, fp16 or fp64, with `has_plain_rows`.

    Errors:
        ArgumentError, UnsupportedError: what the C library says.
    """
    rows, vocab = logits.shape
    call = Call(rows, logits.dtype, terms)
    arguments = VitwLossArgs(
        vocab=vocab,
        logits=logits.data_ptr(),
        logits_stride=row_stride("logits", logits),
        **call.fields,
    )
    if gradient is not None:
        arguments.gradient = gradient.data_ptr()
        arguments.gradient_stride = row_stride("gradient", gradient)
    check(library().visatb_vitw_loss(ctypes.byref(arguments)))
    return call.outputs()


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


def row_stride(name: str, matrix: Tensor) -> int:
    """From row to row, for the C library."""
    if not has_plain_rows(matrix):
        raise ArgumentError(
            f"{name} has strides {matrix.stride()}; expected 1 for the last, and for the first at "
            f"least the row length {matrix.shape[1]}"
        )
    # The stride of a single row means nothing and may be anything; 0 stands for the row length.
    return matrix.stride(0) if matrix.shape[0] > 1 else 0
