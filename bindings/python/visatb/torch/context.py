"""Contexts of the C library, which keep a handle of cuBLAS from one call to the next.

A context serves one call at a time. So a call takes one that is free and puts it back, for whatever
thread and stream comes next: the library sets stream and workspace at each call.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .._errors import UnsupportedError
from .._lib import Context, check, library
from . import gpu

_free: defaultdict[torch.device, list[_Handle]] = defaultdict(list)


@contextlib.contextmanager
def context_of(device: torch.device) -> Iterator[Any]:
    """A context of the device, which is current, for one call; NULL for the CPU.

    Errors: UnsupportedError (no cuBLAS, or the first call is one that a CUDA graph captures).
    """
    if not gpu.is_gpu(device):
        yield None
        return
    try:
        handle = _free[device].pop()
    except IndexError:
        handle = _Handle(device)
    try:
        yield handle.pointer
    finally:
        _free[device].append(handle)


class _Handle:
    """A context that is destroyed at the latest when Python ends."""

    def __init__(self, device: torch.device) -> None:
        if gpu.is_capturing(device):
            raise UnsupportedError(
                f"the first call on {str(device)!r} is captured into a CUDA graph, but it opens "
                "cuBLAS, which no graph can hold; expected one such call before the capture"
            )
        opened = library()
        self.pointer = ctypes.POINTER(Context)()
        check(opened.visatb_context_create(ctypes.byref(self.pointer)))
        destroy = opened.visatb_context_destroy
        weakref.finalize(self, _destroy, destroy, self.pointer, device, os.getpid())


def _destroy(
    destroy: Callable[[Any], None], pointer: Any, device: torch.device, owner: int
) -> None:
    # A process that was forked has the memory of the handle, but not what it stands for.
    if os.getpid() != owner:
        return
    # Where the GPU has failed, there is nothing left to free.
    with contextlib.suppress(RuntimeError):
        gpu.wait_for(device)
        destroy(pointer)
