"""The operator of the linear form, and what torch.compile makes of vitw_linear_loss."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    LinearReference,
    assert_close,
    linear_gradients,
    linear_reference,
    make_linear_batch,
)

from visatb import ArgumentError  # noqa: E402
from visatb.torch import VITWLinearLoss, ops, vitw_linear_loss  # noqa: E402

pytestmark = pytest.mark.skipif(
    not ops.REGISTERED, reason="PyTorch before 2.4 has no torch.library.custom_op"
)


def compiled(function: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager", **options})


def operator_arguments(dtype: torch.dtype, needed: tuple[bool, ...]) -> tuple[Any, ...]:
    batch = make_linear_batch(dtype)
    head = (batch.hidden.flatten(0, 1), batch.weight, batch.bias)
    return (
        *(each.requires_grad_(is_needed) for each, is_needed in zip(head, needed, strict=True)),
        batch.labels.flatten(),
        batch.task_ids.flatten().int(),
        batch.task_weights,
        None,
        torch.tensor(2.0),
        -100,
        "mean",
        0.0,
        30.0,
        0.0,
        2**20,
        18,
        *needed,
    )


@pytest.mark.parametrize("needed", [(False,) * 3, (True,) * 3, (True, False, False)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype: torch.dtype, needed: tuple[bool, ...]) -> None:
    torch.library.opcheck(
        torch.ops.visatb.vitw_linear_loss.default, operator_arguments(dtype, needed)
    )


@pytest.mark.parametrize("place", [1, 2])
def test_the_operator_called_directly_refuses_a_head_that_does_not_fit(place: int) -> None:
    arguments = list(operator_arguments(torch.float32, (False,) * 3))
    right = arguments[place]
    for wrong in (right[:-1] if place == 2 else right[:, :-1], right.double()):
        arguments[place] = wrong
        with pytest.raises(ArgumentError, match=f"^{('weight', 'bias')[place - 1]} "):
            torch.ops.visatb.vitw_linear_loss(*arguments)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compile_takes_forward_and_backward_without_a_graph_break(
    dtype: torch.dtype, dynamic: bool
) -> None:
    def step(hidden: Any, weight: Any, bias: Any, labels: Any, task_ids: Any, weights: Any) -> Any:
        loss, stats = vitw_linear_loss(
            hidden * 2,
            weight,
            labels,
            task_ids,
            weights,
            bias=bias,
            shift=True,
            denominator=7.0,
            softcap=20.0,
            return_stats=True,
        )
        return 3 * loss, stats.task_nll

    form = compiled(step, dynamic=dynamic)
    for seq in (6, 9):
        batch = make_linear_batch(dtype, seq=seq)
        leaves = [each.requires_grad_() for each in batch[:3]]
        results = [f(*leaves, *batch.terms) for f in (form, step)]
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        gradients = [torch.autograd.grad(loss, leaves) for loss, _ in results]
        for found, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(found, expected)


def test_dynamic_shapes_and_bounds_compile_once() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    form = compiled(vitw_linear_loss, dynamic=True, backend=counter)
    counts = []
    for seq in (5, 6, 9, 12):
        batch = make_linear_batch(seq=seq)
        arguments, most = (*batch[:2], *batch.terms), 3 * seq
        found = form(*arguments, max_valid_rows=most)
        assert torch.equal(found, vitw_linear_loss(*arguments, max_valid_rows=most))
        counts.append(counter.frame_count)
    assert counts == counts[:1] * 4


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, True)], ids=str)
def test_compiled_code_forms_no_gradient_that_nobody_needs(
    needed: tuple[bool, ...], formed: list[tuple[bool, ...]]
) -> None:
    batch = make_linear_batch()
    leaves = [
        each.requires_grad_(is_needed) for each, is_needed in zip(batch[:3], needed, strict=True)
    ]
    compiled(vitw_linear_loss)(*leaves[:2], *batch.terms, bias=leaves[2]).backward()
    assert formed == [needed]
    assert [leaf.grad is not None for leaf in leaves] == list(needed)


@pytest.mark.parametrize("inside", [False, True])
def test_compile_under_autocast_casts_as_eager_code_does(inside: bool) -> None:
    batch = make_linear_batch()

    def step(*args: Any, **kwargs: Any) -> Any:
        if not inside:
            return vitw_linear_loss(*args, **kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return vitw_linear_loss(*args, **kwargs)

    form = compiled(step)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not inside):
        found, expected = linear_gradients(form, batch), linear_gradients(step, batch)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
    rounded = linear_reference(*(each.bfloat16() for each in batch[:3]), *batch.terms)
    of_bf16 = LinearReference(found.loss, *(gradient.bfloat16() for gradient in found[1:]))
    assert_close(of_bf16, rounded, torch.bfloat16)


@pytest.mark.parametrize("grad_scale", [None, 8.0, torch.tensor(8.0)])
def test_compile_of_the_module_with_its_options(grad_scale: Any) -> None:
    batch = make_linear_batch()
    module = VITWLinearLoss(batch.task_weights, grad_scale=grad_scale, chunk_bytes=2**20)

    def step(hidden: Any, weight: Any, *terms: Any, bias: Any) -> Any:
        return 8 * module(hidden, weight, *terms[:2], bias=bias)

    found = linear_gradients(compiled(step), batch)
    expected = linear_reference(*batch)
    assert_close(found._replace(loss=found.loss / 8), expected, torch.float32, scale=8)


def test_compile_of_a_tied_head() -> None:
    tokens = torch.randint(0, 37, (3, 6), generator=torch.Generator().manual_seed(3))
    batch = make_linear_batch()
    terms = batch.terms

    def step(weight: Any) -> Any:
        hidden = torch.nn.functional.embedding(tokens, weight)
        return vitw_linear_loss(hidden, weight, *terms)

    weight = batch.weight.requires_grad_()
    losses = [form(weight) for form in (compiled(step), step)]
    assert torch.equal(*losses)
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in losses]
    torch.testing.assert_close(*gradients)


def test_compile_by_inductor_gives_the_values_of_eager() -> None:
    batch = make_linear_batch(torch.bfloat16)

    def step(hidden: Any, *args: Any, **kwargs: Any) -> Any:
        return vitw_linear_loss(hidden * 2, *args, **kwargs)

    try:
        found = linear_gradients(compiled(step, backend="inductor"), batch)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"inductor does not work here: {error}")
    for ours, theirs in zip(found, linear_gradients(step, batch), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_compiled_code_raises_what_the_library_finds() -> None:
    batch = make_linear_batch()
    labels = torch.full_like(batch.labels, 37)
    with pytest.raises(ArgumentError, match="37"):
        compiled(vitw_linear_loss)(*batch[:2], labels, *batch.terms[1:])
