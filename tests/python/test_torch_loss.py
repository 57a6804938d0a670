"""The values of vitw_loss and of its gradient are those of the formula."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import assert_gradient, loss_and_gradient, make_batch, reference  # noqa: E402

from visatb.torch import visatb_vitw_loss, vitw_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradient_are_those_of_the_formula(
    dtype: torch.dtype, reduction: str, inplace: bool
) -> None:
    batch = make_batch(dtype)
    expected = reference(*batch, reduction=reduction)
    loss, gradient = loss_and_gradient(vitw_loss, *batch, reduction=reduction, inplace=inplace)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
    assert gradient.dtype == dtype
    assert_gradient(gradient, expected.gradient)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_is_fp32_whatever_the_logits_and_fp64_for_fp64(dtype: torch.dtype) -> None:
    loss = vitw_loss(*make_batch(dtype))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.shape == ()


@pytest.mark.parametrize("vocab", [1, 2, 33, 1000])
def test_any_vocabulary(vocab: int) -> None:
    batch = make_batch(vocab=vocab)
    loss, gradient = loss_and_gradient(vitw_loss, *batch)
    expected = reference(*batch)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=1e-12)
    assert_gradient(gradient, expected.gradient)


def test_a_given_denominator_divides_as_number_and_as_tensor() -> None:
    batch = make_batch()
    expected = reference(*batch, denominator=40.5)
    for denominator in (40.5, torch.tensor(40.5), torch.tensor(40.5, dtype=torch.float64)):
        loss, gradient = loss_and_gradient(vitw_loss, *batch, denominator=denominator)
        torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
        assert_gradient(gradient, expected.gradient)


def test_a_denominator_keeps_its_fp64() -> None:
    """fp32 does not hold 2^24 + 1."""
    for denominator in (16777217, 16777217.0, torch.tensor(16777217.0, dtype=torch.float64)):
        _, stats = vitw_loss(*make_batch(), denominator=denominator, return_stats=True)
        assert stats.denominator == 16777217


def test_micro_batches_with_the_denominator_of_the_step_sum_to_the_whole_batch() -> None:
    batch = make_batch()
    whole, gradient = loss_and_gradient(vitw_loss, *batch)
    step = reference(*batch).denominator
    parts = [
        loss_and_gradient(
            vitw_loss, *(part[i : i + 1] for part in batch[:3]), batch[3], denominator=step
        )
        for i in range(3)
    ]
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), gradient)


def test_another_ignore_index() -> None:
    batch = make_batch()
    labels = torch.where(batch.labels == -100, 5, batch.labels)
    loss = vitw_loss(batch.logits, labels, *batch[2:], ignore_index=5)
    expected = reference(batch.logits, labels, *batch[2:], ignore_index=5)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)


def test_shift_moves_labels_and_their_tasks_one_to_the_left() -> None:
    batch = make_batch()
    ignored = torch.full((3, 1), -100)
    labels = torch.cat([batch.labels[:, 1:], ignored], dim=1)
    task_ids = torch.cat([batch.task_ids[:, 1:], batch.task_ids[:, :1]], dim=1)
    expected = reference(batch.logits, labels, task_ids, batch.task_weights)
    loss, gradient = loss_and_gradient(vitw_loss, *batch, shift=True)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
    assert_gradient(gradient, expected.gradient)
    assert not gradient[:, -1].any()


def test_shift_with_rows_of_logits_takes_the_sequences_from_the_labels() -> None:
    batch = make_batch()
    loss = vitw_loss(*batch, shift=True)
    assert torch.equal(vitw_loss(batch.logits.flatten(0, 1), *batch[1:], shift=True), loss)


@pytest.mark.parametrize("seq", [0, 1])
def test_shift_of_sequences_without_a_next_token_leaves_nothing_to_train(seq: int) -> None:
    batch = make_batch(seq=6)
    loss, gradient = loss_and_gradient(
        vitw_loss, *(part[:, :seq] for part in batch[:3]), batch[3], shift=True
    )
    assert loss == 0
    assert gradient.shape == (3, seq, 37)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_task_ids_by_sample_by_token_and_by_row_in_any_integer_type(dtype: torch.dtype) -> None:
    batch = make_batch()
    by_sample = torch.tensor([2, 0, 1])
    by_token = by_sample.unsqueeze(1).expand(3, 6)
    expected = reference(batch.logits, batch.labels, by_token, batch.task_weights).loss
    for task_ids in (by_sample, by_token, by_token.reshape(18)):
        loss = vitw_loss(batch.logits, batch.labels, task_ids.to(dtype), batch.task_weights)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


def test_rows_and_sequences_are_two_ways_to_say_the_same() -> None:
    batch = make_batch()
    loss, gradient = loss_and_gradient(vitw_loss, *batch)
    rows = [part.flatten(0, 1) for part in batch[:3]]
    for logits, labels, task_ids in (
        rows,
        (batch.logits, rows[1], rows[2]),
        (rows[0], batch.labels, batch.task_ids),
    ):
        other = loss_and_gradient(vitw_loss, logits, labels, task_ids, batch.task_weights)
        assert torch.equal(other[0], loss)
        assert torch.equal(other[1].reshape(3, 6, 37), gradient)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16])
def test_labels_of_other_integer_types(dtype: torch.dtype) -> None:
    batch = make_batch()
    loss = vitw_loss(batch.logits, batch.labels.to(dtype), *batch[2:])
    assert torch.equal(loss, vitw_loss(*batch))


@pytest.mark.parametrize(
    "view",
    [
        lambda logits: torch.cat([logits, logits], dim=-1)[..., :37],
        lambda logits: torch.cat([logits, logits], dim=1)[:, :6],
        lambda logits: logits.transpose(1, 2).contiguous().transpose(1, 2),
        lambda logits: logits.transpose(0, 1).contiguous().transpose(0, 1),
        lambda logits: logits[:1, :1].expand(3, 6, 37),
    ],
    ids=["padded rows", "longer sequences", "transposed vocab", "sequence first", "expanded"],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_logits_of_any_strides(view: Any, inplace: bool) -> None:
    batch = make_batch()
    leaf = batch.logits.clone().requires_grad_()
    expected = reference(view(batch.logits), *batch[1:])
    (gradient,) = torch.autograd.grad(view(leaf), leaf, expected.gradient.float())
    loss = vitw_loss(view(leaf.clone()), *batch[1:], inplace=inplace)
    loss.backward()
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(leaf.grad, gradient)


@pytest.mark.parametrize("inplace", [False, True])
def test_one_row_of_any_stride(inplace: bool) -> None:
    """The stride of a single row, or of one logit, means nothing and may be anything."""
    for shape, strides in (((1, 37), (1, 1)), ((1, 37), (0, 1)), ((1, 1), (5, 7))):
        logits = torch.as_strided(torch.arange(37.0) / 10, shape, strides)
        one = torch.tensor([0])
        expected = reference(logits, one, one, torch.ones(1))
        loss, gradient = loss_and_gradient(
            lambda x, *args, shape=shape, strides=strides: vitw_loss(
                x.as_strided(shape, strides), *args, inplace=inplace
            ),
            *(logits, one, one, torch.ones(1)),
        )
        torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=1e-12)
        assert_gradient(gradient, expected.gradient)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    "overlap",
    [lambda x: x.unfold(0, 37, 5), lambda x: x[:37].expand(18, 37)],
    ids=["unfold", "expand"],
)
def test_rows_that_overlap_are_copied(overlap: Any, inplace: bool) -> None:
    batch = make_batch()
    memory = torch.randn(37 + 17 * 5, generator=torch.Generator().manual_seed(1))
    leaf = memory.clone().requires_grad_()
    parts = [part.flatten() for part in batch[1:3]]
    expected = reference(overlap(memory), *parts, batch[3])
    loss = vitw_loss(overlap(leaf * 1), *parts, batch[3], inplace=inplace)
    loss.backward()
    torch.testing.assert_close(loss.detach().double(), expected.loss, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(overlap(leaf), leaf, expected.gradient.float())
    torch.testing.assert_close(leaf.grad, gradient)


def every_second(tensor: Any) -> Any:
    """The same values, with others between them in memory."""
    return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]


def test_labels_task_ids_and_weights_of_any_strides() -> None:
    batch = make_batch()
    expected = vitw_loss(*batch)
    rows = [batch.logits, *(every_second(part.flatten()) for part in batch[1:3])]
    rows[2] = every_second(batch.task_ids.flatten().int())
    weights = every_second(batch.task_weights)
    assert not any(tensor.is_contiguous() for tensor in (*rows[1:], weights))
    assert torch.equal(vitw_loss(*rows, weights), expected)
    by_token = [batch.logits, *(part.t().contiguous().t() for part in batch[1:3])]
    assert torch.equal(vitw_loss(*by_token, weights), expected)


def test_many_tasks() -> None:
    generator = torch.Generator().manual_seed(2)
    tasks, rows = 5000, 20000
    weights = torch.rand(tasks, generator=generator)
    labels = torch.randint(0, 7, (rows,), generator=generator)
    task_ids = torch.randint(0, tasks, (rows,), generator=generator)
    logits = torch.randn(rows, 7, generator=generator)
    loss, stats = vitw_loss(logits, labels, task_ids, weights, return_stats=True)
    nll = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    of_row = weights.double()[task_ids]
    torch.testing.assert_close(
        loss.double(), (of_row * nll).sum() / of_row.sum(), rtol=1e-6, atol=0
    )
    task_nll = torch.zeros(tasks, dtype=torch.float64).index_add(0, task_ids, nll)
    torch.testing.assert_close(stats.task_nll, task_nll, rtol=1e-6, atol=1e-9)
    assert torch.equal(stats.task_tokens, torch.bincount(task_ids, minlength=tasks))


def test_evenly_strided_rows_are_not_copied() -> None:
    padded = torch.randn(18, 64)
    batch = make_batch()
    plain = loss_and_gradient(vitw_loss, padded[:, :37].contiguous(), *batch[1:])
    logits = (padded.requires_grad_() + 0.0)[:, :37]
    vitw_loss(logits, *batch[1:], inplace=True).backward()
    assert logits.data_ptr() == logits._base.data_ptr()
    assert torch.equal(logits, plain[1])


def test_a_batch_with_every_label_ignored_has_loss_0_and_a_backward_with_zeros() -> None:
    batch = make_batch()
    labels = torch.full_like(batch.labels, -100)
    for inplace in (False, True):
        loss, gradient = loss_and_gradient(
            vitw_loss, batch.logits, labels, *batch[2:], inplace=inplace
        )
        assert loss == 0
        assert not gradient.any()


def test_no_rows() -> None:
    none = torch.empty(0, dtype=torch.int64)
    loss, gradient = loss_and_gradient(vitw_loss, torch.empty(0, 5), none, none, [1.0])
    assert loss == 0
    assert gradient.shape == (0, 5)


def test_ignored_rows_and_rows_of_weight_0_have_a_gradient_of_exact_zeros_over_nan() -> None:
    batch = make_batch()
    idle = (batch.labels == -100) | (batch.task_ids == 2)
    batch.logits[idle] = torch.nan
    loss, gradient = loss_and_gradient(vitw_loss, *batch)
    assert loss.isfinite()
    assert not gradient[idle].any()
    assert gradient[~idle].isfinite().all()


def test_a_valid_row_of_bad_logits_is_reported_and_gives_nan() -> None:
    batch = make_batch()
    row = int(((batch.labels != -100) & (batch.task_ids == 1)).flatten().nonzero()[0])
    batch.logits.view(18, 37)[row, 3] = torch.inf
    loss, stats = vitw_loss(*batch, return_stats=True)
    assert loss.isnan()
    assert stats.report.tolist() == [1, row]


def test_stats_tell_what_the_loss_was_made_of() -> None:
    batch = make_batch()
    expected = reference(*batch)
    leaf = batch.logits.clone().requires_grad_()
    loss, stats = vitw_loss(leaf, *batch[1:], return_stats=True)
    for name in ("numerator", "denominator", "task_nll"):
        found = getattr(stats, name)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, getattr(expected, name), rtol=1e-6, atol=1e-12)
    assert torch.equal(stats.task_tokens, expected.task_tokens)
    assert stats.report.tolist() == [0, -1]
    assert torch.equal(loss.detach(), (stats.numerator / stats.denominator).float())
    assert not any(tensor.requires_grad for tensor in stats)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grad_scale", [None, 1.0, 4.0, 4096.0, torch.tensor(1024.0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_upstream_times_that_of_the_loss_whatever_grad_scale_says(
    dtype: torch.dtype, grad_scale: Any, inplace: bool
) -> None:
    batch = make_batch(dtype)
    expected = reference(*batch).gradient
    for upstream in (1.0, 4.0, 1024.0):

        def scaled(*args: Any, upstream: float = upstream) -> Any:
            return upstream * vitw_loss(*args, grad_scale=grad_scale, inplace=inplace)

        _, gradient = loss_and_gradient(scaled, *batch)
        assert_gradient(gradient, expected, scale=upstream)


def test_an_upstream_factor_of_many_digits_costs_one_more_rounding_only() -> None:
    batch = make_batch(torch.bfloat16)
    _, once = loss_and_gradient(vitw_loss, *batch)
    _, gradient = loss_and_gradient(lambda *args: vitw_loss(*args) / 3, *batch)
    assert torch.equal(gradient, (once.double() / 3).to(torch.bfloat16))


def test_an_expected_upstream_factor_is_in_the_gradient_before_it_is_rounded() -> None:
    """Two roundings would differ from one in many entries of bf16, when 3 is multiplied."""
    batch = make_batch(torch.bfloat16)
    _, gradient = loss_and_gradient(lambda *args: 3 * vitw_loss(*args, grad_scale=3.0), *batch)
    once = (3 * reference(*batch).gradient).to(torch.bfloat16)
    normal = once.abs() > 1e-6
    assert (gradient == once)[normal].float().mean() > 0.999


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grad_scale", [None, 65536.0])
def test_fp16_gradients_of_a_large_step_reach_the_loss_scaler(
    grad_scale: float | None, inplace: bool
) -> None:
    batch = make_batch(torch.float16)
    expected = reference(*batch, denominator=1e7).gradient
    assert (expected.half() == 0).double().mean() > 0.9  # Unscaled they underflow.

    def scaled(*args: Any) -> Any:
        loss = vitw_loss(*args, denominator=1e7, grad_scale=grad_scale, inplace=inplace)
        return 65536 * loss

    _, gradient = loss_and_gradient(scaled, *batch)
    exact = (65536 * expected).half()
    normal = exact.abs() > torch.finfo(torch.float16).tiny
    assert normal.any()
    assert (gradient == exact)[normal].float().mean() > 0.999


def test_an_upstream_factor_near_1_is_multiplied_in() -> None:
    batch = make_batch()
    _, once = loss_and_gradient(vitw_loss, *batch)
    for inplace in (False, True):
        _, gradient = loss_and_gradient(
            lambda *args, inplace=inplace: 0.995 * vitw_loss(*args, inplace=inplace), *batch
        )
        assert torch.equal(gradient, once * 0.995)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_factor_of_a_half_gradient_is_fp32(inplace: bool) -> None:
    batch = make_batch(torch.bfloat16)
    _, scaled = loss_and_gradient(lambda *args: 3 * vitw_loss(*args, grad_scale=3.0), *batch)
    _, gradient = loss_and_gradient(vitw_loss, *batch, grad_scale=3.0, inplace=inplace)
    third = (torch.ones(()) / 3).double()
    assert torch.equal(gradient, (scaled.double() * third).to(torch.bfloat16))
    assert not torch.equal(gradient, (scaled.double() * third.bfloat16()).to(torch.bfloat16))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [torch.nan, torch.inf, -torch.inf])
def test_an_upstream_factor_that_overflowed_reaches_the_gradient(
    factor: float, dtype: torch.dtype, inplace: bool
) -> None:
    """A GradScaler finds by it that its scale was too large."""
    batch = make_batch(dtype)
    _, gradient = loss_and_gradient(
        lambda *args: factor * vitw_loss(*args, inplace=inplace), *batch
    )
    assert not gradient.isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_second_backward_gives_the_same_gradient(dtype: torch.dtype) -> None:
    batch = make_batch(dtype)
    leaf = batch.logits.requires_grad_()
    # A second consumer: autograd adds its gradient to ours, and must not add into our memory.
    loss = vitw_loss(leaf * 1, *batch[1:]) + leaf.sum()
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(first, second)
    assert torch.equal(first, kept)


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"),
    reason="this PyTorch does not tell whether a graph is retained",
)
def test_gradients_accumulate_over_backwards_into_grad() -> None:
    batch = make_batch()
    leaf = batch.logits.requires_grad_()
    loss = vitw_loss(leaf, *batch[1:])
    for _ in range(3):
        loss.backward(retain_graph=True)
    assert_gradient(leaf.grad, 3 * reference(*batch).gradient)


def test_autocast_takes_the_logits_as_they_come() -> None:
    batch = make_batch()
    hidden, head = torch.randn(18, 8), torch.randn(37, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.nn.functional.linear(hidden, head)
        loss = vitw_loss(logits, *batch[1:])
    assert logits.dtype == torch.bfloat16
    loss.backward()
    assert head.grad.dtype == torch.float32
    expected = reference(logits, *(part.flatten() for part in batch[1:3]), batch[3]).loss
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-6, atol=0)


def test_no_gradient_is_formed_where_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch()
    from visatb.torch import function

    formed = []
    inner = function.functional_loss
    monkeypatch.setattr(
        function, "functional_loss", lambda *args: formed.append(args[-1]) or inner(*args)
    )
    leaf = batch.logits.clone().requires_grad_()
    vitw_loss(*batch)
    with torch.no_grad():
        vitw_loss(leaf, *batch[1:])
    vitw_loss(leaf, *batch[1:])
    assert formed == [False, False, True]


def test_the_long_name_is_the_same_function() -> None:
    assert visatb_vitw_loss is vitw_loss
