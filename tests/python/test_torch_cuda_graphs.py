"""vitw_loss on a GPU goes into CUDA graphs and through compilers.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, GPU, captured, needs_real_gpu, on  # noqa: E402
from reference import make_batch, reference  # noqa: E402

from visatb import UnsupportedError  # noqa: E402
from visatb.torch import VITWLoss, ops, vitw_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@needs_real_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("upstream", [1.0, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cuda_graph_is_replayed_with_other_inputs(
    dtype: torch.dtype, upstream: float, inplace: bool
) -> None:
    batch = on(GPU, make_batch(dtype))
    logits = batch.logits.requires_grad_()
    denominator = torch.tensor(7.0, dtype=torch.float64, device=GPU)
    scale = torch.tensor(3.0, device=GPU)

    def step() -> tuple[Any, ...]:
        loss, stats = vitw_loss(
            logits * 1,
            *batch[1:],
            denominator=denominator,
            grad_scale=scale,
            inplace=inplace,
            return_stats=True,
        )
        return loss, *stats, *torch.autograd.grad(upstream * loss, logits)

    graph, returned = captured(step)
    for seed in (1, 2):
        other = on(GPU, make_batch(dtype, seed=seed))
        with torch.no_grad():
            for ours, new in zip(batch, other, strict=True):
                ours.copy_(new)
            denominator.fill_(7.0 + seed)
            scale.fill_(1.0 + 2 * (seed - 1))
        graph.replay()
        found = [tensor.detach().clone() for tensor in returned]
        assert all(map(torch.equal, found, (tensor.detach() for tensor in step())))
        expected = reference(*batch, denominator=7.0 + seed)
        torch.testing.assert_close(found[0].double(), expected.loss, rtol=1e-6, atol=0)


@needs_real_gpu
def test_weights_that_are_set_reach_the_replays_of_a_graph() -> None:
    batch = on(GPU, make_batch())
    module = VITWLoss([0.5, 1.75, 0.0])
    graph, loss = captured(lambda: module(*batch[:3]))
    module.task_weights = [2.0, 1.0, 0.5]
    graph.replay()
    assert torch.equal(loss, vitw_loss(*batch[:3], [2.0, 1.0, 0.5]))


@needs_real_gpu
def test_what_a_graph_cannot_hold_is_refused_while_it_is_captured() -> None:
    batch = on(GPU, make_batch())
    vitw_loss(*batch)
    module = VITWLoss([0.5, 1.75, 0.0])
    for step in (lambda: vitw_loss(*batch[:3], [0.5, 1.75, 0.0]), lambda: module(*batch[:3])):
        with (
            pytest.raises(UnsupportedError, match="^task_weights is on device 'cpu' while a CUDA"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            batch.logits * 1  # A graph of nothing is a warning.
            step()
    module(*batch[:3])


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_takes_forward_and_backward_without_a_graph_break(
    dtype: torch.dtype, backend: str, device: str
) -> None:
    batch = on(device, make_batch(dtype))
    leaf = batch.logits.requires_grad_()
    module = VITWLoss([0.5, 1.75, 0.0], shift=True)

    def step(denominator: float) -> Any:
        return 3 * module(leaf * 2, *batch[1:3], denominator=denominator, grad_scale=3.0)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    try:
        compiled(7.0)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"{backend} does not work here: {error}")
    for denominator in (7.0, 9.0):
        losses = [form(denominator) for form in (compiled, step)]
        torch.testing.assert_close(*losses)
        gradients = [torch.autograd.grad(loss, leaf)[0] for loss in losses]
        torch.testing.assert_close(*gradients)
