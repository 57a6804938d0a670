"""The VITW loss for PyTorch 2.1 and newer.

    vitw_loss(logits, labels, task_ids, task_weights)                  a function
    VITWLoss(task_weights)                                             the same as a module
    vitw_linear_loss(hidden, weight, labels, task_ids, task_weights)   for a linear head, without
    VITWLinearLoss(task_weights)                                       ever having all its logits
    vitw_vocab_parallel_loss(logits, ...)                              where the ranks of a process
                                                                       group share the vocabulary
    vitw_denominator(labels, task_ids, task_weights)                   the denominator of either,
                                                                       to be added up for a step
    vitw_loss_plan(logits)                                             which way vitw_loss takes

They compute where their tensors are, on the CPU or on a GPU of NVIDIA's.
The operators are vitw_loss, vitw_loss_inplace and vitw_linear_loss in `torch.ops.visatb`, from
PyTorch 2.4 on; `torch.compile` takes all but the one in place without a graph break.
"""

from __future__ import annotations

from ._require import require_torch

require_torch()

from .denominator import vitw_denominator  # noqa: E402
from .function import visatb_vitw_loss, vitw_loss  # noqa: E402
from .linear import vitw_linear_loss  # noqa: E402
from .module import VITWLinearLoss, VITWLoss  # noqa: E402
from .parallel import vitw_vocab_parallel_loss  # noqa: E402
from .plan import LossPlan, vitw_loss_plan  # noqa: E402
from .stats import Stats  # noqa: E402

__all__ = [
    "LossPlan",
    "Stats",
    "VITWLinearLoss",
    "VITWLoss",
    "visatb_vitw_loss",
    "vitw_denominator",
    "vitw_linear_loss",
    "vitw_loss",
    "vitw_loss_plan",
    "vitw_vocab_parallel_loss",
]
