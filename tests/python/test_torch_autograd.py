"""How vitw_loss behaves as a citizen of autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import LargestTensor, assert_gradient, make_batch, reference  # noqa: E402

from visatb import ArgumentError, Error, UnsupportedError  # noqa: E402
from visatb.torch import VITWLoss, vitw_loss  # noqa: E402

both_paths = pytest.mark.usefixtures("path")


# --- derivatives ----------------------------------------------------------------------------------


@both_paths
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradcheck(reduction: str) -> None:
    """In place is no case: gradcheck takes several backwards."""
    batch = make_batch(torch.float64, vocab=5)

    def loss(logits: Any) -> Any:
        return vitw_loss(logits, *batch[1:], reduction=reduction)

    assert torch.autograd.gradcheck(loss, batch.logits.requires_grad_())


@both_paths
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_second_derivative_is_an_error_and_not_a_silent_zero(
    dtype: torch.dtype, inplace: bool
) -> None:
    batch = make_batch(dtype)
    leaf = batch.logits.requires_grad_()
    loss = vitw_loss(leaf * 1, *batch[1:], inplace=inplace)
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert_gradient(gradient.detach(), reference(*batch).gradient)
    with pytest.raises(UnsupportedError, match="vitw_loss: no second derivative"):
        (gradient.square().sum() + leaf.square().sum()).backward()


@both_paths
@pytest.mark.parametrize(
    ("form", "inplace"),
    [
        (lambda leaf: leaf, False),
        (lambda leaf: leaf.flatten(0, 1), False),
        (lambda leaf: leaf * 1, False),
        (lambda leaf: leaf * 1, True),
    ],
    ids=["leaf", "view", "computed", "in place"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_second_derivative_is_an_error_for_the_leaf_alone_too(
    dtype: torch.dtype, form: Any, inplace: bool
) -> None:
    """Autograd follows only what leads to the leaf, and so must come past the error."""
    batch = make_batch(dtype)
    leaf = batch.logits.requires_grad_()
    loss = vitw_loss(form(leaf), *batch[1:], inplace=inplace)
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert_gradient(gradient.detach(), reference(*batch).gradient)
    penalty = gradient.float().square().sum() + 0 * leaf.float().sum()
    with pytest.raises(UnsupportedError, match="vitw_loss: no second derivative"):
        torch.autograd.grad(penalty, leaf, retain_graph=True)
    with pytest.raises(UnsupportedError, match="vitw_loss: no second derivative"):
        penalty.backward(inputs=[leaf])


@both_paths
def test_a_hessian_is_an_error_and_not_zeros() -> None:
    batch = make_batch(vocab=3)
    with pytest.raises(UnsupportedError, match="vitw_loss: no second derivative"):
        torch.autograd.functional.hessian(lambda x: vitw_loss(x, *batch[1:]), batch.logits)


@both_paths
@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_derivative_in_forward_mode_is_an_error_and_not_a_silent_zero(
    requires_grad: bool,
) -> None:
    from torch.autograd import forward_ad

    batch = make_batch()
    tangent = torch.ones_like(batch.logits)
    with pytest.raises(UnsupportedError, match="vitw_loss: no derivative in forward mode"):
        torch.func.jvp(lambda x: vitw_loss(x, *batch[1:]), (batch.logits,), (tangent,))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(batch.logits.requires_grad_(requires_grad), tangent)
        with pytest.raises(UnsupportedError, match="vitw_loss: no derivative in forward mode"):
            vitw_loss(dual, *batch[1:])


@both_paths
@pytest.mark.parametrize("inplace", [False, True])
def test_the_loss_can_be_changed_in_place(inplace: bool) -> None:
    batch = make_batch()
    leaf = batch.logits.requires_grad_()
    loss = vitw_loss(leaf * 1, *batch[1:], inplace=inplace)
    loss /= 4
    loss.backward()
    assert_gradient(leaf.grad, reference(*batch).gradient, scale=0.25)


@both_paths
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_loss_that_nothing_comes_upstream_to_gives_no_gradient(
    dtype: torch.dtype, inplace: bool, create_graph: bool
) -> None:
    """Whoever takes the loss may have no derivative in it, as with the statistics alone."""

    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: Any, other: Any) -> Any:
            return loss + other

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            return None, upstream

    batch = make_batch(dtype)
    leaf, other = batch.logits.requires_grad_(), torch.ones((), requires_grad=True)
    loss, stats = vitw_loss(leaf * 1, *batch[1:], inplace=inplace, return_stats=True)
    stopped = Stop.apply(loss, other + stats.task_nll.sum())
    gradients = torch.autograd.grad(
        stopped, (leaf, other), create_graph=create_graph, allow_unused=True
    )
    assert gradients[0] is None
    assert gradients[1] == 1


@both_paths
def test_create_graph_alone_is_fine() -> None:
    batch = make_batch()
    leaf = batch.logits.requires_grad_()
    loss = vitw_loss(leaf, *batch[1:])
    torch.autograd.grad(loss, leaf, create_graph=True)
    (gradient,) = torch.autograd.grad(leaf.square().sum(), leaf, create_graph=True)
    gradient.sum().backward()


@both_paths
@pytest.mark.parametrize("inplace", [False, True])
def test_the_backward_makes_no_tensor_of_the_size_of_the_logits(inplace: bool) -> None:
    """The upstream factor is the expected one, so the gradient of the forward is handed out."""
    batch = make_batch()
    logits = batch.logits.flatten(0, 1).requires_grad_() * 1
    loss = vitw_loss(logits, *batch[1:], inplace=inplace)
    with LargestTensor() as largest:
        torch.autograd.grad(loss, logits)
    assert largest.elements < logits.numel()


def test_the_watch_on_the_size_of_tensors_sees_the_zeros_that_autograd_makes() -> None:
    """Without set_materialize_grads(False) there is one; the test above must be able to see it."""

    class Materializing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Any) -> Any:
            ctx.save_for_backward(torch.zeros_like(logits))
            return logits.sum(), torch.zeros_like(logits)

        @staticmethod
        def backward(ctx: Any, upstream: Any, gradient: Any) -> Any:
            return ctx.saved_tensors[0]

    logits = torch.randn(18, 37, requires_grad=True)
    loss, _ = Materializing.apply(logits)
    with LargestTensor() as largest:
        torch.autograd.grad(loss, logits)
    assert largest.elements == logits.numel()


# --- in place -------------------------------------------------------------------------------------


@both_paths
def test_in_place_the_logits_hold_the_gradient() -> None:
    batch = make_batch()
    leaf = batch.logits.clone().requires_grad_()
    logits = leaf * 1
    loss = vitw_loss(logits, *batch[1:], inplace=True)
    assert_gradient(logits.detach(), reference(*batch).gradient)
    loss.backward()
    assert torch.equal(leaf.grad, logits)


@both_paths
@pytest.mark.parametrize("view", [lambda leaf: leaf, lambda leaf: leaf.flatten(0, 1)])
def test_in_place_is_refused_for_a_leaf_and_for_a_view_of_one(view: Any) -> None:
    batch = make_batch()
    leaf = batch.logits.requires_grad_()
    before = leaf.detach().clone()
    with pytest.raises(ArgumentError, match="^inplace = True with logits that are a leaf"):
        vitw_loss(view(leaf), *batch[1:], inplace=True)
    assert torch.equal(leaf, before)


@both_paths
@pytest.mark.parametrize("view", [lambda leaf: leaf, lambda leaf: leaf.flatten(0, 1)])
def test_in_place_is_refused_for_a_leaf_that_is_a_view_itself(view: Any) -> None:
    batch = make_batch()
    buffer = torch.cat([batch.logits, batch.logits])
    leaf = buffer[:3].requires_grad_()
    assert leaf.is_leaf
    with pytest.raises(ArgumentError, match="^inplace = True with logits that are a leaf"):
        vitw_loss(view(leaf), *batch[1:], inplace=True)
    assert torch.equal(leaf, batch.logits)


@both_paths
@pytest.mark.parametrize("inplace", [False, True])
def test_a_lazy_negation_is_resolved(inplace: bool) -> None:
    batch = make_batch()
    leaf = batch.logits.clone().requires_grad_()
    loss = vitw_loss(torch._neg_view(leaf * -1), *batch[1:], inplace=inplace)
    loss.backward()
    expected = reference(*batch)
    torch.testing.assert_close(loss.detach().double(), expected.loss, rtol=1e-6, atol=0)
    assert_gradient(leaf.grad, expected.gradient)


@both_paths
@pytest.mark.parametrize("inplace", [False, True])
def test_statistics_require_no_grad_and_serve_alone(inplace: bool) -> None:
    batch = make_batch()
    logits = batch.logits.clone().requires_grad_() * 1
    _, stats = vitw_loss(logits, *batch[1:], inplace=inplace, return_stats=True)
    assert not any(tensor.requires_grad for tensor in stats)
    torch.testing.assert_close(stats.task_nll, reference(*batch).task_nll, rtol=1e-6, atol=0)


@both_paths
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_made_in_inference_mode_serve(dtype: torch.dtype, inplace: bool) -> None:
    batch = make_batch(dtype)
    with torch.inference_mode():
        made = [tensor.clone() for tensor in batch[1:]]
        module = VITWLoss(batch.task_weights, inplace=inplace)
        scales = torch.full((), 7.0, dtype=torch.float64), torch.full((), 1.0)
    for loss, options in ((vitw_loss, {"inplace": inplace}), (module, {})):
        leaf = batch.logits.clone().requires_grad_()
        weights = made[2:] if loss is vitw_loss else []
        loss(leaf * 1, *made[:2], *weights, denominator=scales[0], **options).backward()
        assert_gradient(leaf.grad, reference(*batch, denominator=7.0).gradient)
    leaf = batch.logits.clone().requires_grad_()
    vitw_loss(leaf * 1, *batch[1:], grad_scale=scales[1], inplace=inplace).backward()
    assert_gradient(leaf.grad, reference(*batch).gradient)


@both_paths
def test_in_place_leaves_the_logits_alone_where_no_gradient_is_needed() -> None:
    batch = make_batch()
    before = batch.logits.clone()
    loss = vitw_loss(*batch, inplace=True)
    with torch.no_grad():
        vitw_loss(batch.logits.requires_grad_(), *batch[1:], inplace=True)
    assert not loss.requires_grad
    assert torch.equal(batch.logits, before)


@both_paths
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_second_backward_in_place_is_an_error(dtype: torch.dtype) -> None:
    batch = make_batch(dtype)
    loss = vitw_loss(batch.logits.requires_grad_() * 1, *batch[1:], inplace=True)
    loss.backward(retain_graph=True)
    with pytest.raises(Error, match="vitw_loss: a second backward through an in-place loss"):
        loss.backward()


@both_paths
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_who_kept_the_logits_for_a_backward_fails_after_they_were_overwritten(
    dtype: torch.dtype,
) -> None:
    batch = make_batch(dtype)
    logits = batch.logits.requires_grad_() * 1
    other = logits.square().sum()
    loss = vitw_loss(logits, *batch[1:], inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        # fp16 is overwritten in the backward of the loss, so that goes first.
        torch.autograd.backward([loss], retain_graph=True)
        other.backward()


@both_paths
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_that_change_before_the_backward_in_place_are_an_error(dtype: torch.dtype) -> None:
    batch = make_batch(dtype)
    logits = batch.logits.requires_grad_() * 1
    loss = vitw_loss(logits, *batch[1:], inplace=True)
    with torch.no_grad():
        logits.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@both_paths
def test_a_failed_call_in_place_leaves_the_logits_as_they_were() -> None:
    batch = make_batch()
    labels = batch.labels.clone()
    labels[-1, -1] = 37
    logits = batch.logits.clone().requires_grad_() * 1
    with pytest.raises(ArgumentError):
        vitw_loss(logits, labels, *batch[2:], inplace=True)
    assert torch.equal(logits, batch.logits)


# --- checkpoints and copies -----------------------------------------------------------------------


def test_checkpointing_recomputes_the_loss() -> None:
    from torch.utils.checkpoint import checkpoint

    batch = make_batch()
    leaf = batch.logits.requires_grad_()
    loss = checkpoint(vitw_loss, leaf, *batch[1:], use_reentrant=False)
    loss.backward()
    assert_gradient(leaf.grad, reference(*batch).gradient)


def test_a_loss_module_can_be_copied() -> None:
    batch = make_batch()
    module = VITWLoss(batch.task_weights)
    assert torch.equal(copy.deepcopy(module)(*batch[:3]), module(*batch[:3]))
