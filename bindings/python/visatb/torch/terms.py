"""What both forms of the loss take alike: rows, weights and options, in the operators' order."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

# Written out, since how a schema is inferred from annotations differs between versions.
TERMS_SCHEMA = (
    "Tensor labels, Tensor task_ids, Tensor task_weights, Tensor? denominator, "
    "Tensor? grad_scale, int ignore_index, str reduction, float label_smoothing, "
    "float softcap, float z_loss"
)


class Terms(NamedTuple):
    """The arguments of an operator behind its tensors that are differentiable.

    Attributes:
        labels: [rows] int64, task_ids: [rows] int32, task_weights: [tasks] fp32.
        denominator: () fp64 or None, grad_scale: () fp32 or None.
        softcap: 0 is off.
    """

    labels: Tensor
    task_ids: Tensor
    task_weights: Tensor
    denominator: Tensor | None
    grad_scale: Tensor | None
    ignore_index: int
    reduction: str
    label_smoothing: float
    softcap: float
    z_loss: float
