"""The values of vitw_linear_loss and of its gradients are those of the formula."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    LinearReference,
    assert_close,
    distance,
    linear_gradients,
    linear_reference,
    make_linear_batch,
    materialised,
)

from visatb.torch import VITWLinearLoss, vitw_linear_loss, vitw_loss  # noqa: E402

pytestmark = pytest.mark.usefixtures("path")

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"denominator": 40.5},
    {"label_smoothing": 0.1},
    {"softcap": 5.0},
    {"z_loss": 1e-2},
    {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2},
]


def every_second(tensor: Any) -> Any:
    """The same values, with others between them in memory."""
    return torch.stack([tensor, torch.full_like(tensor, 7)], dim=-1)[..., 0]


def padded(tensor: Any) -> Any:
    """The same values, in rows of a wider matrix."""
    return torch.cat([tensor, torch.full_like(tensor, torch.nan)], dim=-1)[..., : tensor.shape[-1]]


def transposed(tensor: Any) -> Any:
    """The same values, stored column after column."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradients_are_those_of_the_formula(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    batch = make_linear_batch(dtype)
    expected = linear_reference(*batch, **options)
    assert_close(linear_gradients(vitw_linear_loss, batch, **options), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_bias(dtype: torch.dtype) -> None:
    batch = make_linear_batch(dtype)
    expected = linear_reference(*batch[:2], None, *batch.terms)
    hidden, weight = (each.clone().requires_grad_() for each in batch[:2])
    loss = vitw_linear_loss(hidden, weight, *batch.terms)
    loss.backward()
    found = LinearReference(loss.detach(), hidden.grad, weight.grad, expected.bias.to(dtype))
    assert_close(found, expected, dtype)


@pytest.mark.parametrize(
    ("width", "vocab"), [(1, 1), (1, 7), (3, 2), (17, 33), (64, 1000), (300, 70)]
)
def test_any_width_and_vocabulary(width: int, vocab: int) -> None:
    batch = make_linear_batch(width=width, vocab=vocab, seq=9)
    found = linear_gradients(vitw_linear_loss, batch)
    expected = linear_reference(*batch)
    if vocab > 1:
        assert_close(found, expected, torch.float32)
    else:  # The only word is certain.
        assert found.loss == 0
        assert not any(gradient.any() for gradient in found[1:])


def test_the_loss_is_that_of_the_logits() -> None:
    batch = make_linear_batch()
    logits = torch.nn.functional.linear(*batch[:3])
    loss, stats = vitw_linear_loss(
        *batch[:2], *batch.terms, bias=batch.bias, shift=True, return_stats=True
    )
    expected, others = vitw_loss(logits, *batch.terms, shift=True, return_stats=True)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(stats, others, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


def test_labels_and_ids_in_any_layout_and_shifted() -> None:
    batch = make_linear_batch()
    by_sequence = torch.tensor([2, 0, 1])
    by_token = by_sequence.unsqueeze(1).expand(3, 6)
    rows = batch.hidden.flatten(0, 1)
    for shift in (False, True):
        expected = vitw_linear_loss(
            *batch[:2], batch.labels, by_token, batch.task_weights, shift=shift
        )
        for hidden, labels, task_ids in (
            (batch.hidden, batch.labels, by_sequence),
            (batch.hidden, batch.labels.flatten(), by_token.flatten()),
            (rows, batch.labels.int(), by_token),
        ):
            found = vitw_linear_loss(
                hidden, batch.weight, labels, task_ids, batch.task_weights, shift=shift
            )
            assert torch.equal(found, expected)


@pytest.mark.parametrize("of_hidden", [every_second, padded, transposed])
@pytest.mark.parametrize("of_weight", [every_second, padded, transposed])
@pytest.mark.parametrize("of_bias", [every_second, lambda bias: bias])
def test_any_strides(of_hidden: Any, of_weight: Any, of_bias: Any) -> None:
    batch = make_linear_batch()
    leaves = [each.clone().requires_grad_() for each in batch[:3]]
    hidden, weight, bias = of_hidden(leaves[0]), of_weight(leaves[1]), of_bias(leaves[2])
    loss = vitw_linear_loss(hidden, weight, *batch.terms, bias=bias)
    loss.backward()
    found = LinearReference(loss.detach(), *(leaf.grad for leaf in leaves))
    assert_close(found, linear_reference(*batch), torch.float32)


def test_a_single_row_of_any_stride_and_a_lazy_negation() -> None:
    batch = make_linear_batch(seq=1)
    one = torch.tensor([4]), torch.tensor([0]), [1.0]
    row = batch.hidden[0]
    expected = vitw_linear_loss(row, batch.weight, *one)
    strange = row.as_strided((1, 16), (3, 1))
    assert torch.equal(vitw_linear_loss(strange, batch.weight, *one), expected)
    negated = torch._neg_view(-row), torch._neg_view(-batch.weight)
    assert torch.equal(vitw_linear_loss(*negated, *one), expected)


def test_a_batch_with_every_label_ignored_has_loss_0_and_gradients_of_zeros() -> None:
    batch = make_linear_batch()
    batch = batch._replace(labels=torch.full_like(batch.labels, -100))
    found = linear_gradients(vitw_linear_loss, batch)
    assert found.loss == 0
    assert not any(gradient.any() for gradient in found[1:])


def test_no_rows() -> None:
    batch = make_linear_batch(seq=0)
    found = linear_gradients(vitw_linear_loss, batch)
    assert found.loss == 0
    assert found.hidden.shape == (3, 0, 16)
    assert not found.weight.any()
    assert not found.bias.any()


def test_ignored_rows_and_rows_of_weight_0_may_hold_nan() -> None:
    batch = make_linear_batch()
    expected = linear_reference(*batch)
    idle = (batch.labels == -100) | (batch.task_ids == 2)
    batch.hidden[idle] = torch.nan
    found = linear_gradients(vitw_linear_loss, batch)
    assert_close(found, expected, torch.float32)
    assert not found.hidden[idle].any()


def test_a_task_of_weight_0_counts_and_does_not_train() -> None:
    batch = make_linear_batch()
    batch = batch._replace(task_ids=torch.full_like(batch.task_ids, 2))
    _, stats = vitw_linear_loss(*batch[:2], *batch.terms, return_stats=True)
    assert stats.task_tokens.tolist() == [0, 0, 12]
    assert stats.task_nll[2] > 0
    found = linear_gradients(vitw_linear_loss, batch)
    assert found.loss == 0
    assert not any(gradient.any() for gradient in found[1:])


def test_a_valid_row_that_holds_nan_is_reported_and_gives_nan() -> None:
    batch = make_linear_batch()
    row = int(((batch.labels != -100) & (batch.task_ids == 1)).flatten().nonzero()[0])
    batch.hidden.view(18, 16)[row, 3] = torch.nan
    loss, stats = vitw_linear_loss(*batch[:2], *batch.terms, return_stats=True)
    assert loss.isnan()
    assert stats.report.tolist() == [1, row]
    gradient = linear_gradients(vitw_linear_loss, batch).hidden.view(18, 16)
    assert gradient[row].isnan().all()
    assert gradient[:row].isfinite().all()


@pytest.mark.parametrize("grad_scale", [None, 4.0, 4096.0, torch.tensor(1024.0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradients_are_upstream_times_those_of_the_loss_whatever_grad_scale_says(
    dtype: torch.dtype, grad_scale: Any
) -> None:
    batch = make_linear_batch(dtype)
    expected = linear_reference(*batch)
    for upstream in (1.0, 4.0, 1024.0):

        def scaled(*args: Any, upstream: float = upstream, **kwargs: Any) -> Any:
            return upstream * vitw_linear_loss(*args, grad_scale=grad_scale, **kwargs)

        found = linear_gradients(scaled, batch)
        found = found._replace(loss=found.loss / upstream)
        assert_close(found, expected, dtype, scale=upstream)


@pytest.mark.parametrize("grad_scale", [None, 65536.0])
def test_fp16_gradients_of_a_large_step_reach_the_loss_scaler(grad_scale: float | None) -> None:
    batch = make_linear_batch(torch.float16)
    expected = linear_reference(*batch, denominator=1e8)
    assert (expected.hidden.half() == 0).double().mean() > 0.9  # Unscaled they underflow.

    def scaled(*args: Any, **kwargs: Any) -> Any:
        loss = vitw_linear_loss(*args, denominator=1e8, grad_scale=grad_scale, **kwargs)
        return 2**20 * loss if grad_scale is None else grad_scale * loss

    found = linear_gradients(scaled, batch)
    scale = grad_scale or 2**20
    for name in ("hidden", "weight", "bias"):
        assert distance(getattr(found, name), scale * getattr(expected, name)) < 2e-3


@pytest.mark.parametrize("factor", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_upstream_factor_that_overflowed_reaches_every_gradient(
    dtype: torch.dtype, factor: float
) -> None:
    found = linear_gradients(
        lambda *args, **kwargs: factor * vitw_linear_loss(*args, **kwargs),
        make_linear_batch(dtype),
    )
    for gradient in found[1:]:
        assert not gradient.isfinite().any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 2**20}], ids=str)
def test_bf16_errors_are_at_most_those_of_a_bf16_product_with_an_fp32_softmax(
    seed: int, options: dict[str, Any]
) -> None:
    batch = make_linear_batch(torch.bfloat16, seq=64, width=96, vocab=1003, seed=seed)
    exact = linear_reference(*batch)
    ours, theirs = linear_gradients(vitw_linear_loss, batch, **options), materialised(batch)
    for name in LinearReference._fields:
        errors = [distance(getattr(form, name), getattr(exact, name)) for form in (ours, theirs)]
        assert errors[0] <= 1.1 * errors[1], f"{name}: {errors}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_does_not_change_a_bit(
    dtype: torch.dtype, workers: list[int]
) -> None:
    batch = make_linear_batch(dtype, seq=256, width=96, vocab=2000)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            workers.clear()
            found.append(linear_gradients(vitw_linear_loss, batch, chunk_bytes=2**22))
            assert max(workers, default=1) == threads
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            assert torch.equal(ours, theirs)


def test_the_module_gives_the_loss_of_the_function() -> None:
    batch = make_linear_batch()
    options = {"shift": True, "softcap": 20.0, "chunk_bytes": 2**20}
    loss = VITWLinearLoss(batch.task_weights, **options)
    found = loss(*batch[:2], *batch.terms[:2], bias=batch.bias)
    expected = vitw_linear_loss(*batch[:2], *batch.terms, bias=batch.bias, **options)
    assert torch.equal(found, expected)
