"""Where tests of the losses compute: on the CPU always, on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from visatb import UnsupportedError
from visatb.torch import gpu, vitw_loss_plan

# The plugin pretended_gpu makes the package take the CPU for a GPU.
IS_PRETENDED = gpu.is_gpu(torch.device("cpu"))
GPU = "cpu" if IS_PRETENDED else "cuda"


def _why_not() -> str:
    """Why no GPU can be used; "" where one can."""
    if not IS_PRETENDED and not torch.cuda.is_available():
        return "PyTorch sees no GPU"
    try:
        vitw_loss_plan(torch.empty(1, 1, device=GPU))
    except UnsupportedError as error:
        return f"libvisatb cannot use the GPU: {error}"
    return ""


WHY_NOT = _why_not()
needs_gpu = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
needs_real_gpu = pytest.mark.skipif(
    bool(WHY_NOT) or IS_PRETENDED, reason=WHY_NOT or "a pretended GPU does not show it"
)
DEVICES = [*([] if IS_PRETENDED else ["cpu"]), pytest.param(GPU, marks=needs_gpu)]


def on(device: str, batch: Any) -> Any:
    """The batch with all its tensors on the device."""
    return type(batch)(*(tensor.to(device) for tensor in batch))


def rounding_faults(found: Tensor, exact: Tensor, floor: Tensor | float) -> dict[str, float]:
    """By how much a gradient misses what is promised, by what; empty where it keeps it all.

    Args:
        exact: the gradient in fp64.
        floor: 1e-7 lambda grad_scale / D of each row, for an error that is allowed everywhere.

    Comparisons are negated, so that a NaN is a fault.
    """
    error = (found.double() - exact).abs()
    if found.dtype == torch.float32:
        bad = ~((error <= 2e-6 * exact.abs()) | (error <= floor))
        return {"beyond 2e-6": bad.double().mean().item()} if bad.any() else {}
    kind = torch.finfo(found.dtype)
    nearest = exact.to(found.dtype)
    normal = exact.abs() >= kind.tiny
    wrong = (found != nearest) & normal
    share = wrong.sum().item() / max(normal.sum().item(), 1)
    unit = kind.eps * torch.exp2(torch.floor(torch.log2(exact.abs().clamp(min=kind.tiny))))
    steps = (found.double() - nearest.double()).abs()
    # An infinity that is the nearest number has no distance from itself.
    bad = ~((found == nearest) | (steps <= unit) | (error <= floor))
    faults = {"not correctly rounded": share} if share > 1e-3 else {}
    return {**faults, "beyond 1 ulp": bad.double().mean().item()} if bad.any() else faults


class NoSynchronisation:
    """PyTorch raises for every operation in it that would make the host wait for the GPU."""

    def __enter__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")


def returns_while_the_gpu_is_busy(step: Callable[[], Any]) -> bool:
    """Whether a step comes back though the GPU has other things to do first.

    It tells of waiting that PyTorch does not see, such as the C library's.
    """
    torch.cuda._sleep(400_000_000)  # clock cycles, some tenths of a second
    reached = torch.cuda.Event()
    reached.record()
    step()
    is_busy = not reached.query()
    torch.cuda.synchronize()
    return is_busy


def captured(step: Callable[[], Any]) -> tuple[Any, Any]:
    """(a CUDA graph of the step, what it returned), after calls that open what must be open."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        returned = step()
    return graph, returned
