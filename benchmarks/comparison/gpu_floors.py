"""What to measure against on a GPU: copies of the logits' memory, and the bare products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import floors
from .contestants import FLOOR, Contestant, Run
from .data import Data
from .names import COPY_WARM, PASS, PRODUCTS
from .reference import TASKS, factors, slope

BLOCK_ROWS = 512
# Of the three, by name and by what they are; each is also timed alone.
PARTS = ("product: logits", "product: gradient of hidden", "product: gradient of weight")


@torch.no_grad()
def _real_gradient(data: Data, logits: Tensor) -> Tensor:
    """The loss's gradient in the logits: how long a product takes depends on its numbers."""
    scale = factors(data)[TASKS].float()
    gradient = torch.empty_like(logits)
    blocks = zip(
        *(each.split(BLOCK_ROWS) for each in (logits, data.labels, scale, gradient)), strict=True
    )
    for rows, labels, scales, target in blocks:
        target.copy_(slope(rows.float(), labels) * scales[:, None])
    return gradient


def _products(data: Data, chosen: tuple[int, ...]) -> Run:
    hidden, weight = (tensor.detach() for tensor in data.inputs)
    logits = hidden @ weight.T
    gradient = _real_gradient(data, logits)
    of_hidden, of_weight = torch.empty_like(hidden), torch.empty_like(weight)
    products: tuple[Callable[[], object], ...] = (
        lambda: torch.mm(hidden, weight.T, out=logits),
        lambda: torch.mm(gradient, weight, out=of_hidden),
        lambda: torch.mm(gradient.T, hidden, out=of_weight),
    )

    def run() -> None:
        for number in chosen:
            products[number]()

    return run


LOGITS = tuple(
    one for one in floors.LOGITS if one.name in {PASS, COPY_WARM} and one.what.startswith("torch")
)
HIDDEN = (
    Contestant(
        PRODUCTS,
        "`torch.mm(out=...)`: logits and the two gradients, of the loss's own gradient",
        FLOOR,
        lambda data: _products(data, (0, 1, 2)),
    ),
    *(
        Contestant(
            name,
            "one of the three",
            FLOOR,
            lambda data, number=number: _products(data, (number,)),  # type: ignore[misc]
            gathers=False,
        )
        for number, name in enumerate(PARTS)
    ),
)
