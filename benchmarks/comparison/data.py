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


def make_data(case: Case) -> Data:
    """Random numbers from a fixed seed."""
    size, dtype = case.size, getattr(torch, case.dtype)
    generator = torch.Generator().manual_seed(SEED)
    labels, task_ids = _rows(case)
    if size.hidden is None:
        source = (torch.randn(size.rows, size.vocab, generator=generator) * 2).to(dtype)
        inputs: tuple[Tensor, ...] = (_leaf(source),)
    else:
        source = None
        hidden = torch.randn(size.rows, size.hidden, generator=generator)
        # Logits of a spread of about 1.
        weight = torch.randn(size.vocab, size.hidden, generator=generator) * size.hidden**-0.5
        inputs = tuple(tensor.to(dtype).requires_grad_() for tensor in (hidden, weight))
    return Data(labels, task_ids, torch.tensor(TASK_WEIGHTS), inputs, source)


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
