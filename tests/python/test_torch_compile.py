"""The operators, and what torch.compile makes of vitw_loss."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import assert_gradient, make_batch, reference  # noqa: E402

from visatb import ArgumentError  # noqa: E402
from visatb.torch import VITWLoss, ops, vitw_loss  # noqa: E402

pytestmark = pytest.mark.skipif(
    not ops.REGISTERED, reason="PyTorch before 2.4 has no torch.library.custom_op"
)


def operator_arguments(dtype: torch.dtype, *, requires_grad: bool) -> tuple[Any, ...]:
    batch = make_batch(dtype)
    return (
        batch.logits.flatten(0, 1).requires_grad_(requires_grad),
        batch.labels.flatten(),
        batch.task_ids.flatten().int(),
        batch.task_weights,
        None,
        torch.tensor(2.0),
        -100,
        "mean",
        0.0,
        0.0,
        0.0,
    )


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_of_the_functional_operator(dtype: torch.dtype, with_gradient: bool) -> None:
    arguments = operator_arguments(dtype, requires_grad=with_gradient)
    torch.library.opcheck(torch.ops.visatb.vitw_loss.default, (*arguments, with_gradient))


def test_opcheck_of_the_operator_in_place() -> None:
    arguments = operator_arguments(torch.float32, requires_grad=False)
    torch.library.opcheck(torch.ops.visatb.vitw_loss_inplace.default, arguments)


def test_the_operators_called_directly_refuse_what_c_could_not_read() -> None:
    logits, labels, *rest = operator_arguments(torch.float32, requires_grad=False)
    with pytest.raises(
        ArgumentError, match=r"^labels has 17 elements of torch\.int64; expected 18"
    ):
        torch.ops.visatb.vitw_loss(logits, labels[1:], *rest, False)
    with pytest.raises(
        ArgumentError, match=r"^labels has 18 elements of torch\.int32; expected 18"
    ):
        torch.ops.visatb.vitw_loss(logits, labels.int(), *rest, False)
    with pytest.raises(ArgumentError, match=r"^logits has strides \(1, 18\)"):
        torch.ops.visatb.vitw_loss_inplace(logits.t().contiguous().t(), labels, *rest)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compile_takes_forward_and_backward_without_a_graph_break(
    dtype: torch.dtype, dynamic: bool
) -> None:
    def step(leaf: Any, labels: Any, task_ids: Any, weights: Any) -> Any:
        loss, stats = vitw_loss(
            leaf * 2, labels, task_ids, weights, shift=True, denominator=7.0, return_stats=True
        )
        return 3 * loss, stats.task_nll

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for seq in (6, 9):
        batch = make_batch(dtype, seq=seq)
        leaf = batch.logits.requires_grad_()
        task_ids = batch.task_ids[:, 1].contiguous()
        found, expected = (f(leaf, batch.labels, task_ids, batch[3]) for f in (compiled, step))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        gradients = [torch.autograd.grad(loss, leaf)[0] for loss, _ in (found, expected)]
        torch.testing.assert_close(gradients[0], gradients[1])


def test_dynamic_shapes_compile_once() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(vitw_loss, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for seq in (5, 6, 9, 12):
        batch = make_batch(seq=seq)
        assert torch.equal(compiled(*batch), vitw_loss(*batch))
        counts.append(counter.frame_count)
    assert counts == counts[:1] * 4


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grad_scale", [None, 8.0, torch.tensor(8.0)])
def test_compile_of_the_module_with_its_options(grad_scale: Any, inplace: bool) -> None:
    batch = make_batch()
    module = VITWLoss(batch.task_weights, grad_scale=grad_scale, inplace=inplace)
    torch._dynamo.reset()

    def step(leaf: Any) -> Any:
        return 8 * module(leaf * 1, batch.labels, batch.task_ids)

    leaf = batch.logits.requires_grad_()
    loss = torch.compile(step, fullgraph=True, backend="aot_eager")(leaf)
    (gradient,) = torch.autograd.grad(loss, leaf)
    expected = reference(*batch)
    torch.testing.assert_close(loss.double(), 8 * expected.loss, rtol=1e-6, atol=0)
    assert_gradient(gradient, expected.gradient, scale=8)


@pytest.mark.skipif(
    getattr(torch._dynamo.config, "specialize_float", True),
    reason="this PyTorch makes every float a constant",
)
@pytest.mark.parametrize("name", ["denominator", "grad_scale"])
def test_compile_takes_a_number_that_changes_from_step_to_step(name: str) -> None:
    """torch.compile gives up at the ninth version of a function."""
    batch = make_batch()
    module = VITWLoss(batch.task_weights)
    torch._dynamo.reset()

    def step(leaf: Any, number: float) -> Any:
        return module(leaf, *batch[1:3], **{name: number})

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for i in range(20):
        leaf = batch.logits.clone().requires_grad_()
        losses = [form(leaf, 10 + i / 3) for form in (compiled, step)]
        assert torch.equal(*losses)
        gradients = [torch.autograd.grad(loss, leaf)[0] for loss in losses]
        torch.testing.assert_close(*gradients)


def test_compile_of_fp16_carries_an_upstream_factor_of_nan() -> None:
    batch = make_batch(torch.float16)
    leaf = batch.logits.requires_grad_()
    torch._dynamo.reset()
    loss = torch.compile(vitw_loss, fullgraph=True, backend="aot_eager")(leaf, *batch[1:])
    assert torch.autograd.grad(loss, leaf, torch.tensor(torch.nan))[0].isnan().all()


def test_compile_by_inductor_gives_the_values_of_eager() -> None:
    batch = make_batch(torch.bfloat16)
    leaf = batch.logits.requires_grad_()

    def step(leaf: Any) -> Any:
        return vitw_loss(leaf * 2, *batch[1:])

    torch._dynamo.reset()
    try:
        loss = torch.compile(step, fullgraph=True)(leaf)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"inductor does not work here: {error}")
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(loss, step(leaf))
    torch.testing.assert_close(gradient, torch.autograd.grad(step(leaf), leaf)[0])


def test_compiled_code_raises_what_the_library_finds() -> None:
    batch = make_batch()
    torch._dynamo.reset()
    compiled = torch.compile(vitw_loss, fullgraph=True, backend="aot_eager")
    labels = torch.full_like(batch.labels, 37)
    with pytest.raises(ArgumentError, match="37"):
        compiled(batch.logits, labels, *batch[2:])
