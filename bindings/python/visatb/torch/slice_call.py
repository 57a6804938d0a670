"""The two calls of the C library for a slice of the vocabulary."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .._lib import SLICE_STATISTICS, VitwLossArgs, VocabSlice, check, library
from . import gpu
from .call import Call, Outputs, row_stride, workspace_of
from .slices import Slice
from .terms import Terms

_DOUBLES = ctypes.POINTER(ctypes.c_double)


class _SliceCall:
    """What both calls are given, and the memory of it."""

    def __init__(
        self, logits: Tensor, terms: Terms, words: Slice, gradient: Tensor | None = None
    ) -> None:
        self.call = Call(logits, terms)
        self.slice = VocabSlice(first=words.first, width=logits.shape[1])
        self.arguments = VitwLossArgs(
            vocab=words.vocab,
            logits=logits.data_ptr(),
            logits_stride=row_stride("logits", logits),
            **self.call.fields,
        )
        if gradient is not None:
            self.arguments.gradient = gradient.data_ptr()
            self.arguments.gradient_stride = row_stride("gradient", gradient)
        self.workspace = workspace_of(self.arguments, logits, terms, gradient)
        if self.workspace is not None:
            self.arguments.workspace = self.workspace.data_ptr()
            self.arguments.workspace_bytes = self.workspace.numel()


def call_slice_statistics(logits: Tensor, terms: Terms, words: Slice) -> Tensor:
    """What the slice tells of its rows, [rows, VISATB_SLICE_STATISTICS] fp64.

    Args:
        logits: [rows, width] with `has_plain_rows`.

    Errors: as `call_slice_loss`.
    """
    with gpu.made_current(logits.device):
        call = _SliceCall(logits, terms, words)
        told = logits.new_empty((logits.shape[0], SLICE_STATISTICS), dtype=torch.float64)
        check(
            library().visatb_vitw_slice_statistics(
                ctypes.byref(call.arguments),
                ctypes.byref(call.slice),
                ctypes.cast(told.data_ptr(), _DOUBLES),
            )
        )
        return told


def call_slice_loss(
    logits: Tensor, terms: Terms, words: Slice, told: Tensor, *, gradient: Tensor | None
) -> Outputs:
    """The loss, from what all slices tell; `gradient` as in `call_vitw_loss`.

    Errors:
        ArgumentError, UnsupportedError, Error: what the C library says.
    """
    with gpu.made_current(logits.device):
        call = _SliceCall(logits, terms, words, gradient)
        check(
            library().visatb_vitw_slice_loss(
                ctypes.byref(call.arguments),
                ctypes.byref(call.slice),
                words.ranks,
                ctypes.cast(told.data_ptr(), _DOUBLES),
            )
        )
        return call.call.outputs()
