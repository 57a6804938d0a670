"""What takes part: how it is made from the data, and how one call of it is run."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .data import Data
from .results import plain

OURS, RIVAL, FLOOR = "visatb", "rival", "floor"


class NotRun(Exception):  # noqa: N818 - It is a result, no error.
    """Why a contestant does not run here."""


class Result(NamedTuple):
    """The loss, and the gradients of the data's inputs."""

    loss: Tensor
    gradients: tuple[Tensor, ...]


# Forward and backward; a floor computes nothing that could be checked.
Run = Callable[[], Result | None]


@dataclass(frozen=True)
class Contestant:
    """One way to compute the loss and its gradient, or a floor to measure them against.

    Attributes:
        name: in tables; a floor's is that of its kind, of which the fastest counts.
        what: one line: what is called.
        group: OURS, RIVAL or FLOOR.
        make: gives what is timed; raises NotRun.
        weighted: whether the tasks' weights count; else the plain mean is computed, which is less.
        summed: whether it is the sum that is computed, which is still less.
        gathers: whether it is also timed on rows that were gathered before.
        details: what else the result file has of it on such data.
    """

    name: str
    what: str
    group: str
    make: Callable[[Data], Run]
    weighted: bool = False
    summed: bool = False
    gathers: bool = True
    details: Callable[[Data], dict[str, Any]] | None = None


def reason_of(error: BaseException) -> str:
    """One line that says why something did not run; without colours, and without paths.

    These are somebody's own.
    """
    lines = plain(str(error)).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}" if not isinstance(error, NotRun) else lines[0]
    for folder in sorted((*sys.path, sys.prefix), key=len, reverse=True):
        text = text.replace(folder, "") if len(folder) > 1 else text
    text = re.sub(re.escape(tempfile.gettempdir()) + r"/[^\s'\":,)]*", "(a temporary file)", text)
    return text[:200]
