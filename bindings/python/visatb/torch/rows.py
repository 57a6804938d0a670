"""Labels and task ids in any of their layouts, brought to one of each per row.

The rows are those of the logits, or of the hidden states that logits would be made from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import ArgumentError

INT32_RANGE = (-(2**31), 2**31 - 1)

Rows = tuple[Tensor, Tensor]


class Tokens(NamedTuple):
    """A tensor [rows, any] or [batch, seq, any], and how its caller calls it."""

    name: str
    tensor: Tensor


def prepare_rows(
    tokens: Tokens, labels: Tensor, task_ids: Tensor, ignore_index: int, shift: bool
) -> Rows:
    """Labels [rows] int64 and task ids [rows] int32, of the token that each row predicts."""
    _require_integers("labels", labels, tokens)
    _require_integers("task_ids", task_ids, tokens)
    return _lay_out(labels, task_ids, _sequences(tokens, labels), ignore_index, shift)


def prepare_rows_without_logits(
    labels: Tensor, task_ids: Tensor, ignore_index: int, shift: bool
) -> Rows:
    """As `prepare_rows`, where labels and task ids alone tell the sequences."""
    _require_integers("labels", labels)
    _require_integers("task_ids", task_ids, Tokens("labels", labels))
    if labels.dim() not in (1, 2):
        shape = shape_of(labels)
        raise ArgumentError(f"labels has shape {shape}; expected (rows,) or (batch, seq)")
    return _lay_out(labels, task_ids, _sequences_of(labels, task_ids), ignore_index, shift)


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape, as messages show it."""
    return tuple(tensor.shape)


def _lay_out(
    labels: Tensor,
    task_ids: Tensor,
    sequences: tuple[int, int] | None,
    ignore_index: int,
    shift: bool,
) -> Rows:
    labels = labels.to(torch.int64)
    task_ids = _to_int32(_spread(task_ids, labels, sequences))
    if shift:
        if sequences is None:
            raise ArgumentError(
                f"shift = True with labels of shape {shape_of(labels)}; expected (batch, seq), "
                "which tells where a sequence ends"
            )
        labels = _shifted(labels.reshape(sequences), ignore_index)
        task_ids = _shifted(task_ids.reshape(sequences), 0)
    return labels.reshape(-1), task_ids.reshape(-1)


def _sequences(tokens: Tokens, labels: Tensor) -> tuple[int, int] | None:
    """(batch, seq) where the tokens or the labels tell; else the rows stand alone."""
    shape = shape_of(tokens.tensor)
    if len(shape) == 3:
        sequences = (shape[0], shape[1])
        rows = sequences[0] * sequences[1]
        if shape_of(labels) not in (sequences, (rows,)):
            raise _labels_do_not_fit(tokens, labels, f"{sequences} or {(rows,)}")
        return sequences
    rows = shape[0]
    if labels.dim() not in (1, 2) or labels.numel() != rows:
        right = f"{(rows,)} or (batch, seq) with batch * seq = {rows}"
        raise _labels_do_not_fit(tokens, labels, right)
    return (labels.shape[0], labels.shape[1]) if labels.dim() == 2 else None


def _sequences_of(labels: Tensor, task_ids: Tensor) -> tuple[int, int] | None:
    """(batch, seq) where labels or task ids tell, which may be ids by sequence."""
    for tensor in (labels, task_ids):
        if tensor.dim() == 2:
            batch, seq = tensor.shape
            return (batch, seq) if batch * seq == labels.numel() else None
    rows, batch = labels.shape[0], task_ids.numel()
    by_sequence = task_ids.dim() == 1 and 0 < batch < rows and rows % batch == 0
    return (batch, rows // batch) if by_sequence else None


def _labels_do_not_fit(tokens: Tokens, labels: Tensor, right: str) -> ArgumentError:
    return ArgumentError(
        f"labels has shape {shape_of(labels)} with {tokens.name} of shape "
        f"{shape_of(tokens.tensor)}; expected {right}"
    )


def _spread(task_ids: Tensor, labels: Tensor, sequences: tuple[int, int] | None) -> Tensor:
    """The task id of every row, [rows]."""
    rows = (labels.numel(),)
    shape = shape_of(task_ids)
    if shape in (rows, sequences):
        return task_ids.reshape(-1)
    if sequences is not None and shape == sequences[:1]:
        return task_ids.unsqueeze(1).expand(sequences).reshape(-1)
    right = f"{rows}" if sequences is None else f"{sequences[:1]}, {sequences} or {rows}"
    raise ArgumentError(
        f"task_ids has shape {shape} with labels of shape {shape_of(labels)}; expected {right}"
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


def _require_integers(name: str, tensor: Tensor, beside: Tokens | None = None) -> None:
    if not isinstance(tensor, Tensor):
        raise ArgumentError(f"{name} is a {type(tensor).__name__}; expected a tensor of integers")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentError(f"{name} is {tensor.dtype}; expected integers, such as int64")
    if beside is not None:
        require_same_device(name, tensor, beside)


def require_same_device(name: str, tensor: Tensor, beside: Tokens) -> None:
    """Raises ArgumentError unless both are on one device."""
    device = beside.tensor.device
    if tensor.device != device:
        raise ArgumentError(
            f"{name} is on device {str(tensor.device)!r}; expected that of {beside.name}, "
            f"{str(device)!r}"
        )
