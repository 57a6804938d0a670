"""What was counted ahead of a step, against what its losses then found."""

from __future__ import annotations

import torch
from torch import Tensor

from .._errors import Error
from ..torch.gpu import HostCopy, beside


class Agreement:
    """Raises when counts differ: on the CPU at once, on a GPU when it has come to tell by itself.

    Nobody waits for the GPU: what it found is looked at by the next call that finds it there.

    Args:
        counted_by: begins the message: who counted ahead.
    """

    def __init__(self, counted_by: str) -> None:
        self._counted_by = counted_by
        self._pending: list[HostCopy] = []

    def check(self, counted: Tensor, found: Tensor) -> None:
        """Compares tokens by task, [tasks] int64.

        Errors: Error, also for an earlier pair.
        """
        counted = beside("the counts of a micro-batch", counted, found)
        self._pending.append(HostCopy(torch.stack([counted, found])))
        while self._pending and self._pending[0].is_there():
            self._compare(self._pending.pop(0).wait())

    def _compare(self, pair: Tensor) -> None:
        counted, found = pair.tolist()
        if counted != found:
            raise Error(
                f"{self._counted_by} counted {counted} valid tokens by task, and the loss found "
                f"{found}; expected the same, for the step was divided by what was counted"
            )
