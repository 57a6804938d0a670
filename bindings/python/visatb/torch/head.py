"""A linear head as its caller gives it, checked and brought into the form the operator takes."""

from __future__ import annotations

from torch import Tensor

from .arguments import prepare_tokens, require_floats
from .autocast import cast_as_linear
from .linear_call import Head, require_one_dtype, require_one_head
from .rows import Tokens, require_same_device


def prepare_head(tokens: Tokens, weight: Tensor, bias: Tensor | None) -> Head:
    """hidden as [rows, d], with weight and bias, all in the type that they are multiplied in."""
    rows = prepare_tokens(tokens, "d")
    _require_beside(tokens, "weight", weight)
    if bias is not None:
        _require_beside(tokens, "bias", bias)
    require_one_head(Head(tokens.tensor, weight, bias))
    head = Head(
        cast_as_linear(rows),
        cast_as_linear(weight),
        None if bias is None else cast_as_linear(bias),
    )
    require_one_dtype(head)
    return head


def _require_beside(tokens: Tokens, name: str, tensor: Tensor) -> None:
    require_floats(name, tensor)
    require_same_device(name, tensor, tokens)
