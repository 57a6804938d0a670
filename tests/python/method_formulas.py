"""The methods' formulas in plain Python, written from docs/mathematics.md and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

# A step: of each task (sum of nll, tokens).
Step = Sequence[tuple[float, int]]


def softmax(values: Sequence[float], temperature: float = 1.0) -> list[float]:
    """The softmax of values / temperature, times their number."""
    exponentials = [math.exp((value - max(values)) / temperature) for value in values]
    return [len(values) * each / math.fsum(exponentials) for each in exponentials]


def losses_of(steps: Sequence[Step], task: int) -> list[float]:
    """Of the steps that have the task, its mean nll."""
    return [nll / tokens for nll, tokens in (step[task] for step in steps) if tokens]


def mean(losses: Sequence[float]) -> float | None:
    """Rounded once."""
    return float(sum(map(Fraction, losses)) / len(losses)) if losses else None


def ratio(a: float | None, b: float | None) -> float:
    """Of two means; 1 without either, and by 0."""
    return a / b if a is not None and b else 1.0


def dwa(told: Sequence[Step], tasks: int, window: int, temperature: float) -> list[float]:
    """Of the step after those."""
    if len(told) < 2 * window:
        return [1.0] * tasks
    late, early = told[-window:], told[-2 * window : -window]
    ratios = [
        ratio(mean(losses_of(late, task)), mean(losses_of(early, task))) for task in range(tasks)
    ]
    return softmax(ratios, temperature)


def igb(told: Sequence[Step], tasks: int, first: int, end: int) -> list[float]:
    """Of the step after those."""
    if len(told) < end:
        return [1.0] * tasks
    ratios = []
    for task in range(tasks):
        base = mean(losses_of(told[first:end], task))
        seen = losses_of(told, task)
        ratios.append(ratio(seen[-1] if seen else None, base))
    return softmax(ratios)


def philox_4x32_10(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Salmon and others, 2011."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k[0], b % 2**32, a >> 32 ^ c[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def normals(seed: int, step: int, count: int) -> list[float]:
    """The draws of a step, by Box and Muller, two of each block."""
    drawn: list[float] = []
    for block in range((count + 1) // 2):
        words = philox_4x32_10([step % 2**32, step >> 32, block, 0], [seed % 2**32, seed >> 32])
        a, b = ((words[k + 1] << 32 | words[k]) >> 11 for k in (0, 2))
        radius = math.sqrt(-2 * math.log((2**53 - a) / 2**53))
        angle = 2 * math.pi * b / 2**53
        drawn += [radius * math.cos(angle), radius * math.sin(angle)]
    return drawn[:count]
