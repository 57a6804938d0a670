"""Bounds of vitw_linear_loss on a GPU, and rows that are reported there.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, GPU, needs_gpu, on  # noqa: E402
from gpu_batches import SHAPE  # noqa: E402
from reference import linear_gradients, make_linear_batch  # noqa: E402

from visatb.torch import VITWLinearLoss, vitw_linear_loss  # noqa: E402


@pytest.mark.parametrize("device", DEVICES)
def test_a_bound_and_the_count_of_valid_rows_change_last_bits_only(device: str) -> None:
    batch = on(device, make_linear_batch(**SHAPE))
    plain = linear_gradients(vitw_linear_loss, batch)
    for options in ({"allow_sync": True}, {"max_valid_rows": 138}, {"max_valid_rows": 1000}):
        found = linear_gradients(vitw_linear_loss, batch, **options)
        for ours, theirs in zip(found, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_on_the_cpu_allow_sync_changes_nothing() -> None:
    batch = make_linear_batch(**SHAPE)
    module = VITWLinearLoss(batch.task_weights, allow_sync=True)
    found = module(*batch[:2], *batch.terms[:2], bias=batch.bias)
    assert torch.equal(found, vitw_linear_loss(*batch[:2], *batch.terms, bias=batch.bias))


@needs_gpu
def test_more_valid_rows_than_the_bound_are_nan_and_reported() -> None:
    batch = on(GPU, make_linear_batch(**SHAPE))  # 138 valid rows; a bound of 1 is one of 128.
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss, stats = vitw_linear_loss(
        *leaves[:2], *batch.terms, bias=leaves[2], max_valid_rows=1, return_stats=True
    )
    loss.backward()
    valid = (batch.labels != -100).flatten().nonzero().flatten()
    assert loss.isnan()
    assert stats.report.tolist() == [6, int(valid[128])]
    weighted = (batch.labels != -100) & (batch.task_ids != 2)
    assert leaves[0].grad[weighted].isnan().all()
    assert not leaves[0].grad[batch.labels == -100].any()
    for leaf in leaves[1:]:
        assert leaf.grad.isnan().all()


@needs_gpu
@pytest.mark.parametrize(
    ("name", "value", "code"), [("labels", 301, 2), ("labels", -7, 2), ("task_ids", 3, 3)]
)
def test_a_bad_row_is_reported_and_spoils_no_other_row_of_hidden(
    name: str, value: int, code: int
) -> None:
    batch = on(GPU, make_linear_batch(**SHAPE))
    row = int(((batch.labels != -100) & (batch.task_ids == 1)).flatten().nonzero()[3])
    labels = batch.labels.clone()
    labels.view(-1)[row] = -100
    expected = linear_gradients(vitw_linear_loss, batch._replace(labels=labels))
    getattr(batch, name).view(-1)[row] = value
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss, stats = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2], return_stats=True)
    loss.backward()
    assert loss.isnan()
    assert stats.report.tolist() == [code, row]
    gradient = leaves[0].grad.view(210, 24)
    assert gradient[row].isnan().all()
    gradient[row] = 0
    torch.testing.assert_close(gradient, expected.hidden.view(210, 24), rtol=1e-4, atol=1e-7)
