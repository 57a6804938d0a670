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
from .._lib import Device, Dtype, LossPlan, Reduction, Report, Team, VitwLossArgs, check, library
from . import gpu
from .team import torch_team
from .terms import Terms
from .workspace import workspace_on

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

    def __init__(self, tokens: Tensor, terms: Terms) -> None:
        rows, device = tokens.shape[0], tokens.device
        (tasks,) = terms.task_weights.shape
        self._dtype = sum_dtype(tokens.dtype)
        # Each its own tensor: pieces of one would have to be copied to be handed out. With their
        # device, for others may be the default.
        self._loss, self._numerator, self._denominator = (
            torch.empty((), dtype=torch.float64, device=device) for _ in range(3)
        )
        self._task_nll = torch.empty(tasks, dtype=torch.float64, device=device)
        self._task_tokens = torch.empty(tasks, dtype=torch.int64, device=device)
        # A visatb_report: its code and the 0 behind it are one little-endian int64.
        self._report = torch.empty(2, dtype=torch.int64, device=device)
        labels, task_ids, task_weights = (each.resolve_neg().contiguous() for each in terms[:3])
        self._inputs = (labels, task_ids, task_weights, terms)
        self.fields: dict[str, Any] = {
            "rows": rows,
            "tasks": tasks,
            "dtype": DTYPES[tokens.dtype],
            "reduction": REDUCTIONS[terms.reduction],
            "labels": _pointer("labels", labels, ctypes.c_int64, rows, device),
            "task_ids": _pointer("task_ids", task_ids, ctypes.c_int32, rows, device),
            "task_weights": _pointer("task_weights", task_weights, ctypes.c_float, tasks, device),
            "ignore_index": terms.ignore_index,
            "denominator": _scalar("denominator", terms.denominator, ctypes.c_double, device),
            "grad_scale": _scalar("grad_scale", terms.grad_scale, ctypes.c_float, device),
            "label_smoothing": terms.label_smoothing,
            "softcap": terms.softcap,
            "z_loss": terms.z_loss,
            "loss": _address(self._loss, ctypes.c_double),
            "numerator": _address(self._numerator, ctypes.c_double),
            "denominator_out": _address(self._denominator, ctypes.c_double),
            "task_nll": _address(self._task_nll, ctypes.c_double),
            "task_tokens": _address(self._task_tokens, ctypes.c_int64),
            "report": _address(self._report, Report),
            **_workers(device),
        }

    def outputs(self) -> Outputs:
        """What the library wrote, or will have written when the GPU has come to it.

        loss (), numerator () fp64, denominator () fp64, task_nll [tasks] fp64, task_tokens [tasks]
        int64, report [2] int64 (code, first bad row).
        """
        return (
            self._loss.to(self._dtype),
            self._numerator,
            self._denominator,
            self._task_nll,
            self._task_tokens,
            self._report,
        )


def _workers(device: torch.device) -> dict[str, Any]:
    """Who computes."""
    if not gpu.is_gpu(device):
        # Asked for at every call, for it may change after a compilation.
        return {"threads": torch.get_num_threads(), "team": torch_team() or Team()}
    return {"device": Device.CUDA, "stream": gpu.stream_of(device)}


def call_vitw_loss(logits: Tensor, terms: Terms, *, gradient: Tensor | None) -> Outputs:
    """Calls the C library; `gradient` is None, a tensor to fill, or `logits` itself for in place.

    Args:
        logits: [rows, vocab], fp32, bf16, fp16 or fp64, with `has_plain_rows`.

    Errors:
        ArgumentError, UnsupportedError, Error: what the C library says.
    """
    with gpu.made_current(logits.device):
        call = Call(logits, terms)
        arguments = VitwLossArgs(
            vocab=logits.shape[1],
            logits=logits.data_ptr(),
            logits_stride=row_stride("logits", logits),
            **call.fields,
        )
        if gradient is not None:
            arguments.gradient = gradient.data_ptr()
            arguments.gradient_stride = row_stride("gradient", gradient)
        # Held here until the call has been made.
        workspace = workspace_of(arguments, logits, terms, gradient)
        if workspace is not None:
            arguments.workspace = workspace.data_ptr()
            arguments.workspace_bytes = workspace.numel()
        check(library().visatb_vitw_loss(ctypes.byref(arguments)))
        return call.outputs()


def workspace_of(
    arguments: VitwLossArgs, logits: Tensor, terms: Terms, gradient: Tensor | None
) -> Tensor | None:
    """What the library asks for on a GPU; None on the CPU, where it takes its own."""
    if not gpu.is_gpu(logits.device):
        return None

    def plan() -> int:
        found = LossPlan()
        check(library().visatb_vitw_loss_plan(ctypes.byref(arguments), ctypes.byref(found)))
        return int(found.workspace_bytes)

    shape = ("logits", choices_of(terms), layout_of(logits), layout_of(gradient))
    return workspace_on(logits.device, shape, plan)


def choices_of(terms: Terms) -> tuple[Any, ...]:
    """What a plan may depend on, besides matrices."""
    return (*terms.task_weights.shape, *terms[5:])


def layout_of(tensor: Tensor | None) -> tuple[Any, ...] | None:
    """The same, of a matrix; how it is aligned may say which way a GPU takes."""
    if tensor is None:
        return None
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.data_ptr() % 128


_ELEMENTS = {
    ctypes.c_int64: torch.int64,
    ctypes.c_int32: torch.int32,
    ctypes.c_float: torch.float32,
    ctypes.c_double: torch.float64,
}


def _address(tensor: Tensor, element: Any) -> Any:
    """The address of a tensor, as a pointer to such elements."""
    return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(element))


def _pointer(name: str, tensor: Tensor, element: Any, count: int, device: torch.device) -> Any:
    """The address of a tensor, checked here, since the operators can be called directly."""
    if tensor.dtype != _ELEMENTS[element] or tensor.numel() != count:
        raise ArgumentError(
            f"{name} has {tensor.numel()} elements of {tensor.dtype}; "
            f"expected {count} of {_ELEMENTS[element]}"
        )
    if tensor.device != device:
        raise ArgumentError(
            f"{name} is on device {str(tensor.device)!r}; expected {str(device)!r}, as the tokens"
        )
    return _address(tensor, element)


def _scalar(name: str, tensor: Tensor | None, element: Any, device: torch.device) -> Any:
    """As `_pointer`, of what may be the host's too: the library reads it during the call."""
    if tensor is None:
        return None
    where = tensor.device if tensor.device.type == "cpu" else device
    return _pointer(name, tensor, element, 1, where)


def row_stride(name: str, matrix: Tensor) -> int:
    """From row to row, for the C library."""
    if not has_plain_rows(matrix):
        raise ArgumentError(
            f"{name} has strides {matrix.stride()}; expected 1 for the last, and for the first at "
            f"least the row length {matrix.shape[1]}"
        )
    # The stride of a single row means nothing and may be anything; 0 stands for the row length.
    return matrix.stride(0) if matrix.shape[0] > 1 else 0
