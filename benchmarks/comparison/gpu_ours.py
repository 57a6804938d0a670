"""VisATB's own contestants on a GPU."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import visatb
from visatb import _lib

from . import ours
from .contestants import OURS, Contestant, NotRun, Result, Run
from .data import IGNORED, Data
from .names import C_CALL, EXACT, LINEAR, ONE_CHUNK, SYNC

GIB = 2**30
# What a chunk's rows may be rounded up to.
ROWS_OF_A_TILE = 256


def _pointer(tensor: Tensor, element: Any) -> Any:
    return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(element))


def _loss_arguments(data: Data) -> Any:
    """Of an in-place call, but for its workspace and what it tells."""
    memory = data.inputs[0].detach()
    rows, vocab = memory.shape
    return _lib.VitwLossArgs(
        rows=rows,
        vocab=vocab,
        tasks=len(data.task_weights),
        logits=memory.data_ptr(),
        gradient=memory.data_ptr(),
        dtype=_dtype(memory),
        labels=_pointer(data.labels, ctypes.c_int64),
        task_ids=_pointer(data.task_ids, ctypes.c_int32),
        task_weights=_pointer(data.task_weights, ctypes.c_float),
        device=_lib.Device.CUDA,
        stream=torch.cuda.current_stream().cuda_stream,
    )


def _dtype(tensor: Tensor) -> int:
    return int(_lib.Dtype[str(tensor.dtype).removeprefix("torch.").upper()])


def _loss_plan(data: Data) -> Any:
    plan = _lib.LossPlan()
    arguments = _loss_arguments(data)
    _lib.check(_lib.library().visatb_vitw_loss_plan(ctypes.byref(arguments), ctypes.byref(plan)))
    return plan


def _require_gpu(data: Data) -> None:
    if data.labels.device.type == "cpu":
        raise NotRun("this one is of a GPU's memory")


def _c_call(data: Data) -> Run:
    """Without PyTorch's part of the work."""
    _require_gpu(data)
    memory = data.inputs[0].detach()
    workspace = torch.empty(
        int(_loss_plan(data).workspace_bytes), dtype=torch.uint8, device=memory.device
    )
    loss = torch.empty((), dtype=torch.float64, device=memory.device)
    arguments = _loss_arguments(data)
    arguments.workspace, arguments.workspace_bytes = workspace.data_ptr(), workspace.numel()
    arguments.loss = _pointer(loss, ctypes.c_double)
    function = _lib.library().visatb_vitw_loss

    def run(held: Tensor = workspace) -> Result:
        # The arguments only point to the workspace.
        del held
        _lib.check(function(ctypes.byref(arguments)))
        return Result(loss, (memory,))

    return run


def _launch(data: Data) -> dict[str, Any]:
    """The kernel that is taken."""
    if data.labels.device.type == "cpu":
        return {}
    plan = _loss_plan(data)
    path = _lib.CudaPath(plan.cuda_path).name.lower()
    return {"path": path, "cluster": plan.cluster, "threads": plan.threads}


def _linear_options(name: str, data: Data) -> dict[str, Any]:
    """What is given to vitw_linear_loss besides its tensors."""
    valid = int((data.labels != IGNORED).sum())
    if name == EXACT:
        return {"max_valid_rows": valid, "chunk_bytes": GIB}
    if name == ONE_CHUNK:
        rows = -(-valid // ROWS_OF_A_TILE) * ROWS_OF_A_TILE
        weight = data.inputs[1]
        # On a CPU it is the whole workspace, and its logits are fp32.
        spare = 1 if weight.device.type != "cpu" else 64
        return {
            "max_valid_rows": valid,
            "chunk_bytes": spare * rows * weight.shape[0] * weight.element_size(),
        }
    if name == SYNC:
        if "allow_sync" not in inspect.signature(visatb.vitw_linear_loss).parameters:
            raise NotRun("this visatb has no allow_sync")
        return {"allow_sync": True}
    return {}


def _linear(name: str) -> Callable[[Data], Run]:
    def make(data: Data) -> Run:
        hidden, weight = data.inputs
        rows = (data.labels, data.task_ids, data.task_weights)
        options = _linear_options(name, data)

        def run() -> Result:
            loss = visatb.vitw_linear_loss(hidden, weight, *rows, **options)
            loss.backward()
            return Result(loss, data.gradients())

        return run

    return make


def _linear_plan(name: str) -> Callable[[Data], dict[str, Any]]:
    """In how many chunks the rows pass."""

    def plan_of(data: Data) -> dict[str, Any]:
        if data.labels.device.type == "cpu":
            return {}
        hidden, weight = data.inputs
        options = {k: v for k, v in _linear_options(name, data).items() if k != "allow_sync"}
        if name == SYNC:
            options["max_valid_rows"] = int((data.labels != IGNORED).sum())
        arguments = _lib.VitwLinearLossArgs(
            rows=hidden.shape[0],
            hidden_size=hidden.shape[1],
            vocab=weight.shape[0],
            tasks=len(data.task_weights),
            dtype=_dtype(hidden),
            head_gradient_dtype=_dtype(hidden),
            device=_lib.Device.CUDA,
            **options,
        )
        plan = _lib.LinearPlan()
        _lib.check(
            _lib.library().visatb_vitw_linear_loss_plan(ctypes.byref(arguments), ctypes.byref(plan))
        )
        return {
            "chunks": plan.chunks,
            "chunk_rows": plan.chunk_rows,
            "workspace_bytes": plan.workspace_bytes,
            "product": plan.product.decode(),
        }

    return plan_of


def _linear_contestant(name: str, what: str, *, gathers: bool = False) -> Contestant:
    return Contestant(
        name,
        what,
        OURS,
        _linear(name),
        weighted=True,
        gathers=gathers,
        details=_linear_plan(name),
    )


LOGITS = (
    *(replace(one, details=_launch) for one in ours.LOGITS if one.name != C_CALL),
    Contestant(
        C_CALL,
        "`visatb_vitw_loss` by ctypes, `gradient` being the logits; no PyTorch in it",
        OURS,
        _c_call,
        weighted=True,
    ),
)
HIDDEN = (
    _linear_contestant(LINEAR, "`vitw_linear_loss(...).backward()`", gathers=True),
    _linear_contestant(EXACT, "the same, `max_valid_rows` as counted, `chunk_bytes` 1 GiB"),
    _linear_contestant(ONE_CHUNK, "the same, `max_valid_rows` as counted, logits in one chunk"),
    _linear_contestant(SYNC, "the same, `allow_sync=True`"),
)
