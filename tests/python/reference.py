"""The VITW loss computed a second time, in fp64 and straight from its formula."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Reference(NamedTuple):
    """What the loss must give; the gradient has the shape of the logits."""

    loss: Tensor
    gradient: Tensor
    numerator: Tensor
    denominator: Tensor
    task_nll: Tensor
    task_tokens: Tensor


def reference(
    logits: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: Tensor,
    *,
    ignore_index: int = -100,
    denominator: float | None = None,
    reduction: str = "mean",
) -> Reference:
    """L = sum_t lambda[task(t)] nll(t) / D over the tokens whose label is not ignore_index.

    logits [..., vocab], labels and task_ids [...] of one shape.
    """
    z = logits.detach().double().clone().requires_grad_()
    valid = labels != ignore_index
    target = torch.where(valid, labels, 0).unsqueeze(-1)
    nll = torch.logsumexp(z, dim=-1) - z.gather(-1, target).squeeze(-1)
    weight = torch.where(valid, task_weights.double()[task_ids], 0.0)
    numerator = torch.where(weight > 0, weight * nll, 0.0).sum()
    counted = weight.sum() if denominator is None else torch.tensor(denominator).double()
    divisor = counted if reduction == "mean" and counted > 0 else torch.ones(()).double()
    loss = numerator / divisor
    (gradient,) = torch.autograd.grad(loss, z)
    of_task = [valid & (task_ids == task) for task in range(len(task_weights))]
    return Reference(
        loss.detach(),
        gradient,
        numerator.detach(),
        counted,
        torch.stack([nll.detach()[rows].sum() for rows in of_task]),
        torch.stack([rows.sum() for rows in of_task]),
    )


class Batch(NamedTuple):
    """A batch of three sequences and three tasks, one of them of weight 0."""

    logits: Tensor
    labels: Tensor
    task_ids: Tensor
    task_weights: Tensor


def make_batch(
    dtype: torch.dtype = torch.float32, *, seq: int = 6, vocab: int = 37, seed: int = 0
) -> Batch:
    """Logits [3, seq, vocab], labels and task ids [3, seq], with some labels ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(3, seq, vocab, generator=generator, dtype=torch.float64)).to(dtype)
    labels = torch.randint(0, vocab, (3, seq), generator=generator)
    labels[:, ::3] = -100
    task_ids = torch.randint(0, 3, (3, seq), generator=generator)
    task_ids[:, 1:4] = torch.arange(3)  # Every task is there.
    return Batch(logits, labels, task_ids, torch.tensor([0.5, 1.75, 0.0]))


def assert_gradient(found: Tensor, expected: Tensor, *, scale: float = 1.0) -> None:
    """The gradient is `scale` times the expected one, to the rounding of its type."""
    relative = {torch.float64: 1e-12, torch.float32: 2e-6}
    rtol = relative.get(found.dtype, torch.finfo(found.dtype).eps)
    atol: float = 1e-7 * scale if found.dtype != torch.float64 else 1e-15
    torch.testing.assert_close(found.double(), scale * expected, rtol=rtol, atol=atol)


def loss_and_gradient(function: Any, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
    """(loss, dloss/dlogits) of function(logits, ...)."""
    leaf = logits.detach().clone().requires_grad_()
    # In place needs logits that were computed; a copy serves every form.
    loss = function(leaf.clone(), *args, **kwargs)
    loss.backward()
    return loss.detach(), leaf.grad
