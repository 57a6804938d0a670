"""How vitw_linear_loss behaves as a citizen of autograd, and what it forms and what not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    LargestTensor,
    LinearReference,
    assert_close,
    linear_gradients,
    linear_reference,
    make_linear_batch,
)
from torch.nn import functional  # noqa: E402

from visatb import ArgumentError, UnsupportedError  # noqa: E402
from visatb.torch import linear_autograd, vitw_linear_loss, vitw_loss  # noqa: E402

pytestmark = pytest.mark.usefixtures("path")

NAMES = ("hidden", "weight", "bias")
SUBSETS = list(itertools.product([False, True], repeat=3))
MIXED = list(itertools.product([torch.float32, torch.bfloat16], repeat=3))
TOGETHER = {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2}

# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, TOGETHER], ids=str)
def test_gradcheck(options: dict[str, Any]) -> None:
    batch = make_linear_batch(torch.float64, seq=4, width=3, vocab=5)

    def loss(hidden: Any, weight: Any, bias: Any) -> Any:
        return vitw_linear_loss(hidden, weight, *batch.terms, bias=bias, **options)

    leaves = [each.requires_grad_() for each in batch[:3]]
    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("needed", SUBSETS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_requires_no_grad_is_not_formed_and_gets_none(
    dtype: torch.dtype, needed: tuple[bool, ...], formed: list[tuple[bool, ...]]
) -> None:
    batch = make_linear_batch(dtype)
    leaves = [
        each.requires_grad_(is_needed) for each, is_needed in zip(batch[:3], needed, strict=True)
    ]
    loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    assert loss.requires_grad == any(needed)
    if any(needed):
        loss.backward()
    nothing = (False, False, False)
    of_fp16 = [nothing, needed] if any(needed) else [nothing]
    assert formed == ([needed] if dtype == torch.float32 else of_fp16)
    expected = linear_reference(*batch)
    for leaf, is_needed, name in zip(leaves, needed, NAMES, strict=True):
        assert (leaf.grad is not None) == is_needed
        if is_needed:
            tolerance = {"rtol": 1e-3, "atol": 1e-4}
            torch.testing.assert_close(leaf.grad.double(), getattr(expected, name), **tolerance)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_formed_where_no_gradient_is_asked_for(
    mode: Any, formed: list[tuple[bool, ...]]
) -> None:
    batch = make_linear_batch()
    leaves = [each.requires_grad_() for each in batch[:3]]
    with mode():
        loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2], grad_scale=8.0)
    assert not loss.requires_grad
    assert formed == [(False, False, False)]


def test_fp16_with_a_grad_scale_forms_its_gradients_once_in_the_forward(
    formed: list[tuple[bool, ...]],
) -> None:
    batch = make_linear_batch(torch.float16)
    linear_gradients(lambda *a, **k: 8 * vitw_linear_loss(*a, grad_scale=8.0, **k), batch)
    assert formed == [(True, True, True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_second_backward_gives_the_same_gradients(dtype: torch.dtype) -> None:
    batch = make_linear_batch(dtype)
    leaves = [each.requires_grad_() for each in batch[:3]]
    # A second consumer: autograd adds its gradient to ours, and must not add into our memory.
    loss = vitw_linear_loss(leaves[0] * 1, leaves[1] * 1, *batch.terms, bias=leaves[2] * 1)
    total = loss + sum(leaf.sum() for leaf in leaves)
    first = torch.autograd.grad(total, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(total, leaves)
    for each in zip(first, kept, second, strict=True):
        assert torch.equal(each[0], each[1])
        assert torch.equal(each[0], each[2])


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"),
    reason="this PyTorch does not tell whether a graph is retained",
)
def test_gradients_accumulate_over_backwards_into_grad() -> None:
    batch = make_linear_batch()
    expected = linear_reference(*batch)
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    for _ in range(3):
        loss.backward(retain_graph=True)
    found = LinearReference(loss.detach(), *(leaf.grad for leaf in leaves))
    assert_close(found, expected, torch.float32, scale=3)


def test_the_usual_backward_hands_the_formed_gradients_out_without_a_copy() -> None:
    batch = make_linear_batch()
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    node = loss.grad_fn
    while not hasattr(node, "saved_tensors") or len(node.saved_tensors) != 4:
        node = node.next_functions[0][0]
    formed = [tensor.data_ptr() for tensor in node.saved_tensors[:3]]
    del node
    loss.backward()
    assert [leaf.grad.data_ptr() for leaf in leaves] == formed


def test_the_usual_backward_makes_no_tensor_of_the_size_of_a_gradient() -> None:
    batch = make_linear_batch()
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    with LargestTensor() as largest:
        torch.autograd.grad(loss, leaves)
    assert largest.elements < min(leaf.numel() for leaf in leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_a_second_derivative_is_an_error_and_not_a_silent_zero(
    name: str, dtype: torch.dtype
) -> None:
    batch = make_linear_batch(dtype)
    leaves = {each: getattr(batch, each).requires_grad_() for each in NAMES}
    loss = vitw_linear_loss(
        leaves["hidden"], leaves["weight"] * 1, *batch.terms, bias=leaves["bias"]
    )
    (gradient,) = torch.autograd.grad(loss, leaves[name], create_graph=True)
    penalty = gradient.float().square().sum() + 0 * leaves[name].float().sum()
    message = "^vitw_linear_loss: no second derivative"
    for other in NAMES:
        with pytest.raises(UnsupportedError, match=message):
            torch.autograd.grad(penalty, leaves[other], retain_graph=True)
    with pytest.raises(UnsupportedError, match=message):
        penalty.backward()


@pytest.mark.parametrize("place", range(3))
def test_a_derivative_in_forward_mode_is_an_error_and_not_a_silent_zero(place: int) -> None:
    from torch.autograd import forward_ad

    batch = make_linear_batch()
    with forward_ad.dual_level():
        duals = list(batch[:3])
        duals[place] = forward_ad.make_dual(duals[place], torch.ones_like(duals[place]))
        with pytest.raises(
            UnsupportedError, match="^vitw_linear_loss: no derivative in forward mode"
        ):
            vitw_linear_loss(*duals[:2], *batch.terms, bias=duals[2])


def test_the_loss_can_be_changed_in_place() -> None:
    batch = make_linear_batch()

    def halved(*args: Any, **kwargs: Any) -> Any:
        loss = vitw_linear_loss(*args, **kwargs)
        loss /= 4
        return loss

    found = linear_gradients(halved, batch)
    assert_close(
        found._replace(loss=found.loss * 4), linear_reference(*batch), torch.float32, scale=0.25
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_loss_that_nothing_comes_upstream_to_gives_no_gradient(dtype: torch.dtype) -> None:
    batch = make_linear_batch(dtype)
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss, stats = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2], return_stats=True)
    assert not any(tensor.requires_grad for tensor in stats)
    other = torch.ones((), requires_grad=True)
    stopped = Stop.apply(loss, other + stats.task_nll.sum())
    gradients = torch.autograd.grad(stopped, [*leaves, other], allow_unused=True)
    assert gradients[:3] == (None, None, None)
    assert gradients[3] == 1


class Stop(torch.autograd.Function):
    """Hands nothing on to its first argument."""

    @staticmethod
    def forward(ctx: Any, loss: Any, other: Any) -> Any:
        return loss + other

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        return None, upstream


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_made_in_inference_mode_serve(dtype: torch.dtype) -> None:
    batch = make_linear_batch(dtype)
    with torch.inference_mode():
        terms = [each.clone() for each in batch.terms]
        head = batch.weight.clone()
        denominator = torch.full((), 7.0, dtype=torch.float64)
    hidden = batch.hidden.requires_grad_()
    vitw_linear_loss(hidden, head, *terms, bias=batch.bias, denominator=denominator).backward()
    expected = linear_reference(*batch, denominator=7.0).hidden
    torch.testing.assert_close(hidden.grad.double(), expected, rtol=1e-3, atol=1e-5)


def test_checkpointing_recomputes_the_loss() -> None:
    from torch.utils.checkpoint import checkpoint

    batch = make_linear_batch()

    def recomputed(*args: Any, bias: Any) -> Any:
        return checkpoint(vitw_linear_loss, *args, bias=bias, use_reentrant=False)

    assert_close(linear_gradients(recomputed, batch), linear_reference(*batch), torch.float32)


# --- heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_trains_as_with_its_logits(tied: bool) -> None:
    """With the head's weight being that of the embedding, both gradients add up in it."""
    tokens = torch.randint(0, 37, (3, 6), generator=torch.Generator().manual_seed(3))
    batch = make_linear_batch()

    def gradients_of(form: Any) -> list[Any]:
        torch.manual_seed(5)
        embedding, block = torch.nn.Embedding(37, 16), torch.nn.Linear(16, 16)
        head = torch.nn.Linear(16, 37, bias=False)
        if tied:
            head.weight = embedding.weight
        form(torch.tanh(block(embedding(tokens))), head).backward()
        modules = torch.nn.ModuleList([embedding, block, head])
        return [parameter.grad for parameter in modules.parameters()]

    ours = gradients_of(
        lambda hidden, head: vitw_linear_loss(hidden, head.weight, *batch.terms, shift=True)
    )
    theirs = gradients_of(lambda hidden, head: vitw_loss(head(hidden), *batch.terms, shift=True))
    assert len(ours) == (3 if tied else 4)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_head_with_an_adapter_trains_the_adapter(formed: list[tuple[bool, ...]]) -> None:
    """LoRA: the weight is computed, and only its small factors are parameters."""
    batch = make_linear_batch()
    generator = torch.Generator().manual_seed(1)
    down, up = (
        torch.randn(shape, generator=generator).requires_grad_() for shape in ((2, 16), (37, 2))
    )

    def gradients_of(form: Any) -> Any:
        weight = batch.weight + 0.5 * (up @ down)
        return torch.autograd.grad(form(batch.hidden, weight), (down, up))

    ours = gradients_of(lambda *head: vitw_linear_loss(*head, *batch.terms))
    assert formed == [(False, True, False)]
    theirs = gradients_of(lambda *head: vitw_loss(functional.linear(*head), *batch.terms))
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_micro_batches_with_the_denominator_of_the_step_add_up_to_the_whole() -> None:
    batch = make_linear_batch()
    expected = linear_reference(*batch)
    counted = torch.where(batch.labels != -100, batch.task_weights[batch.task_ids], 0.0).sum()
    leaves = [each.requires_grad_() for each in batch[:3]]
    losses = []
    for i in range(3):
        terms = (each[i : i + 1] for each in batch.terms[:2])
        losses.append(
            vitw_linear_loss(
                leaves[0][i : i + 1],
                leaves[1],
                *terms,
                batch.task_weights,
                bias=leaves[2],
                denominator=counted,
            )
        )
        losses[-1].backward()
    found = LinearReference(sum(losses).detach(), *(leaf.grad for leaf in leaves))
    assert_close(found, expected, torch.float32)


