"""torch.autocast, which knows nothing of our operators."""

from __future__ import annotations

import torch
from torch import Tensor

# PyTorch before 2.4 asks for the CPU by functions of its own, which later ones call deprecated.
_BY_DEVICE = hasattr(torch, "get_autocast_dtype")


def cast_as_linear(tensor: Tensor) -> Tensor:
    """What torch.autocast makes of an argument of torch.nn.functional.linear on the CPU."""
    enabled = torch.is_autocast_enabled("cpu") if _BY_DEVICE else torch.is_autocast_cpu_enabled()
    if not enabled or tensor.dtype == torch.float64:  # fp64 stays there too.
        return tensor
    dtype = torch.get_autocast_dtype("cpu") if _BY_DEVICE else torch.get_autocast_cpu_dtype()
    return tensor.to(dtype)
