"""vitw_linear_loss keeps to its chunk_bytes, and gives the same loss with every one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    assert_close,
    linear_gradients,
    linear_reference,
    make_linear_batch,
)

from visatb import ArgumentError, _lib  # noqa: E402
from visatb.torch import linear_call, vitw_linear_loss  # noqa: E402

SHAPE = {"seq": 70, "width": 24, "vocab": 301}  # 138 valid rows
GENEROUS = 2**28


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plan of each call."""
    made = []

    class Plan(_lib.LinearPlan):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(linear_call, "LinearPlan", Plan)
    return made


def smallest_budget(batch: Any, **options: Any) -> int:
    """The one that an error names."""
    with pytest.raises(ArgumentError) as caught:
        linear_gradients(vitw_linear_loss, batch, chunk_bytes=1, **options)
    found = re.match(r"chunk_bytes = 1; expected at least (\d+)", str(caught.value))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_budget_from_the_smallest_to_everything_gives_the_loss(
    dtype: torch.dtype, share: float, plans: list[Any]
) -> None:
    batch = make_linear_batch(dtype, **SHAPE)
    options = {"label_smoothing": 0.1, "softcap": 20.0, "z_loss": 1e-3}
    least = smallest_budget(batch, **options)
    linear_gradients(vitw_linear_loss, batch, chunk_bytes=GENEROUS, **options)
    most = plans[-1].workspace_bytes
    assert plans[-1].chunks == 1
    assert least < most
    budget = int(least + share * (most - least))
    found = linear_gradients(vitw_linear_loss, batch, chunk_bytes=budget, **options)
    assert plans[-1].workspace_bytes <= budget
    assert plans[-1].chunk_rows == 1 or share > 0
    assert_close(found, linear_reference(*batch, **options), dtype)


def test_one_byte_less_than_the_smallest_budget_is_refused() -> None:
    batch = make_linear_batch(**SHAPE)
    least = smallest_budget(batch)
    linear_gradients(vitw_linear_loss, batch, chunk_bytes=least)
    with pytest.raises(
        ArgumentError, match=f"^chunk_bytes = {least - 1}; expected at least {least}"
    ):
        linear_gradients(vitw_linear_loss, batch, chunk_bytes=least - 1)


def test_fewer_valid_rows_need_a_smaller_workspace(plans: list[Any]) -> None:
    batch = make_linear_batch(**SHAPE)
    valid = int((batch.labels != -100).sum())
    found = [
        linear_gradients(vitw_linear_loss, batch, chunk_bytes=GENEROUS, max_valid_rows=most)
        for most in (None, valid)
    ]
    assert plans[1].workspace_bytes < plans[0].workspace_bytes
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_without_gradients_needs_the_same_workspace(
    dtype: torch.dtype, plans: list[Any]
) -> None:
    batch = make_linear_batch(dtype, **SHAPE)
    linear_gradients(vitw_linear_loss, batch, chunk_bytes=GENEROUS)
    vitw_linear_loss(*batch[:2], *batch.terms, bias=batch.bias, chunk_bytes=GENEROUS)
    assert plans[1].workspace_bytes == plans[0].workspace_bytes


ROWS, WIDTH, VOCAB = 2048, 32, 16384
LOGITS = 4 * ROWS * VOCAB
PROGRAM = f"""
import torch
from pathlib import Path
from visatb import vitw_linear_loss

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

def step(rows):
    hidden = torch.randn(rows, WIDTH, requires_grad=True)
    ids = torch.zeros(rows, dtype=torch.int64)
    loss = vitw_linear_loss(hidden, weight, ids + 5, ids, [1.0], chunk_bytes={LOGITS // 10})
    loss.backward()

WIDTH, weight = {WIDTH}, torch.randn({VOCAB}, {WIDTH}, requires_grad=True)
step(4)
weight.grad = None
Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
before = peak()
step({ROWS})
print(peak() - before)
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset"
)
def test_the_memory_of_a_step_stays_far_below_that_of_its_logits() -> None:
    """The logits would be ten times the budget, and so would be their gradient."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    gradients = 4 * WIDTH * (ROWS + VOCAB)
    # What BLAS and the allocator take on the side does not grow with the rows.
    aside = 32 * 2**20
    assert int(run.stdout) <= LOGITS // 10 + gradients + aside < LOGITS // 2
