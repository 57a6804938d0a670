"""The numbers of a case: the same for every contestant, renewed before every run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .cases import Case
from .memory import give_back

IGNORED = -100
TASK_WEIGHTS = (0.95, 0.88, 1.16, 1.0)
ROWS_PER_SEQUENCE = 128
SEED = 0
# fp32 numbers are made before they are rounded; on a GPU so many rows at a time.
ROWS_AT_A_TIME = 1024


@dataclass
class Data:
    """What a loss is computed from.

    Attributes:
        labels: [rows] int64, IGNORED or in [0, vocab).
        task_ids: [rows] int32.
        task_weights: [tasks] fp32.
        inputs: the leaves that need a gradient: (logits,), or (hidden, weight).
        source: the logits again, from which they are renewed, for some contestants overwrite them.
    """

    labels: Tensor
    task_ids: Tensor
    task_weights: Tensor
    inputs: tuple[Tensor, ...]
    source: Tensor | None

    def renew(self) -> None:
        """Frees the gradients and gives free memory back, then fills the logits anew.

        All contestants share these tensors and get them so, for then none finds more of its data in
        the caches than another.
        """
        for leaf in self.inputs:
            leaf.grad = None
        if self.labels.device.type == "cpu":
            give_back()
        if self.source is not None:
            self.inputs[0].detach().copy_(self.source)

    def gradients(self) -> tuple[Tensor, ...]:
        """The gradients that a backward left."""
        gradients = tuple(leaf.grad for leaf in self.inputs)
        if any(gradient is None for gradient in gradients):
            raise RuntimeError("a backward left no gradient")
        return gradients  # type: ignore[return-value]

    def gathered(self) -> Data:
        """The valid rows alone, as if somebody had gathered them before."""
        valid = (self.labels != IGNORED).nonzero().flatten()
        first = (self.inputs[0].detach() if self.source is None else self.source)[valid]
        return Data(
            self.labels[valid],
            self.task_ids[valid],
            self.task_weights,
            (_leaf(first), *self.inputs[1:]),
            None if self.source is None else first,
        )


def make_data(case: Case, device: str = "cpu") -> Data:
    """Random numbers from a fixed seed."""
    size, dtype = case.size, getattr(torch, case.dtype)
    generator = torch.Generator(device).manual_seed(SEED)
    labels, task_ids = (tensor.to(device) for tensor in _rows(case))
    task_weights = torch.tensor(TASK_WEIGHTS, device=device)
    if size.hidden is None:
        source = _normal((size.rows, size.vocab), 2.0, dtype, generator)
        return Data(labels, task_ids, task_weights, (_leaf(source),), source)
    hidden = _normal((size.rows, size.hidden), 1.0, dtype, generator)
    # Logits of a spread of about 1.
    weight = _normal((size.vocab, size.hidden), size.hidden**-0.5, dtype, generator)
    inputs = (hidden.requires_grad_(), weight.requires_grad_())
    return Data(labels, task_ids, task_weights, inputs, None)


def _normal(
    shape: tuple[int, int], spread: float, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    device = generator.device
    values = torch.empty(shape, dtype=dtype, device=device)
    for part in values.split(shape[0] if device.type == "cpu" else ROWS_AT_A_TIME):
        part.copy_(torch.randn(part.shape, generator=generator, device=device) * spread)
    return values


def _rows(case: Case) -> tuple[Tensor, Tensor]:
    """Labels and task ids of sequences: a prompt, which does not count, and an answer."""
    random = np.random.default_rng(SEED)
    rows, count = case.size.rows, max(1, case.size.rows // ROWS_PER_SEQUENCE)
    valid = rows * case.valid // 100
    labels = random.integers(0, case.size.vocab, rows)
    task_ids = np.empty(rows, dtype=np.int32)
    start = 0
    prompts, answers = _parts(random, rows - valid, count), _parts(random, valid, count)
    for prompt, answer in zip(prompts, answers, strict=True):
        labels[start : start + prompt] = IGNORED
        task_ids[start : start + prompt + answer] = random.integers(len(TASK_WEIGHTS))
        start += prompt + answer
    return torch.from_numpy(labels), torch.from_numpy(task_ids)


def _parts(random: np.random.Generator, total: int, count: int) -> list[int]:
    """Random lengths that add up to the total."""
    cuts = np.sort(random.integers(0, total + 1, count - 1))
    return [int(part) for part in np.diff([0, *cuts, total])]


def _leaf(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()
