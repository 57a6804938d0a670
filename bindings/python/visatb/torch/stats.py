"""What a loss tells besides itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Stats(NamedTuple):
    """What the loss was made of, on its device; none of it is differentiable.

    Attributes:
        numerator: () fp64, sum of lambda * l over the valid tokens, where l is the nll and what
            the options add to it.
        denominator: () fp64, D, as given or computed.
        task_nll: [tasks] fp64, sums of nll, neither weighted nor with what the options add; with
            `softcap` of the capped logits.
        task_tokens: [tasks] int64, numbers of valid tokens.
        report: [2] int64: 0, or 1 if a valid row holds logits that are NaN, +inf or nothing but
            -inf; and the first such row, or -1.
    """

    numerator: Tensor
    denominator: Tensor
    task_nll: Tensor
    task_tokens: Tensor
    report: Tensor
