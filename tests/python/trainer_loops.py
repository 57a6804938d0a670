"""Training loops of one's own, with StepLoader, by DDP or FSDP2; and one without VisATB.

What `trainer_ranks` runs for the plans that do not go by Hugging Face's Trainer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from visatb.torch import VITWLinearLoss, VITWLoss
from visatb.trainers import LinearHead, Step, StepLoader

Batch = dict[str, Any]
# What a loop computes the loss of a batch by.
LossOf = Callable[[Batch, Step], Tensor]


def by_ddp(model: Any, options: dict[str, Any]) -> Any:
    return DistributedDataParallel(model, **options)


def by_fsdp2(model: Any, options: dict[str, Any]) -> Any:
    """Each layer and the rest; the head by itself too, and bf16, where the options say so."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    precision = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if options.get("bf16") else None, reduce_dtype=torch.float32
    )
    parts = [*model.model.layers, *([model.lm_head] if options.get("head_alone") else []), model]
    for part in parts:
        fully_shard(part, mp_policy=precision)
    return model


WRAPPERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {"ddp": by_ddp, "fsdp2": by_fsdp2}


def loss_by_hand(logits: Tensor, batch: Batch, weights: Sequence[float]) -> Tensor:
    """Eq. 2 of logits [batch, seq, vocab], in fp32 and without VisATB."""
    labels = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    nll = functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
    weight = torch.tensor(weights)[batch["task_ids"]][:, None] * (labels != -100)
    return (weight * nll).sum() / weight.sum().clamp(min=1e-30)


def train_by_hand(
    model: Any, optimizer: torch.optim.Optimizer, steps: list[Batch], weights: Sequence[float]
) -> list[float]:
    """One process, one batch a step: what every other way of training is compared with."""
    losses = []
    for batch in steps:
        loss = loss_by_hand(model(input_ids=batch["input_ids"]).logits, batch, weights)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def logits_form(model: Any, weights: Sequence[float], compiled: bool) -> tuple[VITWLoss, LossOf]:
    criterion = VITWLoss(weights, shift=True)
    loss = torch.compile(criterion, backend="aot_eager") if compiled else criterion

    def loss_of(batch: Batch, step: Step) -> Tensor:
        logits = model(input_ids=batch["input_ids"]).logits
        result: Tensor = loss(
            logits, batch["labels"], batch["task_ids"], denominator=step.denominator
        )
        return result

    return criterion, loss_of


def linear_form(model: Any, inner: Any, weights: Sequence[float]) -> tuple[VITWLinearLoss, LossOf]:
    criterion = VITWLinearLoss(weights, shift=True, return_stats=True)
    head = LinearHead(inner, criterion)

    def loss_of(batch: Batch, step: Step) -> Tensor:
        inputs = {key: batch[key] for key in ("input_ids", "labels")}
        return head.loss_of(model, inputs, batch["task_ids"], step)[0]

    return criterion, loss_of


def train_in_loop(
    inner: nn.Module,
    optimizer_of: Callable[[Any], torch.optim.Optimizer],
    batches: list[Batch],
    weights: Sequence[float],
    *,
    engine: str,
    accumulation: int,
    linear: bool = False,
    compiled: bool = False,
    **wrapping: Any,
) -> list[float]:
    """The step's loss after each step, over all ranks, as rank 0 sees it."""
    model = WRAPPERS[engine](inner, wrapping)
    optimizer = optimizer_of(inner)
    criterion, loss_of = (
        linear_form(model, inner, weights) if linear else logits_form(model, weights, compiled)
    )
    losses, of_step = [], torch.zeros(())
    for batch in StepLoader(batches, criterion, accumulation_steps=accumulation):
        step: Step = batch["visatb_step"]
        with reduced_only_at_the_end(model, step):
            loss = loss_of(batch, step)
            loss.backward()
        of_step = of_step + loss.detach()
        if step.is_last:
            optimizer.step()
            optimizer.zero_grad()
            losses.append(mean_over_ranks(of_step))
            of_step = torch.zeros(())
    return losses


@contextlib.contextmanager
def reduced_only_at_the_end(model: Any, step: Step) -> Iterator[None]:
    """Gradients are averaged over ranks once a step, where the engine can be told so."""
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(step.is_last)
    # PyTorch itself fails at no_sync() in the first step of a static graph.
    told = hasattr(model, "no_sync") and not model.static_graph
    with model.no_sync() if told and not step.is_last else contextlib.nullcontext():
        yield


def mean_over_ranks(value: Tensor) -> float:
    """The ranks' losses are made to be averaged, as their gradients are."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return float(value)
