"""The VITW loss computed a second time, in fp64 and straight from its formula."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
    **options: Any,
) -> Reference:
    """L = sum_t lambda[task(t)] l(t) / D over the tokens whose label is not ignore_index.

    logits [..., vocab], labels and task_ids [...] of one shape; options as in `formula`.
    """
    x = logits.detach().double().clone().requires_grad_()
    loss, *others = formula(x, labels, task_ids, task_weights, **options)
    (gradient,) = torch.autograd.grad(loss, x)
    return Reference(loss.detach(), gradient, *(other.detach() for other in others))


def formula(
    x: Tensor,
    labels: Tensor,
    task_ids: Tensor,
    task_weights: Tensor,
    *,
    ignore_index: int = -100,
    denominator: float | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
) -> tuple[Tensor, ...]:
    """Loss, numerator, denominator, task_nll and task_tokens of fp64 logits, differentiable."""
    z = softcap * torch.tanh(x / softcap) if softcap else x
    valid = labels != ignore_index
    target = torch.where(valid, labels, 0).unsqueeze(-1)
    lse = torch.logsumexp(z, dim=-1)
    nll = lse - z.gather(-1, target).squeeze(-1)
    of_token = nll
    if label_smoothing:
        spread = (lse.unsqueeze(-1) - z).mean(dim=-1)
        of_token = (1 - label_smoothing) * nll + label_smoothing * spread
    of_token = of_token + z_loss * lse.square()
    weight = torch.where(valid, task_weights.double()[task_ids], 0.0)
    numerator = torch.where(weight > 0, weight * of_token, 0.0).sum()
    counted = weight.sum() if denominator is None else torch.tensor(denominator).double()
    divisor = counted if reduction == "mean" and counted > 0 else torch.ones(()).double()
    of_task = [valid & (task_ids == task) for task in range(len(task_weights))]
    return (
        numerator / divisor,
        numerator,
        counted,
        torch.stack([nll[rows].sum() for rows in of_task]),
        torch.stack([rows.sum() for rows in of_task]),
    )


NAMES = ("hidden", "weight", "bias")
# Logits are rounded to their type on a GPU.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


class LinearReference(NamedTuple):
    """What the loss of a linear head must give."""

    loss: Tensor
    hidden: Tensor
    weight: Tensor
    bias: Tensor


def linear_reference(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, **options: Any
) -> LinearReference:
    """The loss of hidden weight^T + bias, and its gradients, in fp64."""
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    leaves = [each.detach().double().clone().requires_grad_() for each in (hidden, weight, bias)]
    loss, *_ = formula(torch.nn.functional.linear(*leaves), *args, **options)
    return LinearReference(loss.detach(), *torch.autograd.grad(loss, leaves))


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
    task_ids[:, 1:4] = torch.arange(3)[: max(seq - 1, 0)]  # Every task is there.
    return Batch(logits, labels, task_ids, torch.tensor([0.5, 1.75, 0.0]))


class LinearBatch(NamedTuple):
    """A batch of hidden states and the head of a model."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    labels: Tensor
    task_ids: Tensor
    task_weights: Tensor

    @property
    def terms(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the loss takes behind its logits, however they are made."""
        return self[3:]


def make_linear_batch(
    dtype: torch.dtype = torch.float32,
    *,
    seq: int = 6,
    width: int = 16,
    vocab: int = 37,
    seed: int = 0,
) -> LinearBatch:
    """Hidden states [3, seq, width] whose logits are of the size of those of `make_batch`."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)

    return LinearBatch(
        normal(3, seq, width, scale=1),
        normal(vocab, width, scale=4 / width**0.5),
        normal(vocab, scale=1),
        *make_batch(seq=seq, vocab=vocab, seed=seed)[1:],
    )


def linear_gradients(function: Any, batch: LinearBatch, **kwargs: Any) -> LinearReference:
    """The loss of function(hidden, weight, *terms, bias=bias), and its three gradients."""
    leaves = [each.detach().clone().requires_grad_() for each in batch[:3]]
    loss = function(*leaves[:2], *batch.terms, bias=leaves[2], **kwargs)
    loss.backward()
    return LinearReference(loss.detach(), *(leaf.grad for leaf in leaves))


def materialised(batch: LinearBatch, *, scale: float = 1.0) -> LinearReference:
    """What PyTorch makes of it: a product in the type of the model, and a softmax in fp32."""
    leaves = [each.clone().requires_grad_() for each in batch[:3]]
    logits = torch.nn.functional.linear(*leaves).float().flatten(0, -2)
    labels, task_ids = (each.flatten() for each in batch.terms[:2])
    nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    weight = torch.where(labels != -100, batch.task_weights[task_ids], 0.0)
    loss = (weight * nll).sum() / weight.sum()
    (scale * loss).backward()
    return LinearReference(loss.detach(), *(leaf.grad for leaf in leaves))


def distance(found: Tensor, expected: Tensor) -> float:
    """How far they are apart, relative to what is expected, in the Euclidean norm."""
    return float((found.double() - expected).norm() / expected.norm())


def assert_close(
    found: LinearReference, expected: LinearReference, dtype: torch.dtype, *, scale: float = 1.0
) -> None:
    """The loss, and gradients that are `scale` times the expected ones."""
    tolerance = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 4e-3}.get(dtype, 6e-4)
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=1e-6, atol=1e-12)
    for name in NAMES:
        gradient = getattr(found, name)
        assert gradient.dtype == dtype
        error = distance(gradient, scale * getattr(expected, name))
        assert error <= tolerance, f"{name}: {error}"


def assert_near(found: LinearReference, expected: LinearReference, scale: float = 1.0) -> None:
    """As `assert_close`, for logits of the type of the head."""
    tolerance = TOLERANCE[found.hidden.dtype]
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=tolerance, atol=1e-12)
    for name in NAMES:
        error = distance(getattr(found, name), scale * getattr(expected, name))
        assert error <= tolerance, f"{name}: {error}"


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


class LargestTensor(TorchDispatchMode):
    """Watches what operators make: `elements` is the size of the largest new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {arg.data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.data_ptr() not in inputs:
            self.elements = max(self.elements, result.numel())
        return result
