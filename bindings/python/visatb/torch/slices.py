"""Which words of a vocabulary a rank has, and what the ranks of a group tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from .._errors import ArgumentError
from . import gpu
from .arguments import is_integer


class Slice(NamedTuple):
    """The words that the logits of this rank are of.

    Attributes:
        first: the number of the first of them.
        vocab: words of all ranks together.
        ranks: how many there are.
        group: the ranks, as torch.distributed knows them.
    """

    first: int
    vocab: int
    ranks: int
    group: Any


def find_slice(rows: Tensor, group: Any, widths: Sequence[int] | None) -> Slice:
    """The slice of the logits [rows, width]; every rank of the group calls this.

    Args:
        widths: those of all ranks in their order. On a GPU they then tell each other nothing, which
            it would be waited for; else they do, and every rank finds what does not go together.
    """
    rank, ranks = _place_in(group)
    known = None if widths is None else _checked(widths, ranks)
    if known is None or not gpu.is_gpu(rows.device):
        shapes = _gather(rows.new_tensor(rows.shape, dtype=torch.int64), ranks, group).tolist()
        _require_same_rows([count for count, _ in shapes])
        found = {each: width for each, (_, width) in enumerate(shapes)}
    else:
        found = {rank: rows.shape[1]}
    if known is None:
        known = list(found.values())
    _require_widths(known, found)
    return Slice(sum(known[:rank]), sum(known), ranks, group)


def gather_statistics(told: Tensor, words: Slice) -> Tensor:
    """What all ranks tell of their rows, [ranks, rows, VISATB_SLICE_STATISTICS]."""
    return _gather(told, words.ranks, words.group)


def _gather(own: Tensor, ranks: int, group: Any) -> Tensor:
    """The same of every rank, which has as many of them, in the order of ranks."""
    gathered = own.new_empty((ranks, *own.shape))
    if own.numel():
        dist.all_gather(list(gathered.unbind()), own, group=group)
    return gathered


def _place_in(group: Any) -> tuple[int, int]:
    """This process's rank in the group, and how many there are."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ArgumentError(
            "torch.distributed is not initialised; expected init_process_group before, for the "
            "slices of the vocabulary belong to the ranks of a group (vitw_loss takes whole rows)"
        )
    rank = dist.get_rank(group)
    if rank < 0:
        raise ArgumentError("group does not have this process; expected one that it is a rank of")
    return rank, dist.get_world_size(group)


def _require_same_rows(rows: list[int]) -> None:
    for rank, count in enumerate(rows):
        if count != rows[0]:
            raise ArgumentError(
                f"logits has {rows[0]} rows on rank 0 of the group and {count} on rank {rank}; "
                "expected the same rows on all, each with its own words"
            )


def _checked(widths: object, ranks: int) -> list[int]:
    given = list(widths) if isinstance(widths, Sequence) else []
    if len(given) != ranks or not all(is_integer(each) and 1 <= each < 2**63 for each in given):
        raise ArgumentError(
            f"widths = {widths!r}; expected a sequence of {ranks} integers of at least 1, one for "
            "each rank of the group"
        )
    return [int(each) for each in given]


def _require_widths(widths: list[int], found: dict[int, int]) -> None:
    """Of those ranks whose logits are known."""
    for rank, width in found.items():
        if widths[rank] != width:
            raise ArgumentError(
                f"widths = {widths!r} with logits of {width} words on rank {rank} of the group; "
                f"expected {width} in that place"
            )
