"""The memory that a call on a GPU asks of its caller, from PyTorch's own allocator."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

# Batches of ever new lengths are not to be remembered for ever.
MOST_REMEMBERED = 1024
_bytes: dict[Hashable, int] = {}


def workspace_on(device: torch.device, shape: Hashable, plan: Callable[[], int]) -> Tensor:
    """Memory of as many bytes as `plan()` says, which is asked once for each shape of a call.

    Args:
        shape: all that the answer depends on, and what form of the loss it is for.
    """
    known = (device, shape)
    size = _bytes.get(known)
    if size is None:
        size = plan()
        if len(_bytes) >= MOST_REMEMBERED:
            _bytes.clear()
        _bytes[known] = size
    return torch.empty(size, dtype=torch.uint8, device=device)
