"""The mathematics from scores to weights, on NumPy arrays.

A *unit* is what is weighted: a task, or a group of tasks; there are N of them. Unless a layout is
given, every unit is one task with one metric, and an axis of metrics is an axis of units. Equation
numbers are those of arXiv 2403.04343.

The layout of groups and several metrics is three arrays, each optional:

    lower_is_better  [metrics] of bool: which metrics fall as a model improves
    metric_task      [metrics]: the task of each metric, counted from 0
    task_unit        [tasks]: the unit of each task, counted from 0

Every function raises `ArgumentError` for a shape or a value that cannot be right and `DataError`
for scores that cannot carry weights.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _lib
from ._arguments import (
    Temperature,
    low_and_high,
    one_temperature,
    temperature_or_zero,
    three_alphas,
)
from ._errors import ArgumentError

Vector = NDArray[np.float64]


class Balance(NamedTuple):
    """What `balance_weights` found.

    Attributes:
        weights: [N], summing to N.
        components: [3, N]: the weightings by outward, inward and difficulty, each summing to N.
        temperature: the T that was used.
    """

    weights: Vector
    components: Vector
    temperature: float


class ContributionMeans(NamedTuple):
    """Mean contribution of each unit to the others, and of the others to it; both [N]."""

    outward: Vector
    inward: Vector


class ImprovementSummary(NamedTuple):
    """dI and dE, in percent."""

    delta_improvement: float
    delta_error: float


def contribution(
    trained: ArrayLike,
    baseline: ArrayLike,
    *,
    lower_is_better: ArrayLike | None = None,
    metric_task: ArrayLike | None = None,
    task_unit: ArrayLike | None = None,
    allow_negative_denominator: bool = False,
) -> Vector:
    """Contribution C[i -> j] of unit i to unit j (Eq. 3; Eq. 10 with the simple form's scores).

    Args:
        trained: [N, metrics]; trained[i, m] is metric m after training on unit i. Eq. 3: i + mini;
            Eq. 10: i alone.
        baseline: [metrics], without that training. Eq. 3: mini; Eq. 10: the base model.
        lower_is_better: see the module.
        metric_task: see the module.
        task_unit: see the module.
        allow_negative_denominator: let a unit through that its own training made worse, although
            every contribution to it then changes its sign.

    Returns:
        [N, N] with diagonal 1. Metrics are averaged within a task, then tasks within a unit, after
        each was normalised.
    """
    scores = _array("trained", trained, 2)
    before = _array("baseline", baseline, 1, length=scores.shape[1])
    units = scores.shape[0]
    layout, _alive = _layout(units, len(before), lower_is_better, metric_task, task_unit)
    flags = _lib.ALLOW_NEGATIVE_DENOMINATOR if allow_negative_denominator else 0
    result = np.empty((units, units))
    _lib.check(
        _lib.library().visatb_contribution(
            ctypes.byref(layout), _doubles(scores), _doubles(before), flags, _doubles(result)
        )
    )
    return result


def contribution_means(contribution: ArrayLike) -> ContributionMeans:
    """Outward (Eq. 4) and inward (Eq. 5) contribution: means over the other units.

    Args:
        contribution: [N, N], C[i -> j], N >= 2; the diagonal is not read.

    Returns:
        outward [N], the mean over j != i of C[i -> j], and inward [N], that of C[j -> i]. Their
        sums are equal.
    """
    matrix = _array("contribution", contribution, 2)
    if matrix.shape[0] != matrix.shape[1]:
        raise ArgumentError(f"contribution has shape {matrix.shape}; expected a square")
    outward, inward = np.empty(len(matrix)), np.empty(len(matrix))
    _lib.check(
        _lib.library().visatb_contribution_means(
            len(matrix), _doubles(matrix), _doubles(outward), _doubles(inward)
        )
    )
    return ContributionMeans(outward, inward)


def difficulty(
    low: ArrayLike,
    high: ArrayLike,
    *,
    lower_is_better: ArrayLike | None = None,
    metric_task: ArrayLike | None = None,
    task_unit: ArrayLike | None = None,
) -> Vector:
    """Difficulty D[i] = 1 - low / high, or 1 - high / low where lower is better (Eq. 6, 11, 12).

    Args:
        low: [metrics], all > 0: each metric after little training on its own unit. Eq. 6: mini;
            Eq. 11 and 12: the unit's mini subset alone.
        high: [metrics], all > 0: the same after much. Eq. 6: i + mini; Eq. 11 and 12: i alone.
        lower_is_better: see the module.
        metric_task: see the module.
        task_unit: see the module.

    Returns:
        [N], averaged over metrics and tasks as `contribution` is.
    """
    little = _array("low", low, 1)
    much = _array("high", high, 1, length=len(little))
    units = _number_of_units(len(little), metric_task, task_unit)
    layout, _alive = _layout(units, len(little), lower_is_better, metric_task, task_unit)
    result = np.empty(units)
    _lib.check(
        _lib.library().visatb_difficulty(
            ctypes.byref(layout), _doubles(little), _doubles(much), _doubles(result)
        )
    )
    return result


def softmax_weights(values: ArrayLike, temperature: float) -> Vector:
    """N softmax(values / T): positive weights that sum to N (the softmax of Eq. 4, 5 and 7).

    Args:
        values: [N]. Inward contribution goes in with its sign turned (Eq. 5).
        temperature: T > 0.

    Returns:
        [N].
    """
    array = _array("values", values, 1)
    result = np.empty(len(array))
    _lib.check(
        _lib.library().visatb_softmax_weights(
            len(array), _doubles(array), one_temperature(temperature), _doubles(result)
        )
    )
    return result


def balance_weights(
    outward: ArrayLike,
    inward: ArrayLike,
    difficulty: ArrayLike,
    *,
    alphas: tuple[float, float, float] = (0.25, 0.25, 0.5),
    temperature: Temperature = "auto",
    range: tuple[float, float] = (0.5, 2.0),  # noqa: A002 - what the score file calls it
) -> Balance:
    """The VisATB weights (Eq. 8).

    lambda = a_out N softmax(C_out / T) + a_in N softmax(-C_in / T) + a_D N softmax(D / T)

    Args:
        outward: [N], N >= 2.
        inward: [N].
        difficulty: [N].
        alphas: a_out, a_in, a_D: >= 0, summing to 1 within 0.02; they are scaled to exactly 1.
        temperature: T > 0, or "auto": the lowest of 4, 2, 1, 0.5, 0.25, 0.125 that keeps every
            weight within the range.
        range: the lowest and the highest weight that "auto" allows; contains 1.

    Returns:
        The weights, their three components and the temperature.
    """
    out = _array("outward", outward, 1)
    units = len(out)
    into = _array("inward", inward, 1, length=units)
    hard = _array("difficulty", difficulty, 1, length=units)
    alpha_out, alpha_in, alpha_difficulty = three_alphas(alphas)
    range_low, range_high = low_and_high(range)
    options = _lib.BalanceOptions(
        alpha_out=alpha_out,
        alpha_in=alpha_in,
        alpha_difficulty=alpha_difficulty,
        temperature=temperature_or_zero(temperature),
        range_low=range_low,
        range_high=range_high,
    )
    weights, components = np.empty(units), np.empty((3, units))
    used = ctypes.c_double()
    _lib.check(
        _lib.library().visatb_balance_weights(
            units,
            _doubles(out),
            _doubles(into),
            _doubles(hard),
            ctypes.byref(options),
            _doubles(weights),
            _doubles(components),
            ctypes.byref(used),
        )
    )
    return Balance(weights, components, used.value)


def improvement(
    scores: ArrayLike, baseline: ArrayLike, *, lower_is_better: ArrayLike | None = None
) -> float:
    """Improvement of one task over a baseline (Eq. 9, I_i), as a fraction.

    Args:
        scores: [metrics], at least one.
        baseline: [metrics], all > 0.
        lower_is_better: [metrics] of bool; without it none is.

    Returns:
        The mean over the metrics of (scores - baseline) / baseline, the sign turned where lower is
        better.
    """
    after = _array("scores", scores, 1)
    before = _array("baseline", baseline, 1, length=len(after))
    lower = None if lower_is_better is None else _booleans(lower_is_better, len(after))
    result = ctypes.c_double()
    _lib.check(
        _lib.library().visatb_improvement(
            len(after),
            _doubles(after),
            _doubles(before),
            None if lower is None else _pointer(lower, ctypes.c_uint8),
            ctypes.byref(result),
        )
    )
    return result.value


def improvement_summary(improvements: ArrayLike) -> ImprovementSummary:
    """dI = 100 mean I_i and dE = 100 mean max(0, -I_i) (Eq. 9).

    Args:
        improvements: [tasks], I_i as `improvement` gives it, at least one.

    Returns:
        Both in percent.
    """
    array = _array("improvements", improvements, 1)
    gained, lost = ctypes.c_double(), ctypes.c_double()
    _lib.check(
        _lib.library().visatb_improvement_summary(
            len(array), _doubles(array), ctypes.byref(gained), ctypes.byref(lost)
        )
    )
    return ImprovementSummary(gained.value, lost.value)


def _array(name: str, values: ArrayLike, dimensions: int, *, length: int | None = None) -> Vector:
    try:
        array = np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as reason:
        raise ArgumentError(f"{name} is not an array of numbers: {reason}") from None
    if array.ndim != dimensions:
        raise ArgumentError(
            f"{name} has shape {array.shape}; expected {dimensions} axis"
            if dimensions == 1
            else f"{name} has shape {array.shape}; expected {dimensions} axes"
        )
    if length is not None and len(array) != length:
        raise ArgumentError(f"{name} has length {len(array)}; expected {length}")
    return array


def _any_array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as reason:
        raise ArgumentError(f"{name} is not an array: {reason}") from None


def _booleans(values: ArrayLike, length: int) -> NDArray[np.uint8]:
    array = _any_array("lower_is_better", values)
    if array.dtype != np.bool_ or array.shape != (length,):
        raise ArgumentError(
            f"lower_is_better is {array.dtype} of shape {array.shape}; expected bool of "
            f"shape ({length},)"
        )
    return array.astype(np.uint8)


def _indices(name: str, values: ArrayLike, length: int | None = None) -> NDArray[np.uintp]:
    array = _any_array(name, values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array < 0).any():
        raise ArgumentError(f"{name} = {values!r}; expected a list of integers of 0 or more")
    if length is not None and len(array) != length:
        raise ArgumentError(f"{name} has length {len(array)}; expected {length}")
    return array.astype(np.uintp)


def _number_of_units(
    metrics: int, metric_task: ArrayLike | None, task_unit: ArrayLike | None
) -> int:
    if task_unit is not None:
        return _count("task_unit", task_unit)
    if metric_task is not None:
        return _count("metric_task", metric_task)
    return metrics


def _count(name: str, values: ArrayLike) -> int:
    """How many are counted from 0 without a gap, by the highest of them."""
    indices = _indices(name, values)
    if len(indices) == 0:
        raise ArgumentError(f"{name} is empty")
    highest = int(indices.max())
    if highest >= len(indices):
        raise ArgumentError(
            f"{name} has {highest} among {len(indices)}; they are counted from 0 without a gap"
        )
    return highest + 1


def _layout(
    units: int,
    metrics: int,
    lower_is_better: ArrayLike | None,
    metric_task: ArrayLike | None,
    task_unit: ArrayLike | None,
) -> tuple[_lib.Layout, tuple[object, ...]]:
    """The layout, and the arrays that must outlive it."""
    unit_of = None if task_unit is None else _indices("task_unit", task_unit)
    task_of = None if metric_task is None else _indices("metric_task", metric_task, metrics)
    lower = None if lower_is_better is None else _booleans(lower_is_better, metrics)
    tasks = units if unit_of is None else len(unit_of)
    if task_of is None and metrics != tasks:
        raise ArgumentError(
            f"{metrics} metrics of {tasks} tasks need metric_task, the task of each metric"
        )
    layout = _lib.Layout(
        units=units,
        tasks=tasks,
        metrics=metrics,
        task_unit=None if unit_of is None else _pointer(unit_of, ctypes.c_size_t),
        metric_task=None if task_of is None else _pointer(task_of, ctypes.c_size_t),
        lower_is_better=None if lower is None else _pointer(lower, ctypes.c_uint8),
    )
    return layout, (unit_of, task_of, lower)


def _pointer(
    array: NDArray[np.uintp] | NDArray[np.uint8] | Vector, kind: type[ctypes._SimpleCData[Any]]
) -> object:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _doubles(array: Vector) -> object:
    return _pointer(array, ctypes.c_double)
