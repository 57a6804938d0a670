"""vitw_linear_loss on a GPU is as accurate as promised, to the same bits on every run.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, GPU, IS_PRETENDED, needs_real_gpu, on  # noqa: E402
from gpu_batches import SHAPE, make_large_batch, scaled_by, skip_without_products  # noqa: E402
from reference import (  # noqa: E402
    NAMES,
    TOLERANCE,
    LinearBatch,
    assert_close,
    assert_near,
    distance,
    linear_gradients,
    linear_reference,
    make_linear_batch,
    materialised,
)

from visatb.torch import vitw_linear_loss, vitw_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"denominator": 40.5},
    {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2},
    {"chunk_bytes": 2**16},
    {"max_valid_rows": 140},
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradients_are_those_of_the_formula(
    dtype: torch.dtype, options: dict[str, Any], device: str
) -> None:
    batch = on(device, make_linear_batch(dtype, **SHAPE))
    if device != GPU and "chunk_bytes" in options:
        options = {"chunk_bytes": 2**20}
    of_formula = {k: v for k, v in options.items() if k not in ("chunk_bytes", "max_valid_rows")}
    found = linear_gradients(vitw_linear_loss, batch, **options)
    assert_near(found, linear_reference(*batch, **of_formula))
    assert [gradient.dtype for gradient in found[1:]] == [dtype] * 3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("width", "vocab"), [(1, 2), (3, 7), (17, 33), (300, 70)])
def test_any_width_and_vocabulary(width: int, vocab: int, device: str) -> None:
    batch = on(device, make_linear_batch(width=width, vocab=vocab, seq=9))
    found = linear_gradients(vitw_linear_loss, batch)
    assert_close(found, linear_reference(*batch), torch.float32)


# The cuBLAS of a pretended GPU is slow.
LARGE: list[Any] = [("cpu", 40, 203) if IS_PRETENDED else ("cpu", 200, 1003)]
LARGE += [
    pytest.param(GPU, rows, vocab, marks=needs_real_gpu)
    for rows, vocab in ((4096, 32000), (2048, 32003))
]


@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 2**25}], ids=str)
@pytest.mark.parametrize(("device", "rows", "vocab"), LARGE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_errors_are_at_most_those_of_a_product_in_the_same_type_with_an_fp32_softmax(
    dtype: torch.dtype, device: str, rows: int, vocab: int, options: dict[str, Any]
) -> None:
    skip_without_products(dtype, device)
    batch = make_large_batch(device, dtype, rows, vocab)
    exact = linear_reference(*batch)
    scale = 1024.0 if dtype == torch.float16 else 1.0  # Else both underflow.
    ours = linear_gradients(scaled_by(scale, grad_scale=scale), batch, **options)
    theirs = materialised(batch, scale=scale)
    for name in NAMES:
        errors = [
            distance(getattr(form, name), scale * getattr(exact, name)) for form in (ours, theirs)
        ]
        assert errors[0] <= 1.1 * errors[1], f"{name}: {errors}"
    torch.testing.assert_close(ours.loss.double() / scale, exact.loss, rtol=1e-3, atol=0)


@needs_real_gpu
@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 2**26}], ids=str)
def test_fp32_is_no_tf32(options: dict[str, Any]) -> None:
    batch = make_large_batch(GPU, torch.float32, 1024, 32000)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = linear_gradients(vitw_linear_loss, batch, **options)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert_near(found, linear_reference(*batch))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_loss_of_the_logits_with_its_statistics(dtype: torch.dtype, device: str) -> None:
    skip_without_products(dtype, device)
    batch = on(device, make_linear_batch(dtype))
    logits = torch.nn.functional.linear(*batch[:3])
    found, stats = vitw_linear_loss(
        *batch[:2], *batch.terms, bias=batch.bias, shift=True, return_stats=True
    )
    expected, others = vitw_loss(logits, *batch.terms, shift=True, return_stats=True)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": 1e-6}
    torch.testing.assert_close(found, expected, **tolerance)
    for ours, theirs in zip(stats, others, strict=True):
        assert ours.device == batch.hidden.device
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_ignored_rows_and_rows_of_weight_0_may_hold_nan(device: str) -> None:
    batch = on(device, make_linear_batch(**SHAPE))
    expected = linear_reference(*batch)
    idle = (batch.labels == -100) | (batch.task_ids == 2)
    batch.hidden[idle] = torch.nan
    found = linear_gradients(vitw_linear_loss, batch)
    assert_close(found, expected, torch.float32)
    assert not found.hidden[idle].any()


@pytest.mark.parametrize("device", DEVICES)
def test_no_rows_and_rows_that_are_all_ignored(device: str) -> None:
    batch = on(device, make_linear_batch())
    for rows in (
        on(device, make_linear_batch(seq=0)),
        batch._replace(labels=torch.full_like(batch.labels, -100)),
    ):
        for bound in (None, 0):
            found = linear_gradients(vitw_linear_loss, rows, max_valid_rows=bound)
            assert found.loss == 0
            assert not any(gradient.any() for gradient in found[1:])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"allow_sync": True}, {"max_valid_rows": 140}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_on_every_run(
    dtype: torch.dtype, options: dict[str, Any], device: str
) -> None:
    batch = on(device, make_linear_batch(dtype, **SHAPE))
    first = linear_gradients(vitw_linear_loss, batch, **options)
    for _ in range(3):
        assert all(map(torch.equal, linear_gradients(vitw_linear_loss, batch, **options), first))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_casts_as_a_linear_layer_does(dtype: torch.dtype, device: str) -> None:
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("PyTorch's autocast to fp16 on a CPU is young")
    batch = on(device, make_linear_batch())
    cast = torch.autocast(device, dtype=dtype) if dtype != torch.float32 else nullcontext()
    with cast:
        found = linear_gradients(vitw_linear_loss, batch)
    assert [gradient.dtype for gradient in found[1:]] == [torch.float32] * 3
    by_hand = LinearBatch(*(each.to(dtype) for each in batch[:3]), *batch.terms)
    expected = linear_gradients(vitw_linear_loss, by_hand)
    assert torch.equal(found.loss, expected.loss)
    assert all(
        torch.equal(ours, theirs.float())
        for ours, theirs in zip(found[1:], expected[1:], strict=True)
    )
