"""The GPU that tensors are on, as PyTorch knows it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from .._errors import UnsupportedError


def is_gpu(device: torch.device) -> bool:
    """Whether the library computes there as on a GPU."""
    return device.type == "cuda"


def made_current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The device as the current one, which the library works on; nothing for the CPU."""
    return torch.cuda.device(device) if is_gpu(device) else contextlib.nullcontext()


def stream_of(device: torch.device) -> int:
    """The stream that PyTorch puts its work into now, a cudaStream_t."""
    return torch.cuda.current_stream(device).cuda_stream


def is_capturing(device: torch.device) -> bool:
    """Whether what goes into that stream now goes into a CUDA graph."""
    with made_current(device):
        return is_gpu(device) and torch.cuda.is_current_stream_capturing()


def wait_for(device: torch.device) -> None:
    """Returns when all is done that was put into the streams of the device."""
    torch.cuda.synchronize(device)


class HostCopy:
    """A small tensor on its way to the host, which nobody need wait for.

    Args:
        tensor: of any device; one of the host's is there at once, and is not copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._event: Any = None
        if is_gpu(tensor.device):
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(tensor.device))

    def is_there(self) -> bool:
        """Whether it has come, so that `wait` would not."""
        return self._event is None or bool(self._event.query())

    def wait(self) -> Tensor:
        """The tensor on the host, as soon as what was put into the stream before it is done."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor


def without_waiting(name: str, tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the host's, on the GPU.

    Errors: UnsupportedError while a CUDA graph is captured, whose replays would read the host's
    memory again when it is gone.
    """
    if is_capturing(device):
        raise UnsupportedError(
            f"{name} is on device {str(tensor.device)!r} while a CUDA graph is captured; expected "
            f"a tensor on {str(device)!r}, or a loss module that was called there before"
        )
    # Pageable memory has been read when the copy returns. Pinned memory has not, and may be
    # written to before it is.
    return tensor.to(device, non_blocking=not tensor.is_pinned())


def beside(name: str, tensor: Tensor, other: Tensor) -> Tensor:
    """A small tensor on the device of another; from the host to a GPU without waiting.

    Errors: as `without_waiting`.
    """
    if is_gpu(other.device) and not is_gpu(tensor.device):
        return without_waiting(name, tensor, other.device)
    return tensor.to(other.device)
