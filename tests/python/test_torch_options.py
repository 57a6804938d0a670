"""label_smoothing, softcap and z_loss of vitw_loss follow the formula."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    assert_gradient,
    distance,
    loss_and_gradient,
    make_batch,
    reference,
)

from visatb.torch import VITWLoss, ops, vitw_loss  # noqa: E402

ALONE: list[dict[str, float]] = [
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"softcap": 5.0},
    {"z_loss": 1e-2},
]
TOGETHER = {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2}
OPTIONS = [*ALONE, TOGETHER]

each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)
both_paths = pytest.mark.usefixtures("path")


@both_paths
@each_option
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_loss_and_gradient_are_those_of_the_formula(
    dtype: torch.dtype, inplace: bool, options: dict[str, float]
) -> None:
    batch = make_batch(dtype)
    expected = reference(*batch, **options)
    loss, gradient = loss_and_gradient(vitw_loss, *batch, inplace=inplace, **options)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
    assert gradient.dtype == dtype
    assert_gradient(gradient, expected.gradient)


@both_paths
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@each_option
def test_gradcheck(options: dict[str, float], reduction: str) -> None:
    batch = make_batch(torch.float64, vocab=5)

    def loss(logits: Any) -> Any:
        return vitw_loss(logits, *batch[1:], reduction=reduction, **options)

    assert torch.autograd.gradcheck(loss, batch.logits.requires_grad_())


@both_paths
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grad_scale", [None, 65536.0])
def test_fp16_gradients_reach_the_loss_scaler_with_options_too(
    grad_scale: float | None, inplace: bool
) -> None:
    """Without a grad_scale they are formed in the backward, which needs the options again."""
    batch = make_batch(torch.float16)
    expected = reference(*batch, denominator=1e7, **TOGETHER).gradient

    def scaled(*args: Any) -> Any:
        loss = vitw_loss(*args, denominator=1e7, grad_scale=grad_scale, inplace=inplace, **TOGETHER)
        return 65536 * loss

    _, gradient = loss_and_gradient(scaled, *batch)
    assert distance(gradient, 65536 * expected) < 5e-4


@each_option
def test_the_numerator_has_what_the_options_add_and_the_nll_of_a_task_has_not(
    options: dict[str, float],
) -> None:
    batch = make_batch()
    expected = reference(*batch, **options)
    _, stats = vitw_loss(*batch, return_stats=True, **options)
    for name in ("numerator", "denominator", "task_nll"):
        torch.testing.assert_close(
            getattr(stats, name), getattr(expected, name), rtol=1e-6, atol=1e-12
        )
    only_cap = {name: value for name, value in options.items() if name == "softcap"}
    _, plain = vitw_loss(*batch, return_stats=True, **only_cap)
    torch.testing.assert_close(stats.task_nll, plain.task_nll, rtol=1e-6, atol=1e-12)


def test_smoothing_of_a_logit_of_minus_infinity_is_infinite_unless_it_is_capped() -> None:
    batch = make_batch()
    batch.logits[..., 0] = -torch.inf
    labels = torch.where(batch.labels == 0, 1, batch.labels)
    terms = (labels, *batch[2:])
    assert vitw_loss(batch.logits, *terms, label_smoothing=0.1) == torch.inf
    loss, gradient = loss_and_gradient(
        vitw_loss, batch.logits, *terms, label_smoothing=0.1, softcap=30.0
    )
    expected = reference(batch.logits.clamp(min=-1e4), *terms, label_smoothing=0.1, softcap=30.0)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
    assert gradient.isfinite().all()


@each_option
def test_the_module_keeps_them(options: dict[str, float]) -> None:
    batch = make_batch()
    found = VITWLoss(batch.task_weights, **options)(*batch[:3])
    assert torch.equal(found, vitw_loss(*batch, **options))
    assert not torch.equal(found, vitw_loss(*batch))


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_option
def test_they_compile(options: dict[str, float], dtype: torch.dtype) -> None:
    batch = make_batch(dtype)
    module = VITWLoss(batch.task_weights, **options)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    leaf = batch.logits.requires_grad_()
    losses = [form(leaf, *batch[1:3]) for form in (compiled, module)]
    assert torch.equal(*losses)
    assert torch.equal(*(torch.autograd.grad(loss, leaf)[0] for loss in losses))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_does_not_change_a_bit(
    dtype: torch.dtype, workers: list[int]
) -> None:
    batch = make_batch(dtype, seq=120, vocab=3000)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            workers.clear()
            found.append(loss_and_gradient(vitw_loss, *batch, **TOGETHER))
            assert max(workers, default=1) == threads
    finally:
        torch.set_num_threads(before)
    for loss, gradient in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_the_library_is_asked_for_the_threads_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    from visatb.torch import call

    asked = []

    class Arguments(call.VitwLossArgs):
        def __init__(self, **fields: Any) -> None:
            asked.append(fields["threads"])
            super().__init__(**fields)

    monkeypatch.setattr(call, "VitwLossArgs", Arguments)
    batch = make_batch()
    compiled = vitw_loss
    if ops.REGISTERED:
        torch._dynamo.reset()
        compiled = torch.compile(vitw_loss, fullgraph=True, backend="aot_eager")
    before = torch.get_num_threads()
    try:
        for threads in (3, 4):
            torch.set_num_threads(threads)
            vitw_loss(*batch)
            compiled(*batch)
    finally:
        torch.set_num_threads(before)
    assert asked == [3, 3, 4, 4]
