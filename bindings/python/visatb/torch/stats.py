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
        report: [2] int64: what is wrong with the data, and the first row where it is, or -1.
            0: nothing. 1: logits of a valid row that are NaN, +inf or nothing but -inf.
            On a GPU also what the CPU refuses: 2 a label, 3 a task id, 4 the weight of its task,
            5 the denominator, 6 the first valid row beyond max_valid_rows.
    """

    numerator: Tensor
    denominator: Tensor
    task_nll: Tensor
    task_tokens: Tensor
    report: Tensor
