"""vitw_linear_loss on a GPU goes into CUDA graphs and through compilers.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, GPU, captured, needs_real_gpu, on  # noqa: E402
from gpu_batches import SHAPE  # noqa: E402
from reference import (  # noqa: E402
    LinearReference,
    assert_near,
    linear_reference,
    make_linear_batch,
)

from visatb import UnsupportedError  # noqa: E402
from visatb.torch import VITWLinearLoss, context, ops, vitw_linear_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@needs_real_gpu
@pytest.mark.parametrize("options", [{"max_valid_rows": 140}, {"allow_sync": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cuda_graph_is_replayed_with_other_labels(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    batch = on(GPU, make_linear_batch(dtype, **SHAPE))
    leaves = [each.requires_grad_() for each in batch[:3]]

    def step(**options: Any) -> tuple[Any, ...]:
        loss, stats = vitw_linear_loss(
            *leaves[:2], *batch.terms, bias=leaves[2], grad_scale=3.0, return_stats=True, **options
        )
        return loss, *stats, *torch.autograd.grad(3 * loss, leaves)

    graph, returned = captured(lambda: step(**options))
    # While it is captured nobody can count, so that all rows are multiplied.
    bound = {key: value for key, value in options.items() if key != "allow_sync"}
    for seed in (1, 2):
        other = on(GPU, make_linear_batch(dtype, seed=seed, **SHAPE))
        with torch.no_grad():
            for ours, new in zip(batch, other, strict=True):
                ours.copy_(new)
            batch.labels[seed] = -100  # Fewer than before.
        graph.replay()
        found = [tensor.detach().clone() for tensor in returned]
        assert all(map(torch.equal, found, (tensor.detach() for tensor in step(**bound))))
        assert_near(LinearReference(found[0], *found[6:]), linear_reference(*batch), 3.0)


@needs_real_gpu
def test_a_graph_cannot_capture_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = on(GPU, make_linear_batch())
    vitw_linear_loss(*batch[:2], *batch.terms)
    monkeypatch.setattr(context, "_free", defaultdict(list))
    with (
        pytest.raises(UnsupportedError, match="^the first call on 'cuda:0' is captured into a"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        batch.hidden * 1  # A graph of nothing is a warning.
        vitw_linear_loss(*batch[:2], *batch.terms)


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_takes_forward_and_backward_without_a_graph_break(
    dtype: torch.dtype, backend: str, device: str
) -> None:
    batch = on(device, make_linear_batch(dtype))
    leaves = [each.requires_grad_() for each in batch[:3]]
    labels, task_ids, _ = batch.terms
    module = VITWLinearLoss([0.5, 1.75, 0.0], shift=True, allow_sync=True)

    def step(bound: int) -> Any:
        return 3 * module(
            leaves[0] * 2, leaves[1], labels, task_ids, bias=leaves[2], max_valid_rows=bound
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    try:
        compiled(18)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"{backend} does not work here: {error}")
    for bound in (18, 17):
        losses = [form(bound) for form in (compiled, step)]
        torch.testing.assert_close(*losses)
        for found, expected in zip(
            *(torch.autograd.grad(loss, leaves) for loss in losses), strict=True
        ):
            torch.testing.assert_close(found, expected)
