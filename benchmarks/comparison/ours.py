"""VisATB's own contestants."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

import visatb
from visatb import _lib
from visatb.torch import linear_call
from visatb.torch.team import torch_team

from .contestants import OURS, Contestant, NotRun, Result, Run
from .data import Data
from .head import Head
from .names import C_CALL, IN_PLACE, LINEAR, SEPARATE


def _separate(data: Data) -> Run:
    (logits,) = data.inputs

    def run() -> Result:
        loss = visatb.vitw_loss(logits, data.labels, data.task_ids, data.task_weights)
        loss.backward()
        return Result(loss, data.gradients())

    return run


def _in_place(data: Data) -> Run:
    memory = data.inputs[0].detach()
    anchor = torch.zeros((), requires_grad=True, device=memory.device)

    def run() -> Result:
        logits = Head.apply(anchor, memory)
        loss = visatb.vitw_loss(logits, data.labels, data.task_ids, data.task_weights, inplace=True)
        loss.backward()
        return Result(loss, (memory,))

    return run


def _c_call(data: Data) -> Run:
    memory = data.inputs[0].detach()
    rows, vocab = memory.shape
    loss = torch.empty((), dtype=torch.float64)
    name = str(memory.dtype).removeprefix("torch.").upper()

    def pointer(tensor: Tensor, element: Any) -> Any:
        return ctypes.cast(tensor.data_ptr(), ctypes.POINTER(element))

    arguments = _lib.VitwLossArgs(
        rows=rows,
        vocab=vocab,
        tasks=len(data.task_weights),
        logits=memory.data_ptr(),
        dtype=_lib.Dtype[name],
        threads=torch.get_num_threads(),
        team=torch_team() or _lib.Team(),
        labels=pointer(data.labels, ctypes.c_int64),
        task_ids=pointer(data.task_ids, ctypes.c_int32),
        task_weights=pointer(data.task_weights, ctypes.c_float),
        loss=pointer(loss, ctypes.c_double),
        gradient=memory.data_ptr(),
    )
    function, reference = _lib.library().visatb_vitw_loss, ctypes.byref(arguments)

    def run() -> Result:
        _lib.check(function(reference))
        return Result(loss, (memory,))

    return run


def _linear(data: Data) -> Run:
    hidden, weight = data.inputs
    try:
        linear_loss: Any = visatb.vitw_linear_loss
    except AttributeError:
        raise NotRun("this visatb has no vitw_linear_loss") from None

    def run() -> Result:
        loss = linear_loss(hidden, weight, data.labels, data.task_ids, data.task_weights)
        loss.backward()
        return Result(loss, data.gradients())

    return run


def _linear_plan(data: Data) -> dict[str, Any]:
    """In how many chunks the rows pass at most, and what multiplies: the plan of the very call."""
    made = []

    class Plan(_lib.LinearPlan):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    hidden, weight = data.inputs
    setattr(linear_call, "LinearPlan", Plan)  # noqa: B010 - Only here.
    try:
        visatb.vitw_linear_loss(hidden, weight, data.labels, data.task_ids, data.task_weights)
    finally:
        setattr(linear_call, "LinearPlan", _lib.LinearPlan)  # noqa: B010
    (plan,) = made
    return {
        "chunks": plan.chunks,
        "chunk_rows": plan.chunk_rows,
        "workspace_bytes": plan.workspace_bytes,
        "product": plan.product.decode(),
    }


LOGITS = (
    Contestant(SEPARATE, "`vitw_loss(...).backward()`", OURS, _separate, weighted=True),
    Contestant(
        IN_PLACE, "`vitw_loss(..., inplace=True).backward()`", OURS, _in_place, weighted=True
    ),
    Contestant(
        C_CALL,
        "`visatb_vitw_loss` by ctypes, `gradient` being the logits; no PyTorch in it",
        OURS,
        _c_call,
        weighted=True,
    ),
)
HIDDEN = (
    Contestant(
        LINEAR,
        "`vitw_linear_loss(...).backward()`",
        OURS,
        _linear,
        weighted=True,
        details=_linear_plan,
    ),
)
