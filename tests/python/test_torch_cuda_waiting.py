"""vitw_loss on a GPU waits for nothing, in whatever stream and on whatever device.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import (  # noqa: E402
    GPU,
    NoSynchronisation,
    needs_real_gpu,
    on,
    returns_while_the_gpu_is_busy,
)
from reference import Batch, loss_and_gradient, make_batch  # noqa: E402

from visatb import ArgumentError  # noqa: E402
from visatb.torch import VITWLoss, vitw_loss, vitw_loss_plan  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def steps(batch: Batch) -> dict[str, Callable[[], Any]]:
    """Calls of every kind, forward and backward, that must not wait for the GPU."""
    leaf = batch.logits.requires_grad_()
    scalars = {
        "denominator": torch.tensor(7.0, dtype=torch.float64, device=leaf.device),
        "grad_scale": torch.tensor(3.0, device=leaf.device),
    }
    module = VITWLoss([0.5, 1.75, 0.0], shift=True, return_stats=True)

    def step(**options: Any) -> Callable[[], Any]:
        weights = options.pop("weights", batch.task_weights)
        upstream = options.pop("upstream", 1.0)

        def run() -> Any:
            loss = vitw_loss(leaf * 1, *batch[1:3], weights, **options)
            (upstream * loss).backward()

        return run

    def of_module() -> Any:
        loss, _ = module(leaf, *batch[1:3])
        loss.backward()

    return {
        "plain": step(),
        "upstream": step(upstream=3.0),
        "shift": step(shift=True),
        "in place": step(inplace=True),
        "in place, upstream": step(inplace=True, upstream=3.0),
        "numbers": step(denominator=7.0, grad_scale=3.0, upstream=3.0),
        "tensors": step(**scalars, upstream=3.0),
        "tensors of the host": step(
            denominator=torch.tensor(7.0), grad_scale=torch.tensor(3.0), upstream=3.0
        ),
        "options": step(label_smoothing=0.1, softcap=9.0, z_loss=0.1, reduction="sum"),
        "weights of a list": step(weights=[0.5, 1.75, 0.0]),
        "weights of the host": step(weights=torch.tensor([0.5, 1.75, 0.0])),
        "the module": of_module,
        "the denominator": lambda: module.denominator_of(*batch[1:3]),
        "without a gradient": lambda: vitw_loss(*(each.detach() for each in batch)),
    }


STEPS = list(steps(make_batch()))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_steps_that_shall_not_wait_are_steps(dtype: torch.dtype, name: str) -> None:
    steps(make_batch(dtype))[name]()


@needs_real_gpu
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_waits_for_the_gpu(dtype: torch.dtype, name: str) -> None:
    step = steps(on(GPU, make_batch(dtype)))[name]
    step()  # The module copies its weights at its first call.
    with NoSynchronisation():
        step()
    # A driver may copy from memory of the host as it likes.
    if not name.startswith("weights"):
        assert returns_while_the_gpu_is_busy(step)


@needs_real_gpu
def test_the_plan_and_a_bad_argument_wait_for_nothing_either() -> None:
    batch = on(GPU, make_batch())
    with NoSynchronisation():
        vitw_loss_plan(batch.logits)
        with pytest.raises(ArgumentError, match="^label_smoothing = 2"):
            vitw_loss(*batch, label_smoothing=2.0)


@needs_real_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_stream(dtype: torch.dtype, inplace: bool) -> None:
    batch = on(GPU, make_batch(dtype))
    expected = loss_and_gradient(vitw_loss, *batch)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Late, so that a kernel on a wrong stream would come too early.
        torch.cuda._sleep(50_000_000)
        logits = batch.logits * 1
        found = loss_and_gradient(vitw_loss, logits, *batch[1:], inplace=inplace)
    stream.synchronize()
    assert all(map(torch.equal, found, expected))


@needs_real_gpu
def test_a_device_that_is_not_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    expected = loss_and_gradient(vitw_loss, *on("cuda:0", make_batch()))
    batch = on("cuda:1", make_batch())
    with torch.cuda.device(0):
        for scalar in (7.0, torch.tensor(7.0), torch.tensor(7.0, device="cuda:0")):
            vitw_loss(*batch, denominator=scalar)
        found = loss_and_gradient(vitw_loss, *batch)
        assert torch.cuda.current_device() == 0
    assert found[1].device.index == 1
    assert all(
        torch.equal(ours.cpu(), theirs.cpu()) for ours, theirs in zip(found, expected, strict=True)
    )
