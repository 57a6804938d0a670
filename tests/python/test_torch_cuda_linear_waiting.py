"""vitw_linear_loss on a GPU waits only when it is allowed, in whatever stream and thread.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import (  # noqa: E402
    DEVICES,
    GPU,
    IS_PRETENDED,
    NoSynchronisation,
    needs_real_gpu,
    on,
    returns_while_the_gpu_is_busy,
)
from gpu_batches import SHAPE  # noqa: E402
from reference import LinearBatch, linear_gradients, make_linear_batch  # noqa: E402

from visatb import ArgumentError  # noqa: E402
from visatb.torch import VITWLinearLoss, vitw_linear_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def steps(batch: LinearBatch) -> dict[str, Callable[[], Any]]:
    """Calls of every kind, forward and backward, that must not wait for the GPU."""
    leaves = [each.requires_grad_() for each in batch[:3]]
    there = {
        "denominator": torch.tensor(7.0, dtype=torch.float64, device=leaves[0].device),
        "grad_scale": torch.tensor(3.0, device=leaves[0].device),
    }
    module = VITWLinearLoss([0.5, 1.75, 0.0], shift=True)

    def step(upstream: float = 1.0, **options: Any) -> Callable[[], Any]:
        def run() -> Any:
            loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2], **options)
            (upstream * loss).backward()

        return run

    def of_module() -> Any:
        module(*leaves[:2], *batch.terms[:2], max_valid_rows=17).backward()

    return {
        "plain": step(),
        "upstream": step(3.0),
        "bound": step(max_valid_rows=15),
        "bound of 0": step(max_valid_rows=0),
        "numbers": step(3.0, denominator=7.0, grad_scale=3.0),
        "tensors": step(3.0, **there),
        "chunks": step(chunk_bytes=2**19),
        "options": step(label_smoothing=0.1, softcap=9.0, z_loss=0.1, reduction="sum"),
        "the module": of_module,
        "without a gradient": lambda: vitw_linear_loss(*batch[:2], *batch.terms),
    }


STEPS = list(steps(make_linear_batch()))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_steps_that_shall_not_wait_are_steps(dtype: torch.dtype, name: str) -> None:
    if name == "bound of 0" and not IS_PRETENDED:  # A CPU counts, and refuses.
        with pytest.raises(ArgumentError, match="^max_valid_rows = 0; expected None or"):
            steps(make_linear_batch(dtype))[name]()
        return
    steps(make_linear_batch(dtype))[name]()


@needs_real_gpu
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_waits_for_the_gpu(dtype: torch.dtype, name: str) -> None:
    step = steps(on(GPU, make_linear_batch(dtype)))[name]
    step()  # Opens cuBLAS, and copies weights.
    with NoSynchronisation():
        step()
    assert returns_while_the_gpu_is_busy(step)


@needs_real_gpu
def test_allow_sync_waits_once_and_nowhere_else() -> None:
    batch = on(GPU, make_linear_batch())
    loss = VITWLinearLoss(batch.task_weights, allow_sync=True)
    loss(*batch[:2], *batch.terms[:2])
    with NoSynchronisation():
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            loss(*batch[:2], *batch.terms[:2])
        loss(*batch[:2], *batch.terms[:2], max_valid_rows=12)


@needs_real_gpu
def test_another_stream() -> None:
    batch = on(GPU, make_linear_batch(**SHAPE))
    expected = linear_gradients(vitw_linear_loss, batch)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Late, so that a kernel on a wrong stream would come too early.
        torch.cuda._sleep(50_000_000)
        late = batch._replace(hidden=batch.hidden * 1, weight=batch.weight * 1)
        found = linear_gradients(vitw_linear_loss, late)
    stream.synchronize()
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("device", DEVICES)
def test_several_threads_at_once(device: str) -> None:
    batch = on(device, make_linear_batch(torch.bfloat16, **SHAPE))
    expected = linear_gradients(vitw_linear_loss, batch)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            found = linear_gradients(vitw_linear_loss, batch)
            if not all(map(torch.equal, found, expected)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_real_gpu
def test_a_device_that_is_not_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    expected = linear_gradients(vitw_linear_loss, on("cuda:0", make_linear_batch()))
    with torch.cuda.device(0):
        found = linear_gradients(vitw_linear_loss, on("cuda:1", make_linear_batch()))
        assert torch.cuda.current_device() == 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.index == 1
        assert torch.equal(ours.cpu(), theirs.cpu())
