"""The threads that PyTorch keeps for its own work on the CPU, for the C library to work on."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch

from .._lib import Team


@functools.cache
def torch_team() -> Any | None:
    """GOMP_parallel of the OpenMP that PyTorch runs on, a `Team`; None where it runs on another.

    Threads of our own would run beside PyTorch's, which keep their cores busy for a while after
    each operation, waiting for the next.
    """
    if "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    path = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    try:
        address = ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None
    return None if address is None else Team(address)
