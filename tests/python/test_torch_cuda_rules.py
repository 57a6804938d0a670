"""What the CPU refuses, vitw_loss on a GPU reports, and spoils nothing else."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import GPU, needs_gpu, needs_real_gpu, on  # noqa: E402
from reference import Batch, make_batch  # noqa: E402

from visatb import ArgumentError  # noqa: E402
from visatb.torch import vitw_denominator, vitw_loss  # noqa: E402


def gradient_and_report(batch: Batch, **options: Any) -> tuple[Any, Any, list[int]]:
    leaf = batch.logits.detach().clone().requires_grad_()
    loss, stats = vitw_loss(leaf, *batch[1:], return_stats=True, **options)
    loss.backward()
    return loss.detach(), leaf.grad.flatten(0, -2), stats.report.tolist()


def rows_of_task(batch: Batch, task: int) -> list[int]:
    valid = (batch.labels != -100) & (batch.task_ids == task)
    return [int(row) for row in valid.flatten().nonzero()]


BAD_ROWS: dict[str, tuple[str, int, int]] = {
    "a label beyond the vocabulary": ("labels", 37, 2),
    "a negative label": ("labels", -1, 2),
    "a label of 2^40": ("labels", 2**40, 2),
    "a task id beyond the tasks": ("task_ids", 3, 3),
    "a negative task id": ("task_ids", -1, 3),
    "a task id that would wrap to 0": ("task_ids", 2**32, 3),
}


@needs_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_reported_and_spoils_itself_alone(case: str, inplace: bool) -> None:
    name, value, code = BAD_ROWS[case]
    batch = on(GPU, make_batch())
    row = rows_of_task(batch, 1)[-1]
    # What its neighbours get is what they would get if it were ignored.
    labels = batch.labels.clone()
    labels.view(-1)[row] = -100
    _, expected, _ = gradient_and_report(batch._replace(labels=labels))
    getattr(batch, name).view(-1)[row] = value
    leaf = batch.logits.clone().requires_grad_()
    loss, stats = vitw_loss(leaf * 1, *batch[1:], inplace=inplace, return_stats=True)
    loss.backward()
    gradient = leaf.grad.view(18, 37)
    assert loss.isnan()
    assert stats.report.tolist() == [code, row]
    assert gradient[row].isnan().all()
    gradient[row] = expected[row]
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


@needs_gpu
def test_the_first_of_several_bad_rows_is_reported() -> None:
    batch = on(GPU, make_batch())
    rows = sorted(rows_of_task(batch, 0) + rows_of_task(batch, 1))
    batch.labels.view(-1)[rows[-1]] = 99
    batch.task_ids.view(-1)[rows[1]] = 7
    batch.logits.view(18, 37)[rows[3]] = torch.nan
    assert gradient_and_report(batch)[2] == [3, rows[1]]


@needs_gpu
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_bad_weight_is_reported_with_its_first_row(weight: float) -> None:
    batch = on(GPU, make_batch())
    weights = torch.tensor([0.5, weight, 0.0], device=GPU)
    loss, gradient, report = gradient_and_report(batch._replace(task_weights=weights))
    rows = rows_of_task(batch, 1)
    assert loss.isnan()
    assert report == [4, rows[0]]
    assert gradient[rows].isnan().all()
    assert gradient[rows_of_task(batch, 0)].isfinite().all()


@needs_gpu
@pytest.mark.parametrize("denominator", [0.0, -2.0, float("nan"), float("inf")])
def test_a_bad_denominator_of_the_gpu_is_reported(denominator: float) -> None:
    batch = on(GPU, make_batch())
    there = torch.tensor(denominator, dtype=torch.float64, device=GPU)
    loss, gradient, report = gradient_and_report(batch, denominator=there)
    assert loss.isnan()
    assert report[0] == 5
    weighted = rows_of_task(batch, 0) + rows_of_task(batch, 1)
    assert gradient[weighted].isnan().all()
    idle = [row for row in range(18) if row not in weighted]
    assert not gradient[idle].any()


@needs_gpu
def test_a_scale_of_the_gpu_that_is_not_finite_makes_the_gradient_nan() -> None:
    batch = on(GPU, make_batch())
    for scale in (torch.inf, torch.nan):
        there = torch.tensor(scale, device=GPU)
        gradient = gradient_and_report(batch, grad_scale=there)[1]
        assert gradient[rows_of_task(batch, 1)].isnan().all()


# A denominator of 0 may be right: it takes the rows to know.
@needs_real_gpu
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("denominator", -2.0),
        ("denominator", torch.nan),
        ("denominator", torch.inf),
        ("grad_scale", torch.nan),
        ("grad_scale", torch.inf),
    ],
)
def test_a_bad_scalar_of_the_host_is_refused(name: str, value: float) -> None:
    batch = on(GPU, make_batch())
    with pytest.raises(ArgumentError, match=f"^{name} = "):
        vitw_loss(*batch, **{name: value})


@needs_gpu
def test_a_bad_task_id_makes_a_counted_denominator_nan_and_ends_nothing() -> None:
    batch = on(GPU, make_batch())
    for task_id in (3, -1, 2**40):
        task_ids = batch.task_ids.clone()
        task_ids.view(-1)[rows_of_task(batch, 1)[0]] = task_id
        assert vitw_denominator(batch.labels, task_ids, batch.task_weights).isnan()
    task_ids[batch.labels != -100] = 0
    assert vitw_denominator(batch.labels, task_ids, batch.task_weights) == 6


@needs_gpu
def test_fp64_is_refused() -> None:
    batch = on(GPU, make_batch())
    with pytest.raises(ArgumentError, match="^float64 on a GPU; expected float32"):
        vitw_loss(batch.logits.double(), *batch[1:])


@needs_real_gpu
def test_tensors_of_two_places_are_refused() -> None:
    batch = on(GPU, make_batch())
    with pytest.raises(ArgumentError, match="^labels is on device 'cpu'; expected that of logits"):
        vitw_loss(batch.logits, batch.labels.cpu(), *batch[2:])
