"""What is timed on a GPU beside VisATB: PyTorch with weights, and the libraries of kernels.

Who may overwrite the logits gets them from a layer that lets go of them (`Head`), as in training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it.
from torch import Tensor

from . import kernel_rivals, torch_rivals
from .contestants import RIVAL, Contestant, NotRun, Result, Run
from .data import IGNORED, Data
from .head import Head
from .names import (
    AUTHORS,
    CCE,
    CCE_EXACT,
    LIGER,
    LIGER_16,
    LIGER_LINEAR,
    LINEAR_AUTHORS,
    QUACK,
    QUACK_AT_ONCE,
    QUACK_CHUNKED,
    QUACK_LINEAR,
    WEIGHTED_COMPILED,
    WEIGHTED_EAGER,
)

Loss = Callable[[Tensor], Tensor]
LIGER_MEMORY = 16
QUACK_CHUNK_ROWS = 4096  # its own default


def _from_layer(data: Data, loss_of: Loss) -> Run:
    """Forward and backward of logits that a layer computed and nobody needs again."""
    memory = data.inputs[0].detach()
    anchor = torch.zeros((), requires_grad=True, device=memory.device)

    def run() -> Result:
        found: list[Tensor] = []
        loss = loss_of(Head.apply(anchor, memory, found))
        loss.backward()
        return Result(loss, tuple(found))

    return run


def _with_backward(data: Data, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Run:
    hidden, weight = data.inputs

    def run() -> Result:
        loss = loss_of(hidden, weight)
        loss.backward()
        return Result(loss, data.gradients())

    return run


def _weighted(logits: Tensor, labels: Tensor, task_ids: Tensor, task_weights: Tensor) -> Tensor:
    """The weighted mean of losses that PyTorch leaves in the logits' type."""
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    weights = task_weights[task_ids] * (labels != IGNORED)
    return (losses * weights).sum() / weights.sum()


def _make_weighted(data: Data, *, compiled: bool) -> Run:
    loss = torch_rivals.compiled_loss(_weighted) if compiled else _weighted
    rows = (data.labels, data.task_ids, data.task_weights)
    return _from_layer(data, lambda logits: loss(logits, *rows))


def _linear_authors(data: Data) -> Run:
    rows = (data.labels, data.task_ids, data.task_weights)
    return _with_backward(
        data, lambda hidden, weight: torch_rivals.authors_loss(F.linear(hidden, weight), *rows)
    )


def _require_gpu(data: Data, name: str) -> Any:
    if data.labels.device.type == "cpu":
        raise NotRun("its kernels need a GPU")
    return kernel_rivals.module(name)


def _liger(data: Data) -> Run:
    module = _require_gpu(data, "liger_kernel.transformers")
    loss = module.LigerCrossEntropyLoss(ignore_index=IGNORED)
    return _from_layer(data, lambda logits: loss(logits, data.labels))


def _liger_linear(data: Data) -> Run:
    module = _require_gpu(data, "liger_kernel.transformers")
    loss = module.LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED)
    return _with_backward(data, lambda hidden, weight: loss(weight, hidden, data.labels))


