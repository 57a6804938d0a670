"""Batches for the tests of the losses on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import Batch, LinearBatch, reference

from visatb.torch import ops, vitw_linear_loss

OTHER = 1.75  # The weight of task 1 in what `make_rows` makes.
# 138 of 210 rows are valid: several chunks of 2^16 bytes, and less than a bound that is rounded up.
SHAPE = {"seq": 70, "width": 24, "vocab": 301}


def make_rows(device: str, dtype: torch.dtype, rows: int, vocab: int) -> Batch:
    """Rows of logits, made where they are used: some certain of their label, some ignored."""
    generator = torch.Generator(device).manual_seed(rows + vocab)
    logits = torch.randn(rows, vocab, generator=generator, device=device).mul_(3).to(dtype)
    labels = torch.randint(vocab, (rows,), generator=generator, device=device)
    row = torch.arange(rows, device=device)
    certain, ignored = row[row % 5 == 1], row[row % 4 == 3]
    logits[certain, labels[certain]] = 30
    labels[ignored] = -100
    logits[ignored] = torch.nan
    task_ids = torch.randint(3, (rows,), generator=generator, device=device)
    task_ids[0] = 1
    return Batch(logits, labels, task_ids, torch.tensor([0.5, OTHER, 0.0], device=device))


def reference_of_rows(batch: Batch, **options: Any) -> Any:
    """As `reference`, for logits that may be NaN where they do not count."""
    counted = (batch.labels != -100).unsqueeze(-1)
    return reference(torch.where(counted, batch.logits, 0), *batch[1:], **options)


def make_large_batch(device: str, dtype: torch.dtype, rows: int, vocab: int) -> LinearBatch:
    """Hidden states of 1024 numbers, made where they are used; a quarter of the rows is valid."""
    generator = torch.Generator(device).manual_seed(rows + vocab)

    def normal(*shape: int, scale: float) -> Any:
        return torch.randn(*shape, generator=generator, device=device).mul_(scale).to(dtype)

    labels = torch.randint(vocab, (rows,), generator=generator, device=device)
    labels[torch.arange(rows, device=device) % 4 != 1] = -100
    return LinearBatch(
        normal(rows, 1024, scale=1),
        normal(vocab, 1024, scale=4 / 32),
        normal(vocab, scale=1),
        labels,
        torch.randint(3, (rows,), generator=generator, device=device),
        torch.tensor([0.5, 1.75, 0.0], device=device),
    )


def skip_without_products(dtype: torch.dtype, device: str) -> None:
    """Skips what compares with a product of PyTorch's that older versions lack."""
    if device == "cpu" and dtype == torch.float16 and not ops.REGISTERED:
        pytest.skip("this PyTorch multiplies no fp16 on a CPU")


def scaled_by(upstream: float, **options: Any) -> Callable[..., Any]:
    """The loss by an upstream factor."""

    def loss(*args: Any, **kwargs: Any) -> Any:
        return upstream * vitw_linear_loss(*args, **options, **kwargs)

    return loss
