"""Who goes where: splits and nested subsets, from ids and a seed alone.

Samples are put in an order by the SHA-256 of seed, purpose and id, and the first of it are taken:
the same on every machine, whatever the order of the files; mini lies in large, which lies in all;
and a sample that is added moves only those at the boundaries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from .project import Sampling
from .records import Sample

ALL, LARGE, MINI = "all", "large", "mini"


def in_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """The names in the order of their hashes."""
    prefix = f"{seed}\0{purpose}\0"

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{prefix}{name}".encode("utf-8", "surrogatepass")).digest()

    return sorted(names, key=place)


def size(rate: Fraction | int, of: int) -> int:
    """How many of these are taken: a share, rounded down, or a number."""
    return rate if isinstance(rate, int) else math.floor(rate * of)


def subsets(ids: Sequence[str], task: str, sampling: Sampling) -> dict[str, list[str]]:
    """The subsets of a task's training samples, each in the order of the dealing."""
    order = in_order(ids, sampling.seed, f"subset\0{task}")
    return {
        ALL: order,
        LARGE: order[: size(sampling.large, len(order))],
        MINI: order[: size(sampling.mini, len(order))],
    }


def splits(
    samples: Sequence[Sample], task: str, parts: dict[str, Fraction | int], seed: int
) -> dict[str, list[Sample]]:
    """Deals one task's samples: {split: samples}, "train" being what is left.

    Args:
        samples: of the task.
        task: its name, for another order in every task.
        parts: {split: its share, or how many}.
        seed: of the order.
    """
    by_id = {sample.id: sample for sample in samples}
    dealt = deal(list(by_id), parts, seed, f"split\0{task}")
    return {split: [by_id[name] for name in names] for split, names in dealt.items()}


def deal(
    names: Iterable[str], parts: dict[str, Fraction | int], seed: int, purpose: str
) -> dict[str, list[str]]:
    """Deals names into parts, and the rest into "train"."""
    order = in_order(names, seed, purpose)
    dealt, taken = {}, 0
    for split, part in parts.items():
        count = size(part, len(order))
        dealt[split] = order[taken : taken + count]
        taken += count
    return {"train": order[taken:], **dealt}
