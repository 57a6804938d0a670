"""Libraries of kernels: Liger and cut-cross-entropy, as far as they run on a CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .contestants import RIVAL, Contestant, NotRun, Result, Run, reason_of
from .data import IGNORED, Data


def module(name: str) -> Any:
    """A module that may not be there, or not for this machine; raises NotRun."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotRun(reason_of(error)) from error


def _with_backward(data: Data, loss_of: Callable[[], Tensor], needs: str = "") -> Run:
    """One call of loss and backward; `needs` says why there may be no driver for Triton."""

    def run() -> Result:
        try:
            loss = loss_of()
            loss.backward()
        except Exception as error:
            reason = needs if NO_DRIVER in str(error) else ""
            raise NotRun(f"{reason}{reason_of(error)}") from error
        return Result(loss, data.gradients())

    return run


NO_DRIVER = "active drivers"  # Triton: "0 active drivers ([]). There should only be one."
TRITON = "its Triton kernels need a GPU: "


def _liger(data: Data) -> Run:
    loss = module("liger_kernel.transformers").LigerCrossEntropyLoss(ignore_index=IGNORED)
    return _with_backward(data, lambda: loss(data.inputs[0], data.labels), TRITON)


def _liger_linear(data: Data) -> Run:
    kernels = module("liger_kernel.transformers")
    loss = kernels.LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED)
    hidden, weight = data.inputs
    return _with_backward(data, lambda: loss(weight, hidden, data.labels), TRITON)


def _cut(data: Data, impl: str, needs: str = "") -> Run:
    loss = module("cut_cross_entropy").linear_cross_entropy
    hidden, weight = data.inputs
    return _with_backward(
        data,
        lambda: loss(hidden, weight, data.labels, ignore_index=IGNORED, impl=impl),
        needs,
    )


def _cut_of_logits(_: Data) -> Run:
    raise NotRun("takes hidden states and a weight, no logits: see the linear form")


LOGITS = (
    Contestant("Liger", "`LigerCrossEntropyLoss`", RIVAL, _liger, gathers=False),
    Contestant("cut-cross-entropy", "no such form", RIVAL, _cut_of_logits, gathers=False),
)
HIDDEN = (
    Contestant(
        "Liger, linear", "`LigerFusedLinearCrossEntropyLoss`", RIVAL, _liger_linear, gathers=False
    ),
    Contestant(
        "cut-cross-entropy",
        '`linear_cross_entropy(impl="cce")`',
        RIVAL,
        lambda data: _cut(data, "cce", TRITON),
        gathers=False,
    ),
    # It gathers the valid rows itself.
    Contestant(
        "cut-cross-entropy, torch_compile",
        '`linear_cross_entropy(impl="torch_compile")`, which gathers the valid rows itself',
        RIVAL,
        lambda data: _cut(data, "torch_compile"),
        gathers=False,
    ),
)
