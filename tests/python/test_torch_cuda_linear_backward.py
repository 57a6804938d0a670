"""The backward of vitw_linear_loss on a GPU: what is asked for, by any factor, twice.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, on  # noqa: E402
from gpu_batches import scaled_by  # noqa: E402
from reference import (  # noqa: E402
    NAMES,
    TOLERANCE,
    assert_near,
    distance,
    linear_gradients,
    linear_reference,
    make_linear_batch,
)

from visatb.torch import vitw_linear_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("needed", list(itertools.product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_requires_no_grad_gets_none(
    dtype: torch.dtype, needed: tuple[bool, ...], device: str
) -> None:
    batch = on(device, make_linear_batch(dtype))
    leaves = [
        each.requires_grad_(is_needed) for each, is_needed in zip(batch[:3], needed, strict=True)
    ]
    loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    assert loss.requires_grad == any(needed)
    if any(needed):
        loss.backward()
    expected = linear_reference(*batch)
    for leaf, is_needed, name in zip(leaves, needed, NAMES, strict=True):
        assert (leaf.grad is not None) == is_needed
        if is_needed:
            assert distance(leaf.grad, getattr(expected, name)) < TOLERANCE[dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grad_scale", [None, 3.0, 49.0, "tensor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradients_are_upstream_times_those_of_the_loss(
    dtype: torch.dtype, grad_scale: Any, device: str
) -> None:
    batch = on(device, make_linear_batch(dtype))
    scale = torch.tensor(49.0, device=device) if grad_scale == "tensor" else grad_scale
    expected = linear_reference(*batch)
    for upstream in (1.0, 3.0, 49.0):
        found = linear_gradients(scaled_by(upstream, grad_scale=scale), batch)
        assert_near(found._replace(loss=found.loss / upstream), expected, upstream)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_a_second_backward_gives_the_same_again(upstream: float, device: str) -> None:
    batch = on(device, make_linear_batch())
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss = upstream * vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(loss, leaves)
    assert all(map(torch.equal, first, kept))
    assert all(map(torch.equal, second, kept))
