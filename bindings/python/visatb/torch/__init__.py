"""The VITW loss for PyTorch 2.1 and newer.

    vitw_loss(logits, labels, task_ids, task_weights)    a function
    VITWLoss(task_weights)                               the same as a module
    vitw_denominator(labels, task_ids, task_weights)     its denominator, to be added up for a step

The operators are `torch.ops.visatb.vitw_loss` and `torch.ops.visatb.vitw_loss_inplace`, from
PyTorch 2.4 on; `torch.compile` takes the first without a graph break.
"""

from __future__ import annotations

from ._require import require_torch

require_torch()

from .denominator import vitw_denominator  # noqa: E402
from .function import Stats, visatb_vitw_loss, vitw_loss  # noqa: E402
from .module import VITWLoss  # noqa: E402

__all__ = ["Stats", "VITWLoss", "visatb_vitw_loss", "vitw_denominator", "vitw_loss"]
