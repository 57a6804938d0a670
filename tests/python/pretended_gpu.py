"""A pytest plugin with which the tests of the losses on a GPU run where there is none.

Under `pytest -p pretended_gpu` the package takes tensors of the CPU for those of a GPU. It needs a
library whose kernels run on the CPU, and a cuBLAS that multiplies there; test_pretended_gpu.py
builds both. All else is as on a GPU: what the package does with tensors and asks of the library,
the library's checks, plans and workspaces, and its kernels line by line.

What it cannot show:

- streams, and what waits for what: the library has computed when a call returns;
- CUDA graphs, which PyTorch records on a GPU only;
- tensors of two places, for there is one: a scalar of the host's is one of the GPU's;
- memory and time, and sizes that would take too much of it;
- PyTorch's own operators on a GPU, and the products of the real cuBLAS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from visatb.torch import gpu, ops

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "is_gpu": lambda device: device.type == "cpu",
    "made_current": lambda _: contextlib.nullcontext(),
    "stream_of": lambda _: 0,
    "is_capturing": lambda _: False,
    "wait_for": lambda _: None,
}


def pytest_configure() -> None:
    """Before any test is collected, for which tests there are depends on it."""
    for name, function in FUNCTIONS.items():
        setattr(gpu, name, function)
    ops.has_value = lambda _: False
