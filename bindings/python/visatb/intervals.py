"""How far weights may be off because the validation sets are finite: a paired bootstrap, on arrays.

Every run of a task answered the same samples, so a resample draws samples once and takes the
draw's mean in all runs. The axes are those of `visatb.balance`, with resamples in front; NaN stands
where a resample is refused. docs/mathematics.md says what the intervals cover and what not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import balance
from ._errors import ArgumentError, DataError

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Relative to the larger of the two scores, as libvisatb judges the scores themselves.
_SMALLEST_DENOMINATOR = 1e-9

# A weight that differs from another by less differs by rounding.
_ROUNDING = 1e-9

# More would take hours, and tell nothing more.
MOST_RESAMPLES = 1_000_000

_BLOCK = 1 << 18  # draws that are made at once: their counts stay in a core's cache


class Layout(NamedTuple):
    """The layout of `visatb.balance`, whole.

    Attributes:
        lower_is_better: [M] of bool.
        metric_task: [M], the task of each metric.
        task_unit: [tasks], the unit of each task.
    """

    lower_is_better: Mask
    metric_task: NDArray[np.intp]
    task_unit: NDArray[np.intp]

    @property
    def metric_unit(self) -> NDArray[np.intp]:
        """[M]: the unit of each metric."""
        return self.task_unit[self.metric_task]


class Scores(NamedTuple):
    """What contribution and difficulty are made from, once or for every resample.

    Attributes:
        trained: [..., N, M], after training on each unit.
        baseline: [..., M], without.
        low: [..., M], after little training on the metric's own unit.
        high: [..., M], after much.
    """

    trained: Vector
    baseline: Vector
    low: Vector
    high: Vector


class Mix(NamedTuple):
    """How weights are made: the alphas (out, in, difficulty) and the temperature."""

    alphas: tuple[float, float, float]
    temperature: float


class Resamples(NamedTuple):
    """The measurement in each of B resamples; NaN where it is refused.

    Attributes:
        contribution: [B, N, N].
        outward: [B, N], and so inward, difficulty and weights.
        denominator_refused: [B, M]: the metric's gain by its own unit is 0 or of another sign than
            the measured one.
        divisor_refused: [B, M]: the score by which difficulty divides is not above 0.
    """

    contribution: Vector
    outward: Vector
    inward: Vector
    difficulty: Vector
    weights: Vector
    denominator_refused: Mask
    divisor_refused: Mask


def generator_of(seed: int, task: str) -> np.random.Generator:
    """The draws of a task: they depend on the seed and its name, not on the tasks around it."""
    name = int.from_bytes(hashlib.sha256(task.encode()).digest(), "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, name])))


def resampled_means(
    values: Vector, resamples: int, generator: np.random.Generator, *, block: int = _BLOCK
) -> Vector:
    """Means over samples that are drawn with replacement, one draw for all columns.

    Args:
        values: [samples, columns], finite and below 1e150: a row is one sample in every run.
        resamples: B.
        generator: where the draws come from.
        block: how many draws are held at once; the result has the same bits for any.

    Returns:
        [B, columns].
    """
    samples, columns = values.shape
    # Seen from the first sample, a column of equal values has a mean without rounding.
    whole, step = _whole_numbers(values - values[0])
    result = np.empty((resamples, columns))
    rows = max(1, block // samples)
    for first in range(0, resamples, rows):
        count = min(rows, resamples - first)
        drawn = generator.integers(samples, size=(count, samples))
        drawn += samples * np.arange(count)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=count * samples).reshape(count, samples)
        result[first : first + count] = times.astype(np.float64) @ whole
    means: Vector = result * step / samples + values[0]
    return means


def _whole_numbers(values: Vector) -> tuple[Vector, Vector]:
    """Columns as integers times a power of two, small enough that sums of draws are exact.

    So a sum has the same bits in whatever order a BLAS adds. What is rounded away is at most 2^-38
    of the column's largest value for 10,000 samples, and nothing of small whole numbers.
    """
    bits = 52 - len(values).bit_length()
    _, exponent = np.frexp(np.abs(values).max(axis=0))
    step = np.ldexp(1.0, np.maximum(exponent - bits, -1074))
    return np.rint(values / step), step


def resample_balance(
    measured: Scores,
    resampled: Scores,
    layout: Layout,
    mix: Mix,
    *,
    progress: Callable[[int], None] | None = None,
) -> Resamples:
    """Contribution, difficulty and weights of every resample, by the functions of `balance`.

    Args:
        measured: the scores themselves, which carry weights.
        resampled: the same with resamples in front.
        layout: of units, tasks and metrics.
        mix: the alphas and the temperature, which are the measurement's.
        progress: is told now and then how many resamples are done.
    """
    denominators, divisors = _refused(measured, resampled, layout)
    count, units = len(resampled.trained), resampled.trained.shape[1]
    outward, inward, difficulty, weights = np.full((4, count, units), np.nan)
    contribution = np.full((count, units, units), np.nan)
    result = Resamples(contribution, outward, inward, difficulty, weights, denominators, divisors)
    for index in range(count):
        # A metric that is refused gives way to the measured one, so that the others are computed.
        refused = (denominators[index], denominators[index], divisors[index], divisors[index])
        one = Scores(
            *(
                np.where(mask, kept, drawn[index])
                for mask, kept, drawn in zip(refused, measured, resampled, strict=True)
            )
        )
        if not _compute(one, layout, mix, result, index):
            denominators[index] = True
        if progress is not None and index % 64 == 0:
            progress(index)
    lost = np.zeros((2, count, units), dtype=np.bool_)
    for metric, unit in enumerate(layout.metric_unit):
        lost[0, :, unit] |= denominators[:, metric]
        lost[1, :, unit] |= divisors[:, metric]
    _strike_out(result, lost[0], lost[1], mix)
    return result


def _refused(measured: Scores, resampled: Scores, layout: Layout) -> tuple[Mask, Mask]:
    """[B, M] twice: whose gain is not that of the measurement, whose divisor is not above 0."""
    metrics = np.arange(len(layout.metric_task))
    after = resampled.trained[:, layout.metric_unit, metrics]
    gain = after - resampled.baseline
    expected = measured.trained[layout.metric_unit, metrics] - measured.baseline
    larger = np.maximum(np.abs(after), np.abs(resampled.baseline))
    told = (np.abs(gain) >= _SMALLEST_DENOMINATOR * larger) & (gain * np.sign(expected) > 0.0)
    divisor = np.where(layout.lower_is_better, resampled.low, resampled.high)
    return ~told, divisor <= 0.0


def _compute(one: Scores, layout: Layout, mix: Mix, result: Resamples, index: int) -> bool:
    """Fills in one resample; false where it is too far apart for finite numbers."""
    axes = layout._asdict()
    try:
        contribution = balance.contribution(
            one.trained, one.baseline, allow_negative_denominator=True, **axes
        )
        difficulty = balance.difficulty(one.low, one.high, **axes)
    except DataError:
        return False
    outward, inward = balance.contribution_means(contribution)
    if not np.isfinite([outward, inward]).all():
        return False
    result.contribution[index] = contribution
    result.outward[index], result.inward[index] = outward, inward
    result.difficulty[index] = difficulty
    result.weights[index] = balance.balance_weights(
        outward, inward, difficulty, alphas=mix.alphas, temperature=mix.temperature
    ).weights
    return True


def _strike_out(result: Resamples, lost: Mask, lost_difficulty: Mask, mix: Mix) -> None:
    """Takes away what was made from a refused metric; both masks are [B, N], by its unit."""
    units = lost.shape[1]
    np.moveaxis(result.contribution, 1, 2)[lost] = np.nan
    result.contribution[:, np.arange(units), np.arange(units)] = 1.0
    result.inward[lost] = np.nan
    # The mean over the others is theirs to lose.
    result.outward[lost.sum(axis=1, keepdims=True) > lost] = np.nan
    result.difficulty[lost_difficulty] = np.nan
    of_contribution = mix.alphas[0] > 0.0 or mix.alphas[1] > 0.0
    gone = lost.any(axis=1) if of_contribution else np.zeros(len(lost), dtype=np.bool_)
    if mix.alphas[2] > 0.0:
        gone |= lost_difficulty.any(axis=1)
    result.weights[gone] = np.nan


def percentile_interval(values: Vector, confidence: float) -> Vector:
    """The percentile interval over the resamples.

    A refused resample counts as lying beyond both ends. So there is no interval where they are
    (1 - confidence) / 2 of all or more, and a wider one where they are fewer.

    Args:
        values: [B, ...]; NaN: refused.
        confidence: between 0 and 1.

    Returns:
        [2, ...]: low and high; both NaN where there is no interval.
    """
    tail = (1.0 - confidence) / 2.0
    refused = np.isnan(values)
    with np.errstate(invalid="ignore"):
        low = np.quantile(np.where(refused, -np.inf, values), tail, axis=0)
        high = np.quantile(np.where(refused, np.inf, values), 1.0 - tail, axis=0)
    ends = np.array([low, high])
    return np.where(np.isfinite(ends).all(axis=0), ends, np.nan)


def apart_from(values: Vector, centre: float, confidence: float) -> Mask:
    """[...]: whether the interval of values [B, ...] leaves out the centre."""
    low, high = percentile_interval(values, confidence)
    return leaves_out(low, high, centre)


def leaves_out(low: ArrayLike, high: ArrayLike, centre: float) -> Mask:
    """[...]: whether an interval from low to high, each [...], leaves out the centre; NaN: no."""
    told: Mask = (np.asarray(low) > centre + _ROUNDING) | (np.asarray(high) < centre - _ROUNDING)
    return told


def apart_in_pairs(weights: Vector, confidence: float) -> Mask:
    """[N, N]: whether the difference of two weights [B, N], by resample, has an interval without 0.

    Only what lies above the diagonal is filled in.
    """
    units = weights.shape[1]
    result = np.zeros((units, units), dtype=np.bool_)
    for unit in range(units - 1):
        differences = weights[:, unit + 1 :] - weights[:, [unit]]
        result[unit, unit + 1 :] = apart_from(differences, 0.0, confidence)
    return result


def check_options(resamples: object, confidence: object, seed: object) -> None:
    """Refuses what no interval can be made with.

    Errors: ArgumentError.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)):
        raise ArgumentError(f"confidence = {confidence!r}; expected a number between 0 and 1")
    if not 0.0 < confidence < 1.0:
        raise ArgumentError(f"confidence = {confidence!r}; expected a number between 0 and 1")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"seed = {seed!r}; expected an integer of 0 or more")
    # One resample at least beyond each end.
    fewest = int(np.ceil(2.0 / (1.0 - confidence) - 1e-9))
    if fewest > MOST_RESAMPLES:
        raise ArgumentError(
            f"confidence = {confidence!r}; expected at most {1.0 - 2.0 / MOST_RESAMPLES:g}, of "
            f"which {MOST_RESAMPLES} resamples can tell"
        )
    is_count = isinstance(resamples, (int, np.integer)) and not isinstance(resamples, bool)
    if not is_count or int(resamples) < fewest:  # type: ignore[call-overload]
        raise ArgumentError(
            f"resamples = {resamples!r}; expected an integer of {fewest} or more at a confidence "
            f"of {confidence:g}"
        )
    if int(resamples) > MOST_RESAMPLES:  # type: ignore[call-overload]
        raise ArgumentError(f"resamples = {resamples!r}; expected at most {MOST_RESAMPLES}")
