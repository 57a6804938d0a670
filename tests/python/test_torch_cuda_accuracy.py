"""vitw_loss on a GPU is as accurate as on the CPU, to the same bits on every run.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, GPU, needs_real_gpu, on, rounding_faults  # noqa: E402
from gpu_batches import make_rows, reference_of_rows  # noqa: E402
from reference import loss_and_gradient, make_batch, reference  # noqa: E402

from visatb.torch import VITWLoss, vitw_denominator, vitw_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
OPTIONS: list[dict[str, Any]] = [
    {"reduction": "sum"},
    {"denominator": 40.5},
    {"label_smoothing": 0.1},
    {"softcap": 5.0},
    {"z_loss": 1e-2},
    {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2},
]


SHAPES: list[Any] = [("cpu", 1, 1003), ("cpu", 131, 1003)]
SHAPES += [
    pytest.param(GPU, rows, vocab, marks=needs_real_gpu)
    for vocab in (32000, 32003, 32064, 128256, 131073, 152064, 262144)
    for rows in (1, 131)
]
SHAPES += [pytest.param(GPU, 8192, 1003, marks=needs_real_gpu)]


@pytest.mark.parametrize(("device", "rows", "vocab"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradient_are_as_accurate_as_promised(
    dtype: torch.dtype, device: str, rows: int, vocab: int
) -> None:
    batch = make_rows(device, dtype, rows, vocab)
    expected = reference_of_rows(batch)
    # As a loss scaler would, or half of what is to be compared underflows in fp16.
    scale = 1024.0 if dtype == torch.float16 else 1.0
    logits = batch.logits.requires_grad_()
    loss, stats = vitw_loss(logits, *batch[1:], grad_scale=scale, return_stats=True)
    (gradient,) = torch.autograd.grad(scale * loss, logits)
    torch.testing.assert_close(loss.detach().double(), expected.loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(stats.task_nll, expected.task_nll, rtol=1e-6, atol=1e-9)
    assert torch.equal(stats.task_tokens, expected.task_tokens)
    assert stats.report.tolist() == [0, -1]
    weight = batch.task_weights[batch.task_ids].double().unsqueeze(-1)
    floor = 1e-7 * scale * weight / expected.denominator
    assert not rounding_faults(gradient, scale * expected.gradient, floor)
    idle = (batch.labels == -100) | (batch.task_ids == 2)
    assert not gradient[idle].any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vocab", [1, 37, 4099])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_options(dtype: torch.dtype, options: dict[str, Any], vocab: int, device: str) -> None:
    batch = on(device, make_batch(dtype, vocab=vocab))
    expected = reference(*batch, **options)
    loss, gradient = loss_and_gradient(vitw_loss, *batch, **options)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=1e-12)
    scale = 30.0 if options.get("reduction") == "sum" else 1.0
    torch.testing.assert_close(
        gradient.double(),
        expected.gradient,
        rtol=max(torch.finfo(dtype).eps, 2e-6),
        atol=1e-7 * scale,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("stride", [37, 40, 64])
def test_padded_rows_in_place_or_not_touch_nothing_beside_them(
    stride: int, shift: bool, inplace: bool, device: str
) -> None:
    batch = on(device, make_batch())
    plain, gradient = loss_and_gradient(vitw_loss, *batch, shift=shift)
    leaf = batch.logits.clone().requires_grad_()
    computed = torch.nn.functional.pad(leaf, (0, stride - 37), value=7.0)
    loss = vitw_loss(computed[..., :37], *batch[1:], shift=shift, inplace=inplace)
    loss.backward()
    torch.testing.assert_close(loss.detach(), plain)
    torch.testing.assert_close(leaf.grad, gradient)
    assert (computed[..., 37:] == 7).all()
    assert torch.equal(computed[..., :37], leaf.grad if inplace else batch.logits)


@pytest.mark.parametrize("device", DEVICES)
def test_no_rows_and_rows_that_are_all_ignored(device: str) -> None:
    none = torch.empty(0, dtype=torch.int64, device=device)
    loss, gradient = loss_and_gradient(vitw_loss, torch.empty(0, 5, device=device), none, none, [1])
    assert loss == 0
    assert gradient.shape == (0, 5)
    batch = on(device, make_batch())
    labels = torch.full_like(batch.labels, -100)
    loss, gradient = loss_and_gradient(vitw_loss, batch.logits, labels, *batch[2:])
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("device", DEVICES)
def test_stats_are_on_the_device_and_tell_of_bad_logits(device: str) -> None:
    batch = on(device, make_batch())
    loss, stats = vitw_loss(*batch, return_stats=True)
    expected = reference(*batch)
    for name in ("numerator", "denominator", "task_nll", "task_tokens"):
        found = getattr(stats, name)
        assert found.device == batch.logits.device
        torch.testing.assert_close(found, getattr(expected, name), rtol=1e-6, atol=1e-12)
    assert torch.equal(loss, (stats.numerator / stats.denominator).float())
    row = int(((batch.labels != -100) & (batch.task_ids == 1)).flatten().nonzero()[0])
    batch.logits.view(18, 37)[row, 3] = torch.inf
    loss, stats = vitw_loss(*batch, return_stats=True)
    assert loss.isnan()
    assert stats.report.tolist() == [1, row]


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_and_a_tensor_of_either_place_are_the_same_denominator_and_scale(
    device: str,
) -> None:
    batch = on(device, make_batch())
    expected = loss_and_gradient(vitw_loss, *batch, denominator=40.5, grad_scale=3.0)
    for place in ("cpu", device):
        for dtype in (torch.float32, torch.float64):
            scalars = {
                "denominator": torch.tensor(40.5, dtype=dtype, device=place),
                "grad_scale": torch.tensor(3.0, dtype=dtype, device=place),
            }
            found = loss_and_gradient(vitw_loss, *batch, **scalars)
            assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("device", DEVICES)
def test_the_denominator_is_counted_on_the_device(device: str) -> None:
    batch = on(device, make_batch())
    found = vitw_denominator(*batch[1:])
    assert found.device == batch.labels.device
    assert found == reference(*batch).denominator
    module = VITWLoss([0.5, 1.75, 0.0])
    assert torch.equal(module.denominator_of(*batch[1:3]), found)
    assert torch.equal(module(*batch[:3]), vitw_loss(*batch))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_on_every_run(dtype: torch.dtype, device: str) -> None:
    vocab = 32003 if device != "cpu" else 1003
    batch = make_rows(device, dtype, 131, vocab)

    def run() -> list[Any]:
        leaf = batch.logits.detach().clone().requires_grad_()
        loss, stats = vitw_loss(leaf, *batch[1:], return_stats=True)
        loss.backward()
        return [loss.detach(), leaf.grad.nan_to_num(), *stats]

    first = run()
    for _ in range(3):
        assert all(map(torch.equal, run(), first))
