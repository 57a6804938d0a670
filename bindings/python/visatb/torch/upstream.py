"""What the backward makes of gradients that the forward has formed.

The forward forms G = s * dL/d(...), where s is `grad_scale`, the factor that is expected from
upstream. The backward owes u * dL/d(...) for the factor u that comes: G itself if u is s, which it
nearly always is, else G * (u / s).
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from .._lib import check, library
from . import gpu, ops
from .call import DTYPES, has_plain_rows

# PyTorch 2.4 and older do not tell.
_TELLS_OF_GRAPH = hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph")


class Upstream:
    """The factor u / s, which on a GPU nobody but the GPU knows.

    Args:
        owned: nobody else has the saved gradients, as somebody may who called the operator.
    """

    def __init__(self, upstream: Tensor, grad_scale: Tensor | None, *, owned: bool) -> None:
        # Traced code has no such call; there a multiplication melts into what comes after it.
        self._by_library = type(upstream) is Tensor and gpu.is_gpu(upstream.device)
        self._may_overwrite = self._by_library and owned and _TELLS_OF_GRAPH
        self._upstream = upstream
        self._expected = _beside(upstream, grad_scale)

    def times(self, saved: Tensor) -> Tensor:
        """The saved gradient by the factor, and never itself where a further backward may come.

        A leaf takes what it gets for its `.grad`, and adds the next one into that memory. Versions
        that do not tell whether the graph is retained hand out the saved tensor itself where there
        is nothing to multiply; a further backward there fails, by its version, if it was written
        to.
        """
        if self._may_overwrite and not _is_retained():
            return self.times_(saved)
        if self._factor is not None:
            return saved * self._factor
        return saved.clone() if _is_retained() else saved

    def times_(self, gradient: Tensor) -> Tensor:
        """The same in the gradient's own memory."""
        if self._by_library and _has_rows(gradient):
            _scale(gradient, self._upstream.float(), self._expected)
            return gradient
        return gradient if self._factor is None else gradient.mul_(self._factor)

    @functools.cached_property
    def _factor(self) -> Tensor | None:
        """None: nothing, for the usual factor is 1, and a pass over the memory worth saving."""
        expected = self._expected
        factor = self._upstream if expected is None else self._upstream / expected
        return None if ops.has_value(factor) and factor.item() == 1 else factor


def _beside(upstream: Tensor, grad_scale: Tensor | None) -> Tensor | None:
    """The scale where the library can compare the two: a number of the host's goes to the GPU.

    By a kernel's argument, for which nobody waits. PyTorch's own division by such a number is a
    multiplication by its rounded reciprocal, and 49 / 49 not 1.
    """
    if grad_scale is None or grad_scale.device == upstream.device or not ops.has_value(grad_scale):
        return grad_scale
    return torch.full((), grad_scale.item(), dtype=grad_scale.dtype, device=upstream.device)


def _is_retained() -> bool:
    if not _TELLS_OF_GRAPH:
        return False
    retained: bool = torch._C._autograd._get_current_graph_task_keep_graph()
    return retained


def _has_rows(gradient: Tensor) -> bool:
    """Whether the library can go over it in place: dense, or rows at a distance."""
    return gradient.is_contiguous() or (gradient.dim() == 2 and has_plain_rows(gradient))


def _rows_of(gradient: Tensor) -> tuple[int, int, int]:
    """(rows, width, stride), of which all in one row is as good as any if nothing lies between."""
    if gradient.is_contiguous():
        return 1, gradient.numel(), 0
    return gradient.shape[0], gradient.shape[1], gradient.stride(0)


def _scale(gradient: Tensor, factor: Tensor, expected: Tensor | None) -> None:
    """gradient *= factor / expected on its GPU, which leaves it alone where the two are equal."""
    if not gradient.numel():
        return
    floats = ctypes.POINTER(ctypes.c_float)
    with gpu.made_current(gradient.device):
        check(
            library().visatb_scale_gradient(
                gradient.data_ptr(),
                *_rows_of(gradient),
                DTYPES[gradient.dtype],
                ctypes.cast(factor.data_ptr(), floats),
                None if expected is None else ctypes.cast(expected.data_ptr(), floats),
                gpu.stream_of(gradient.device),
            )
        )
    # As every operation in place does, so that who kept the old values for a backward fails.
    torch.autograd.graph.increment_version(gradient)
