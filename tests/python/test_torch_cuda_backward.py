"""The backward of vitw_loss on a GPU: any factor, any number of times, no memory.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, GPU, needs_gpu, on  # noqa: E402
from reference import (  # noqa: E402
    LargestTensor,
    assert_gradient,
    loss_and_gradient,
    make_batch,
    reference,
)

from visatb import Error  # noqa: E402
from visatb.torch import ops, vitw_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grad_scale", [None, 3.0, 49.0, "tensor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_upstream_times_that_of_the_loss(
    dtype: torch.dtype, grad_scale: Any, inplace: bool, device: str
) -> None:
    batch = on(device, make_batch(dtype))
    scale = torch.tensor(49.0, device=device) if grad_scale == "tensor" else grad_scale
    expected = reference(*batch).gradient
    for upstream in (1.0, 3.0, 49.0):

        def scaled(*args: Any, upstream: float = upstream) -> Any:
            return upstream * vitw_loss(*args, grad_scale=scale, inplace=inplace)

        _, gradient = loss_and_gradient(scaled, *batch)
        if dtype == torch.float32:
            assert_gradient(gradient, expected, scale=upstream)
            continue
        # One rounding if the factor was the expected one or is first known in the backward, else 2.
        atol = 1e-7 * upstream
        rtol = 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(gradient.double(), upstream * expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_a_second_backward_gives_the_same_again(upstream: float, device: str) -> None:
    batch = on(device, make_batch())
    leaf = batch.logits.requires_grad_()
    loss = upstream * vitw_loss(leaf, *batch[1:])
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(first, kept)
    assert torch.equal(second, kept)
    assert_gradient(kept, reference(*batch).gradient, scale=upstream)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_the_gradients_of_two_backwards_add_up_in_a_leaf(upstream: float, device: str) -> None:
    if not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        pytest.skip("this PyTorch does not tell whether the graph is retained")
    batch = on(device, make_batch())
    leaf = batch.logits.requires_grad_()
    loss = upstream * vitw_loss(leaf, *batch[1:])
    loss.backward(retain_graph=True)
    loss.backward()
    assert_gradient(leaf.grad, reference(*batch).gradient, scale=2 * upstream)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_upstream_factor_that_overflowed_reaches_the_gradient(
    dtype: torch.dtype, factor: float, device: str
) -> None:
    batch = on(device, make_batch(dtype))
    _, gradient = loss_and_gradient(lambda *args: factor * vitw_loss(*args), *batch)
    weighted = (batch.labels != -100) & (batch.task_ids != 2)
    assert not gradient[weighted].isfinite().any()


@pytest.mark.parametrize("device", DEVICES)
def test_in_place_is_for_one_backward(device: str) -> None:
    batch = on(device, make_batch())
    loss = vitw_loss(batch.logits.requires_grad_() * 1, *batch[1:], inplace=True)
    loss.backward(retain_graph=True)
    with pytest.raises(Error, match="a second backward through an in-place loss"):
        loss.backward()


@needs_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_the_backward_makes_no_tensor_of_the_size_of_the_logits(
    upstream: float, inplace: bool
) -> None:
    if not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        pytest.skip("this PyTorch does not tell whether the graph is retained")
    batch = on(GPU, make_batch())
    logits = batch.logits.flatten(0, 1).requires_grad_() * 1
    loss = upstream * vitw_loss(logits, *batch[1:], inplace=inplace)
    with LargestTensor() as largest:
        torch.autograd.grad(loss, logits)
    assert largest.elements < logits.numel()


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators")
@pytest.mark.parametrize("device", DEVICES)
def test_who_calls_the_operator_keeps_the_gradient_that_it_returned(device: str) -> None:
    batch = on(device, make_batch())
    logits = batch.logits.flatten(0, 1).requires_grad_()
    rows = batch.labels.flatten(), batch.task_ids.flatten().int(), batch.task_weights
    options = (None, None, -100, "mean", 0.0, 0.0, 0.0)
    loss, *_, returned = torch.ops.visatb.vitw_loss(logits, *rows, *options, True)
    before = returned.clone()
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    assert torch.equal(returned, before)
    torch.testing.assert_close(gradient, 3 * before)
