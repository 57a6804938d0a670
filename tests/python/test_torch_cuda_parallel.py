"""A vocabulary in slices on a GPU gives what the formula gives of whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

import torch.distributed as dist  # noqa: E402
from devices import GPU, IS_PRETENDED, needs_gpu, on  # noqa: E402
from reference import Batch, assert_gradient, make_batch, reference  # noqa: E402

from visatb.torch import vitw_vocab_parallel_loss  # noqa: E402
from visatb.torch.arguments import prepare_terms  # noqa: E402
from visatb.torch.rows import Tokens  # noqa: E402
from visatb.torch.slice_call import call_slice_loss, call_slice_statistics  # noqa: E402
from visatb.torch.slices import Slice  # noqa: E402

WIDTHS = [1, 30, 6]
TOGETHER = {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2}
DEFAULTS = {
    "ignore_index": -100,
    "denominator": None,
    "reduction": "mean",
    "shift": False,
    "label_smoothing": 0.0,
    "softcap": None,
    "z_loss": 0.0,
    "grad_scale": None,
}
BACKEND = "gloo" if IS_PRETENDED else "nccl"


def in_slices(batch: Batch, **options: Any) -> tuple[list[Any], Any]:
    """The losses that each slice finds, and the gradient of all of them, by one process."""
    logits, *terms = batch
    prepared = prepare_terms(Tokens("logits", logits), *terms, **{**DEFAULTS, **options})
    slices = [part.clone() for part in logits.flatten(0, 1).split(WIDTHS, dim=-1)]
    firsts = [sum(WIDTHS[:index]) for index in range(len(WIDTHS))]
    words = [Slice(first, sum(WIDTHS), len(WIDTHS), None) for first in firsts]
    told = torch.stack(
        [call_slice_statistics(*each) for each in zip(slices, [prepared] * 3, words, strict=True)]
    )
    gradients = [torch.empty_like(part) for part in slices]
    losses = [
        call_slice_loss(part, prepared, own, told, gradient=gradient)[0]
        for part, own, gradient in zip(slices, words, gradients, strict=True)
    ]
    return losses, torch.cat(gradients, dim=-1).view_as(logits)


@needs_gpu
@pytest.mark.parametrize("options", [{}, TOGETHER], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_slices_follow_the_formula(dtype: torch.dtype, options: dict[str, float]) -> None:
    batch = make_batch(dtype)
    expected = reference(*batch, **options)
    losses, gradient = in_slices(on(GPU, batch), **options)
    for loss in losses:
        assert torch.equal(loss, losses[0])
    torch.testing.assert_close(losses[0].double().cpu(), expected.loss, rtol=1e-6, atol=0)
    assert_gradient(gradient.cpu(), expected.gradient)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    if not (dist.is_available() and getattr(dist, f"is_{BACKEND}_available")()):
        pytest.skip(f"this PyTorch has no {BACKEND}")
    dist.init_process_group(
        BACKEND, store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


@needs_gpu
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("widths", [None, [37]])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_group_of_one_rank_has_the_whole_loss(inplace: bool, widths: list[int] | None) -> None:
    batch = on(GPU, make_batch(torch.bfloat16))
    expected = reference(*make_batch(torch.bfloat16))
    leaf = batch.logits.clone().requires_grad_()
    loss, stats = vitw_vocab_parallel_loss(
        leaf * 1, *batch[1:], widths=widths, inplace=inplace, return_stats=True
    )
    (3 * loss).backward()
    torch.testing.assert_close(loss.detach().double().cpu(), expected.loss, rtol=1e-6, atol=0)
    assert stats.report.tolist() == [0, -1]
    torch.testing.assert_close(
        leaf.grad.double().cpu(),
        3 * expected.gradient,
        rtol=2 * torch.finfo(torch.bfloat16).eps,
        atol=1e-6,
    )


@needs_gpu
@pytest.mark.usefixtures("alone")
def test_a_bad_label_is_reported_and_spoils_its_row_alone() -> None:
    batch = on(GPU, make_batch())
    batch.labels[1, 2] = 37
    leaf = batch.logits.clone().requires_grad_()
    loss, stats = vitw_vocab_parallel_loss(leaf, *batch[1:], widths=[37], return_stats=True)
    loss.backward()
    assert loss.isnan()
    assert stats.report.tolist() == [2, 8]
    bad = torch.zeros(3, 6, dtype=torch.bool)
    bad[1, 2] = True
    assert torch.equal(leaf.grad.isnan().all(dim=-1).cpu(), bad)
    assert torch.equal(leaf.grad.isnan().any(dim=-1).cpu(), bad)
