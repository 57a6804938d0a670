"""A call of an operator that nobody traces, with what compiled code does without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from .no_derivative import anchor, refuse_forward_mode
from .places import Given, in_words_of_the_caller


def call_eagerly(
    name: str,
    operator: Callable[..., tuple[Tensor, ...]],
    arguments: tuple[Any, ...],
    given: Given,
    *,
    differentiable: int,
) -> tuple[Tensor, ...]:
    """The operator's results; the first arguments, so many, are those it is differentiable in.

    Errors: ArgumentError and UnsupportedError in the words of who called the function `name`.
    """
    sources = [each for each in arguments[:differentiable] if each is not None]
    refuse_forward_mode(name, sources)
    needed = [each for each in sources if torch.is_grad_enabled() and each.requires_grad]
    if needed:
        arguments = tuple(map(_without_inference, arguments))
    try:
        loss, *others = operator(*arguments)
    except (ArgumentError, UnsupportedError) as error:
        raise in_words_of_the_caller(error, given) from None
    return (anchor(loss, needed) if needed else loss, *others)


def _without_inference(argument: Any) -> Any:
    """What may be saved for a backward, which tensors made in inference mode may not."""
    is_inference = isinstance(argument, Tensor) and argument.is_inference()
    return argument.clone() if is_inference else argument
