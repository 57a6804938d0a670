"""torch.autocast, which knows nothing of our operators."""

from __future__ import annotations

import torch
from torch import Tensor

# PyTorch before 2.4 asks for each device by functions of its own, which later ones call deprecated.
_BY_DEVICE = hasattr(torch, "get_autocast_dtype")


def cast_as_linear(tensor: Tensor) -> Tensor:
    """What torch.autocast makes of an argument of torch.nn.functional.linear on its device."""
    dtype = _autocast_dtype(tensor.device.type)
    if dtype is None or tensor.dtype == torch.float64:  # fp64 stays there too.
        return tensor
    return tensor.to(dtype)


def _autocast_dtype(device_type: str) -> torch.dtype | None:
    """What autocast casts to on such devices; None where it is off."""
    if _BY_DEVICE:
        enabled = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if enabled else None
    if device_type == "cuda":
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
