"""How vitw_loss behaves as a citizen of autograd and of torch.compile."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import assert_gradient, make_batch, reference  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from visatb import ArgumentError, Error, UnsupportedError  # noqa: E402
from visatb.torch import VITWLoss, ops, vitw_loss  # noqa: E402

needs_operators = pytest.mark.skipif(
    not ops.REGISTERED, reason="PyTorch before 2.4 has no torch.library.custom_op"
)


@pytest.fixture(params=["torch.library", "autograd.Function"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways into the library: torch.library's, and that of PyTorch before 2.4."""
    if request.param == "autograd.Function":
        monkeypatch.setattr(ops, "REGISTERED", False)
    elif not ops.REGISTERED:
        pytest.skip("PyTorch before 2.4 has no torch.library.custom_op")


both_paths = pytest.mark.usefixtures("path")


class LargestTensor(TorchDispatchMode):
    """Watches what operators make: `elements` is the size of the largest new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {arg.data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.data_ptr() not in inputs:
            self.elements = max(self.elements, result.numel())
        return result


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


# --- operators and torch.compile ------------------------------------------------------------------


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


@needs_operators
@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_of_the_functional_operator(dtype: torch.dtype, with_gradient: bool) -> None:
    arguments = operator_arguments(dtype, requires_grad=with_gradient)
    torch.library.opcheck(torch.ops.visatb.vitw_loss.default, (*arguments, with_gradient))


@needs_operators
def test_opcheck_of_the_operator_in_place() -> None:
    arguments = operator_arguments(torch.float32, requires_grad=False)
    torch.library.opcheck(torch.ops.visatb.vitw_loss_inplace.default, arguments)


@needs_operators
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


@needs_operators
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


@needs_operators
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


@needs_operators
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


@needs_operators
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


@needs_operators
def test_compiled_code_raises_what_the_library_finds() -> None:
    batch = make_batch()
    torch._dynamo.reset()
    compiled = torch.compile(vitw_loss, fullgraph=True, backend="aot_eager")
    labels = torch.full_like(batch.labels, 37)
    with pytest.raises(ArgumentError, match="37"):
        compiled(batch.logits, labels, *batch[2:])


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
