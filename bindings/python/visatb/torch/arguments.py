"""What a caller gives, checked and brought into the one form that the operators take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from .call import DTYPES, REDUCTIONS, has_plain_rows

Scalar = float | Tensor

INT32_RANGE = (-(2**31), 2**31 - 1)


def prepare_logits(logits: Tensor) -> Tensor:
    """The logits as [rows, vocab]: a view where the rows are evenly strided, else a copy."""
    if not isinstance(logits, Tensor):
        raise ArgumentError(f"logits is {_type(logits)}; expected a tensor")
    if logits.device.type != "cpu":
        raise UnsupportedError(
            f"logits is on device {str(logits.device)!r}; expected 'cpu', for this version "
            "computes nowhere else (logits.cpu() moves them, if that is meant)"
        )
    if logits.dtype not in DTYPES:
        raise ArgumentError(
            f"logits is {logits.dtype}; expected float32, bfloat16, float16 or float64"
        )
    if logits.dim() not in (2, 3) or not logits.shape[-1]:
        raise ArgumentError(
            f"logits has shape {_shape(logits)}; expected (rows, vocab) or (batch, seq, vocab), "
            "with vocab >= 1"
        )
    if logits.dim() == 2:
        return logits
    batch, seq, vocab = logits.shape
    # A size of -1 would be ambiguous with no rows.
    return logits.reshape(batch * seq, vocab)


def prepare_rows(
    logits: Tensor, labels: Tensor, task_ids: Tensor, ignore_index: int, shift: bool
) -> tuple[Tensor, Tensor]:
    """Labels [rows] int64 and task ids [rows] int32, of the token that each row predicts."""
    _require_integers("labels", labels, logits.device)
    _require_integers("task_ids", task_ids, logits.device)
    sequences = _sequences(logits, labels)
    labels = labels.to(torch.int64)
    task_ids = _to_int32(_spread(task_ids, labels, sequences))
    if shift:
        if sequences is None:
            raise ArgumentError(
                f"shift = True with labels of shape {_shape(labels)}; expected (batch, seq), "
                "which tells where a sequence ends"
            )
        labels = _shifted(labels.reshape(sequences), ignore_index)
        task_ids = _shifted(task_ids.reshape(sequences), 0)
    return labels.reshape(-1), task_ids.reshape(-1)


def prepare_options(
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
) -> tuple[int, str, float, float, float]:
    """The options in the operators' order; whether they are available, the library knows."""
    if not _is_integer(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise ArgumentError(f"ignore_index = {ignore_index!r}; expected an integer of 64 bits")
    if reduction not in tuple(REDUCTIONS):  # A list is no key of a dict.
        raise ArgumentError(f'reduction = {reduction!r}; expected "mean" or "sum"')
    cap = 0.0 if softcap is None else softcap
    numbers = {"label_smoothing": label_smoothing, "softcap": cap, "z_loss": z_loss}
    for name, value in numbers.items():
        if not _is_number(value):
            raise ArgumentError(f"{name} = {value!r}; expected a number")
    return ignore_index, reduction, float(label_smoothing), float(cap), float(z_loss)


def prepare_scalar(
    name: str, value: Scalar | None, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """A number or a tensor of shape () as a tensor of the dtype on the device."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        if value.dim() or value.dtype == torch.bool or value.is_complex():
            raise ArgumentError(
                f"{name} is a tensor of {value.dtype} and shape {_shape(value)}; "
                "expected a number or a tensor of shape ()"
            )
        if value.requires_grad:
            raise ArgumentError(
                f"{name} requires grad; expected {name}.detach(), "
                "for the loss is not differentiated in it"
            )
        return value.to(device, dtype)
    if not _is_number(value):
        raise ArgumentError(f"{name} = {value!r}; expected a number or a tensor of shape ()")
    if name == "grad_scale" and value == 0:
        raise ArgumentError(
            "grad_scale = 0; expected another number, for the backward divides by it"
        )
    return torch.full((), value, dtype=dtype, device=device)


def prepare_overwriting(logits: Tensor, rows: Tensor) -> Tensor:
    """The rows that the gradient may be written over: those of the logits, or of a copy.

    Only logits that were computed can go: a leaf, or what is seen of it through a view, holds
    values that somebody set.
    """
    base = logits if logits._base is None else logits._base
    if base.is_leaf and base.requires_grad:
        raise ArgumentError(
            "inplace = True with logits that are a leaf which requires grad; expected inplace = "
            "False, for only logits that were computed can be overwritten"
        )
    return rows if has_plain_rows(rows) else rows.contiguous()


def _sequences(logits: Tensor, labels: Tensor) -> tuple[int, int] | None:
    """(batch, seq) where logits or labels tell; else the rows stand alone."""
    if logits.dim() == 3:
        sequences = (logits.shape[0], logits.shape[1])
        rows = sequences[0] * sequences[1]
        if _shape(labels) not in (sequences, (rows,)):
            raise _labels_do_not_fit(logits, labels, f"{sequences} or {(rows,)}")
        return sequences
    rows = logits.shape[0]
    if labels.dim() not in (1, 2) or labels.numel() != rows:
        right = f"{(rows,)} or (batch, seq) with batch * seq = {rows}"
        raise _labels_do_not_fit(logits, labels, right)
    return (labels.shape[0], labels.shape[1]) if labels.dim() == 2 else None


def _labels_do_not_fit(logits: Tensor, labels: Tensor, right: str) -> ArgumentError:
    return ArgumentError(
        f"labels has shape {_shape(labels)} with logits of shape {_shape(logits)}; expected {right}"
    )


def _spread(task_ids: Tensor, labels: Tensor, sequences: tuple[int, int] | None) -> Tensor:
    """The task id of every row, [rows]."""
    rows = (labels.numel(),)
    shape = _shape(task_ids)
    if shape in (rows, sequences):
        return task_ids.reshape(-1)
    if sequences is not None and shape == sequences[:1]:
        return task_ids.unsqueeze(1).expand(sequences).reshape(-1)
    right = f"{rows}" if sequences is None else f"{sequences[:1]}, {sequences} or {rows}"
    raise ArgumentError(
        f"task_ids has shape {shape} with labels of shape {_shape(labels)}; expected {right}"
    )


def _to_int32(task_ids: Tensor) -> Tensor:
    # An id beyond int32 must not come out as a small, valid one.
    if task_ids.dtype not in (torch.int8, torch.uint8, torch.int16, torch.int32):
        task_ids = task_ids.to(torch.int64).clamp(*INT32_RANGE)
    return task_ids.to(torch.int32)


def _shifted(rows: Tensor, last: int) -> Tensor:
    """Each sequence one to the left, [batch, seq]; the logits stay where they are."""
    end = rows.new_full((rows.shape[0], 1), last)
    return torch.cat([rows[:, 1:], end], dim=1)[:, : rows.shape[1]]


def _require_integers(name: str, tensor: Tensor, device: torch.device) -> None:
    if not isinstance(tensor, Tensor):
        raise ArgumentError(f"{name} is {_type(tensor)}; expected a tensor of integers")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentError(f"{name} is {tensor.dtype}; expected integers, such as int64")
    if tensor.device != device:
        raise ArgumentError(
            f"{name} is on device {str(tensor.device)!r}; expected that of the logits, "
            f"{str(device)!r}"
        )


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    kinds = (int, float, torch.SymInt, torch.SymFloat)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _type(value: Any) -> str:
    return f"a {type(value).__name__}"