# --- autocast -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", MIXED, ids=str)
def test_autocast_casts_as_a_linear_layer_does_and_gradients_come_back_in_their_types(
    dtypes: tuple[torch.dtype, ...],
) -> None:
    batch = make_linear_batch()
    leaves = [
        each.to(dtype).requires_grad_() for each, dtype in zip(batch[:3], dtypes, strict=True)
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    loss.backward()
    assert loss.dtype == torch.float32
    expected = linear_reference(*(leaf.bfloat16() for leaf in leaves), *batch.terms)
    for leaf, dtype in zip(leaves, dtypes, strict=True):
        assert leaf.grad.dtype == dtype
    found = LinearReference(loss.detach(), *(leaf.grad.bfloat16() for leaf in leaves))
    assert_close(found, expected, torch.bfloat16)


def test_autocast_leaves_fp64_alone_as_a_linear_layer_does() -> None:
    batch = make_linear_batch(torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = vitw_linear_loss(*batch[:2], *batch.terms)
    assert loss.dtype == torch.float64


def test_without_autocast_two_types_are_refused() -> None:
    batch = make_linear_batch()
    for enabled in (None, False):
        with torch.autocast("cpu", enabled=bool(enabled)), pytest.raises(ArgumentError) as caught:
            vitw_linear_loss(batch.hidden.bfloat16(), batch.weight, *batch.terms)
        assert str(caught.value) == (
            "weight is torch.float32 with hidden of torch.bfloat16; expected one type for both, "
            "as weight.to(torch.bfloat16) or torch.autocast makes it"
        )


# --- the operator itself --------------------------------------------------------------------------


def test_the_operator_called_directly_for_fewer_gradients_than_autograd_needs() -> None:
    batch = make_linear_batch()
    expected = linear_reference(*batch)
    leaves = [each.flatten(0, -2) if each.dim() == 3 else each for each in batch[:3]]
    leaves = [each.requires_grad_() for each in leaves]
    terms = (
        batch.labels.flatten(),
        batch.task_ids.flatten().int(),
        batch.task_weights,
        *(None, None, -100, "mean", 0.0, 0.0, 0.0),
    )
    loss = linear_autograd.differentiable_linear_loss(
        *leaves, *terms, None, None, True, False, False
    )[0]
    found = LinearReference(loss.detach(), *torch.autograd.grad(loss, leaves))
    hidden = found.hidden.view(3, 6, 16)
    assert_close(found._replace(hidden=hidden), expected, torch.float32)
