"""The losses compute on the CPU, whatever device is the default for new tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    linear_gradients,
    loss_and_gradient,
    make_batch,
    make_linear_batch,
)

from visatb.torch import vitw_denominator, vitw_linear_loss, vitw_loss  # noqa: E402

pytestmark = pytest.mark.usefixtures("path")

OPTIONS: list[dict[str, Any]] = [{}, {"grad_scale": 8.0, "denominator": 4.5}]


def under(device: str, function: Callable[[], Any]) -> Any:
    with torch.device(device):
        return function()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_loss_of_logits(dtype: torch.dtype, inplace: bool, options: dict[str, Any]) -> None:
    batch = make_batch(dtype)

    def step() -> Any:
        return loss_and_gradient(vitw_loss, *batch, inplace=inplace, **options)

    for found, expected in zip(under("meta", step), step(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_of_a_linear_head(dtype: torch.dtype, options: dict[str, Any]) -> None:
    batch = make_linear_batch(dtype)

    def step() -> Any:
        return linear_gradients(vitw_linear_loss, batch, **options)

    for found, expected in zip(under("meta", step), step(), strict=True):
        assert torch.equal(found, expected)


def test_statistics_and_weights_of_a_list() -> None:
    batch, linear = make_batch(), make_linear_batch()
    weights = [0.5, 1.75, 0.0]

    def results() -> tuple[Any, ...]:
        return (
            *vitw_loss(*batch[:3], weights, return_stats=True)[1],
            *vitw_linear_loss(*linear[:2], *linear.terms[:2], weights, return_stats=True)[1],
            vitw_denominator(*batch[1:3], weights),
        )

    for found, expected in zip(under("meta", results), results(), strict=True):
        assert found.device.type == "cpu"
        assert torch.equal(found, expected)
