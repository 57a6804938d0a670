"""How a loss will be computed, asked before it is."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from torch import Tensor

from .. import _lib
from .._errors import ArgumentError, UnsupportedError
from . import gpu
from .arguments import prepare_tokens
from .call import DTYPES, has_plain_rows, row_stride
from .places import in_words_of_python
from .rows import Tokens

_CUDA_PATHS = {_lib.CudaPath.ONE_READ: "cuda one read", _lib.CudaPath.TWO_READ: "cuda two read"}


class LossPlan(NamedTuple):
    """The way that `vitw_loss` takes with such logits.

    Attributes:
        device: of the logits, as "cpu" or "cuda:0".
        path: what computes a row: "portable", "avx2", "avx512" or "avx512_bf16" on a CPU; on a GPU
            "cuda one read", where a row waits on the chip until its gradient is formed, or "cuda
            two read".
        cluster: thread blocks of the GPU that share a row, 0 on a CPU.
        threads: of each of them, 0 on a CPU.
        workspace_bytes: what a call takes beside tensors that it hands out; 0 on a CPU, where the
            library takes some for itself.
    """

    device: str
    path: str
    cluster: int
    threads: int
    workspace_bytes: int


def vitw_loss_plan(logits: Tensor, *, inplace: bool = False) -> LossPlan:
    """Which way `vitw_loss` takes with these logits; nothing is computed, and nobody waits.

    Args:
        logits: as in `vitw_loss`; only their shape, type, strides and place count.
        inplace: as in `vitw_loss`.

    Errors: ArgumentError, UnsupportedError: those of `vitw_loss`, such as a GPU that the library
    cannot use.
    """
    rows = prepare_tokens(Tokens("logits", logits.detach()), "vocab")
    arguments = _lib.VitwLossArgs(
        rows=rows.shape[0], vocab=rows.shape[1], tasks=1, dtype=DTYPES[rows.dtype]
    )
    # Others are copied, and then lie as the library takes them for granted.
    if has_plain_rows(rows):
        arguments.logits = rows.data_ptr()
        arguments.logits_stride = row_stride("logits", rows)
    if inplace:
        arguments.gradient = arguments.logits
        arguments.gradient_stride = arguments.logits_stride
    if gpu.is_gpu(rows.device):
        arguments.device = _lib.Device.CUDA
    plan = _lib.LossPlan()
    call = _lib.library().visatb_vitw_loss_plan
    with gpu.made_current(rows.device):
        try:
            _lib.check(call(ctypes.byref(arguments), ctypes.byref(plan)))
        except (ArgumentError, UnsupportedError) as error:
            raise type(error)(in_words_of_python(error)) from None
    return LossPlan(
        str(rows.device), _path_of(plan), plan.cluster, plan.threads, plan.workspace_bytes
    )


def _path_of(plan: _lib.LossPlan) -> str:
    if plan.cuda_path in _CUDA_PATHS:
        return _CUDA_PATHS[plan.cuda_path]
    name: bytes = _lib.library().visatb_cpu_path_name(plan.cpu_path)
    return name.decode()