def _liger_16(data: Data) -> Run:
    """The class has no such parameter, the function below it has."""
    function = _require_gpu(data, "liger_kernel.ops").LigerFusedLinearCrossEntropyFunction
    parameters = list(inspect.signature(function.forward).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    if "chunk_mem_const" not in names:
        raise NotRun("this version has no chunk_mem_const")
    given = {"ignore_index": IGNORED, "chunk_mem_const": LIGER_MEMORY}
    rest = [given.get(parameter.name, parameter.default) for parameter in parameters[3:]]
    return _with_backward(
        data, lambda hidden, weight: function.apply(hidden, weight, data.labels, *rest)[0]
    )


def _quack(data: Data) -> Run:
    module = _require_gpu(data, "quack.cross_entropy")
    return _from_layer(
        data,
        lambda logits: module.cross_entropy(
            logits, data.labels, ignore_index=IGNORED, inplace_backward=True
        ),
    )


def _quack_at_once(data: Data) -> Run:
    """The kernel that its linear form uses: one pass; neither a mean nor an upstream factor."""
    forward = _require_gpu(data, "quack.cross_entropy").cross_entropy_fwd
    if "return_dx" not in inspect.signature(forward).parameters:
        raise NotRun("this version forms no gradient in the forward")
    memory = data.inputs[0].detach()

    def run() -> Result:
        losses, gradient = forward(
            memory, data.labels, ignore_index=IGNORED, return_dx=True, inplace_backward=True
        )
        return Result(losses.sum(), (gradient,))

    return run


def _quack_linear(data: Data, *, scaled_exp: bool | None) -> Run:
    function = _require_gpu(data, "quack.linear_cross_entropy").chunked_linear_cross_entropy
    options: dict[str, Any] = {"chunk_size": QUACK_CHUNK_ROWS, "ignore_index": IGNORED}
    if "use_scaled_exp" in inspect.signature(function).parameters:
        options["use_scaled_exp"] = scaled_exp
    elif scaled_exp is not None:
        raise NotRun("this version has but one way")
    return _with_backward(
        data, lambda hidden, weight: function(hidden, weight, data.labels, **options)
    )


def _cut(data: Data, **options: Any) -> Run:
    loss = _require_gpu(data, "cut_cross_entropy").linear_cross_entropy
    return _with_backward(
        data,
        lambda hidden, weight: loss(
            hidden, weight, data.labels, ignore_index=IGNORED, impl="cce", **options
        ),
    )


def _of_torch(contestants: tuple[Contestant, ...], *left_out: str) -> tuple[Contestant, ...]:
    """Those of the CPU; compiled ones for all rows only, since each shape takes seconds."""
    return tuple(
        replace(one, gathers=one.gathers and "compile" not in f"{one.name} {one.what}")
        for one in contestants
        if not one.name.startswith(left_out)
    )


def _rival(name: str, what: str, make: Callable[[Data], Run], **more: Any) -> Contestant:
    return Contestant(name, what, RIVAL, make, **more)


LOGITS = (
    *_of_torch(torch_rivals.LOGITS),
    _rival(
        WEIGHTED_EAGER,
        f"the same as {AUTHORS!r} without `float()`",
        lambda data: _make_weighted(data, compiled=False),
        weighted=True,
    ),
    _rival(
        WEIGHTED_COMPILED,
        "the same under `torch.compile`",
        lambda data: _make_weighted(data, compiled=True),
        weighted=True,
        gathers=False,
    ),
    _rival(LIGER, "`LigerCrossEntropyLoss`", _liger),
    _rival(QUACK, "`cross_entropy(inplace_backward=True)`", _quack),
    _rival(
        QUACK_AT_ONCE,
        "`cross_entropy_fwd(return_dx=True, inplace_backward=True)` and a sum of its losses",
        _quack_at_once,
        summed=True,
    ),
)
HIDDEN = (
    *_of_torch(torch_rivals.HIDDEN, "F.linear_cross_entropy"),
    _rival(
        LINEAR_AUTHORS,
        "the losses of `F.linear(...).float()`, times weights, over their sum",
        _linear_authors,
        weighted=True,
    ),
    _rival(LIGER_LINEAR, "`LigerFusedLinearCrossEntropyLoss`", _liger_linear),
    _rival(
        LIGER_16,
        f"`LigerFusedLinearCrossEntropyFunction`, `chunk_mem_const={LIGER_MEMORY}`",
        _liger_16,
    ),
    _rival(
        QUACK_LINEAR,
        "`chunked_linear_cross_entropy`, its own choice of a way",
        lambda data: _quack_linear(data, scaled_exp=None),
    ),
    # Each shape is tuned for seconds.
    _rival(
        QUACK_CHUNKED,
        "`chunked_linear_cross_entropy(use_scaled_exp=False)`",
        lambda data: _quack_linear(data, scaled_exp=False),
        gathers=False,
    ),
    # It leaves out the rows that do not count by itself.
    _rival(CCE, '`linear_cross_entropy(impl="cce")`', _cut, gathers=False),
    _rival(
        CCE_EXACT,
        '`linear_cross_entropy(impl="cce", filter_eps=None)`',
        lambda data: _cut(data, filter_eps=None),
        gathers=False,
    ),
)
