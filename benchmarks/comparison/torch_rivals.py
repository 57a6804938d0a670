"""What PyTorch alone offers, eager and under torch.compile."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it.
from torch import Tensor

from .contestants import RIVAL, Contestant, NotRun, Result, Run
from .data import IGNORED, Data
from .names import AUTHORS, COMPILED, EAGER, LINEAR_COMPILED, LINEAR_EAGER

Loss = Callable[[Data], Tensor]
CHUNK_ROWS = 256
MOST_ROWS_UNCHUNKED = 512


def _plain(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, ignore_index=IGNORED)


def authors_loss(logits: Tensor, labels: Tensor, task_ids: Tensor, task_weights: Tensor) -> Tensor:
    """The losses of single tokens in fp32, times their task's weight, over the weights' sum."""
    losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")
    weights = task_weights[task_ids] * (labels != IGNORED)
    return (losses * weights).sum() / weights.sum()


def _linear(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight), labels, ignore_index=IGNORED)


def compiled_loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Under torch.compile."""
    # With fixed shapes, the faster kind; fullgraph, so that it fails rather than runs eagerly.
    compiled: Callable[..., Tensor] = torch.compile(function, dynamic=False, fullgraph=True)
    return compiled


def _with_backward(data: Data, loss_of: Callable[[], Tensor]) -> Run:
    def run() -> Result:
        loss = loss_of()
        loss.backward()
        return Result(loss, data.gradients())

    return run


def _make_plain(data: Data, *, compiled: bool) -> Run:
    loss = compiled_loss(_plain) if compiled else _plain
    return _with_backward(data, lambda: loss(data.inputs[0], data.labels))


def _make_authors(data: Data, *, compiled: bool) -> Run:
    loss = compiled_loss(authors_loss) if compiled else authors_loss
    rows = (data.labels, data.task_ids, data.task_weights)
    return _with_backward(data, lambda: loss(data.inputs[0], *rows))


def _make_linear(data: Data, *, compiled: bool) -> Run:
    loss = compiled_loss(_linear) if compiled else _linear
    hidden, weight = data.inputs
    return _with_backward(data, lambda: loss(hidden, weight, data.labels))


def _make_fused(data: Data, *, chunked: bool) -> Run:
    if not hasattr(F, "linear_cross_entropy"):
        raise NotRun(f"PyTorch {torch.__version__} has no F.linear_cross_entropy")
    if not chunked and len(data.labels) > MOST_ROWS_UNCHUNKED:
        raise NotRun("takes many times as long, as the smaller sizes show")
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK_ROWS) if chunked else None

    hidden, weight = data.inputs

    def loss() -> Tensor:
        return F.linear_cross_entropy(
            hidden, weight, data.labels, ignore_index=IGNORED, options=options
        )

    return _with_backward(data, loss)


LOGITS = (
    Contestant(
        EAGER,
        "`F.cross_entropy(...).backward()`, without weights",
        RIVAL,
        lambda data: _make_plain(data, compiled=False),
    ),
    Contestant(
        COMPILED,
        "the same under `torch.compile`",
        RIVAL,
        lambda data: _make_plain(data, compiled=True),
    ),
    Contestant(
        AUTHORS,
        '`F.cross_entropy(logits.float(), ..., reduction="none")`, times weights, over their sum',
        RIVAL,
        lambda data: _make_authors(data, compiled=False),
        weighted=True,
    ),
    Contestant(
        "as published, compiled",
        "the same under `torch.compile`",
        RIVAL,
        lambda data: _make_authors(data, compiled=True),
        weighted=True,
    ),
)
HIDDEN = (
    Contestant(
        LINEAR_EAGER,
        "`F.cross_entropy(F.linear(...), ...).backward()`, without weights",
        RIVAL,
        lambda data: _make_linear(data, compiled=False),
    ),
    Contestant(
        LINEAR_COMPILED,
        "the same under `torch.compile`",
        RIVAL,
        lambda data: _make_linear(data, compiled=True),
    ),
    Contestant(
        "F.linear_cross_entropy",
        "its default, `options=None`",
        RIVAL,
        lambda data: _make_fused(data, chunked=False),
    ),
    Contestant(
        "F.linear_cross_entropy, chunks",
        f"`LinearCrossEntropyOptions(batch_chunk_size={CHUNK_ROWS})`",
        RIVAL,
        lambda data: _make_fused(data, chunked=True),
    ),
)
