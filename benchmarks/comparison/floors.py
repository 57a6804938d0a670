"""What to measure against: passes over the same memory, and PyTorch's bare matrix products.

The products are no floor in the strict sense, for another BLAS may be faster than PyTorch's.

Of several ways to do the same the fastest counts, so each kind has several contestants of one name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .contestants import FLOOR, Contestant, Run
from .data import Data
from .names import COPY, COPY_NUMPY, COPY_WARM, PASS, PRODUCTS


def _integers(data: Data) -> Tensor:
    """The logits' memory as integers, which every operation moves and none rounds."""
    flat = data.inputs[0].detach().flatten()
    return flat.view(torch.int32 if flat.nbytes % 4 == 0 else torch.int16)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _in_torch(operation: Callable[[Tensor], Tensor]) -> Callable[[Data], Run]:
    def make(data: Data) -> Run:
        memory = _integers(data)

        def run() -> None:
            operation(memory)

        return run

    return make


def _scaled(data: Data) -> Run:
    memory = data.inputs[0].detach()

    def run() -> None:
        memory.mul_(0.5)

    return run


def _in_numpy_threads(work: Callable[[Any, Any], Any], *, fresh: bool) -> Callable[[Data], Run]:
    """NumPy without its lock on as many threads as PyTorch has, each with one part."""

    def make(data: Data) -> Run:
        memory, threads = _integers(data).numpy(), torch.get_num_threads()
        pool = _pool(threads)
        parts = np.array_split(memory, threads)

        def run() -> None:
            target = np.empty_like(memory) if fresh else memory
            list(pool.map(work, parts, np.array_split(target, threads)))

        return run

    return make


def _clone(data: Data) -> Run:
    memory = data.inputs[0].detach()

    def run() -> None:
        memory.clone()

    return run


def _copy_warm(data: Data) -> Run:
    # Only as long as it is used: it is as large as the logits.
    memory = data.inputs[0].detach()
    target = memory.clone()

    def run() -> None:
        target.copy_(memory)

    return run


def _products(data: Data) -> Run:
    hidden, weight = (tensor.detach() for tensor in data.inputs)

    def run() -> None:
        logits = hidden @ weight.T
        logits @ weight
        logits.T @ hidden

    return run


def _floor(
    name: str, what: str, make: Callable[[Data], Run], *, gathers: bool = False
) -> Contestant:
    return Contestant(name, what, FLOOR, make, gathers=gathers)


LOGITS = (
    _floor(PASS, "torch `neg_` on integers", _in_torch(Tensor.neg_)),
    _floor(PASS, "torch `bitwise_not_` on integers", _in_torch(Tensor.bitwise_not_)),
    _floor(PASS, "torch `mul_`", _scaled),
    _floor(
        PASS,
        "NumPy `negative` in threads",
        _in_numpy_threads(lambda part, target: np.negative(part, out=target), fresh=False),
    ),
    _floor(COPY, "torch `clone`", _clone),
    _floor(
        COPY_NUMPY,
        "NumPy `copyto` in threads; it asks for huge pages",
        _in_numpy_threads(lambda part, target: np.copyto(target, part), fresh=True),
    ),
    _floor(COPY_WARM, "torch `copy_`", _copy_warm),
)
HIDDEN = (_floor(PRODUCTS, "torch `@`: logits, and the two gradients", _products, gathers=True),)
