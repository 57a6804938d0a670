"""The intervals computed a second time: loops, Python's floats, straight from the formulas."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from sample_files import Key

Values = Mapping[Key, Mapping[str, float]]

_RUNS = {  # form: trained, baseline, low, high
    "full": ("with_mini:{}", "mini", "mini", "with_mini:{}"),
    "simple": ("only:{}", "base", "mini_only:{}", "only:{}"),
    "precise": ("with_mini:{}", "mini", "mini_only:{}", "only:{}"),
}


def slow_bootstrap(
    document: dict[str, Any],
    values: Values,
    *,
    form: str,
    alphas: Mapping[str, float],
    temperature: float,
    resamples: int,
    confidence: float,
    seed: int = 0,
) -> dict[str, Any]:
    """The member "intervals" without its warnings."""
    tasks = [task for task in document["tasks"] if "fixed_weight" not in task]
    streams = {task["name"]: _stream(seed, task["name"]) for task in tasks}
    measured = {key: sum(of_sample.values()) / len(of_sample) for key, of_sample in values.items()}
    drawn = []
    for _ in range(resamples):
        scores = {}
        for task in tasks:
            keys = [key for key in values if key[1] == task["name"]]
            names = sorted(values[keys[0]])
            draw = [names[k] for k in streams[task["name"]].integers(len(names), size=len(names))]
            for key in keys:
                scores[key] = math.fsum(values[key][name] for name in draw) / len(draw)
        drawn.append(_balance(tasks, form, scores, measured, alphas, temperature))
    return _intervals(tasks, drawn, confidence, seed)


def _stream(seed: int, task: str) -> np.random.Generator:
    digest = int.from_bytes(hashlib.sha256(task.encode()).digest(), "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, digest])))


def _units(tasks: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    units: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        units.setdefault(task.get("group", task["name"]), []).append(task)
    return units


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = list(values)
    return None if None in numbers else sum(numbers) / len(numbers)  # type: ignore[arg-type]


def _over(unit: list[dict[str, Any]], of: Callable[[str, dict[str, Any]], Any]) -> float | None:
    """The mean over the metrics of each task, and then over the tasks."""
    return _mean(_mean(of(task["name"], metric) for metric in task["metrics"]) for task in unit)


def _balance(
    tasks: list[dict[str, Any]],
    form: str,
    scores: Mapping[Key, float],
    measured: Mapping[Key, float],
    alphas: Mapping[str, float],
    temperature: float,
) -> dict[str, Any]:
    """One resample; None is what is refused."""
    trained, baseline, low, high = _RUNS[form]
    units = _units(tasks)

    def share(i: str, j: str) -> Callable[[str, dict[str, Any]], float | None]:
        def of(task: str, metric: dict[str, Any]) -> float | None:
            name = metric["name"]
            own, before = (trained.format(j), task, name), (baseline, task, name)
            gain = scores[own] - scores[before]
            if gain * (measured[own] - measured[before]) <= 0:
                return None
            return (scores[trained.format(i), task, name] - scores[before]) / gain

        return of

    def hard(unit: str) -> Callable[[str, dict[str, Any]], float | None]:
        def of(task: str, metric: dict[str, Any]) -> float | None:
            little = scores[low.format(unit), task, metric["name"]]
            much = scores[high.format(unit), task, metric["name"]]
            worse, better = (little, much) if metric["higher_is_better"] else (much, little)
            return None if better <= 0 else 1 - worse / better

        return of

    contribution = {
        i: {j: 1.0 if i == j else _over(units[j], share(i, j)) for j in units} for i in units
    }
    outward = {i: _mean(contribution[i][j] for j in units if j != i) for i in units}
    inward = {i: _mean(contribution[j][i] for j in units if j != i) for i in units}
    difficulty = {i: _over(units[i], hard(i)) for i in units}
    parts = ((outward, 1, alphas["out"]), (inward, -1, alphas["in"]))
    weights: dict[str, float | None] = dict.fromkeys(units, 0.0)
    for measure, sign, alpha in (*parts, (difficulty, 1, alphas["difficulty"])):
        if alpha == 0:
            continue
        if None in measure.values():
            weights = dict.fromkeys(units)
            break
        powers = {i: math.exp(sign * measure[i] / temperature) for i in units}
        for i in units:
            weights[i] += alpha * len(units) * powers[i] / sum(powers.values())
    return {
        "contribution": contribution,
        "outward": outward,
        "inward": inward,
        "difficulty": difficulty,
        "weights": weights,
    }


def _interval(values: list[float | None], confidence: float) -> list[float] | None:
    tail = (1 - confidence) / 2
    ends = []
    for refused, share in ((-math.inf, tail), (math.inf, 1 - tail)):
        ordered = sorted(refused if value is None else value for value in values)
        position = share * (len(ordered) - 1)
        below = math.floor(position)
        above = min(below + 1, len(ordered) - 1)
        if not (math.isfinite(ordered[below]) and math.isfinite(ordered[above])):
            return None
        ends.append(ordered[below] + (position - below) * (ordered[above] - ordered[below]))
    return ends


def _excludes(interval: list[float] | None, value: float) -> bool:
    return interval is not None and not interval[0] - 1e-9 <= value <= interval[1] + 1e-9


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def _intervals(
    tasks: list[dict[str, Any]], drawn: list[dict[str, Any]], confidence: float, seed: int
) -> dict[str, Any]:
    units = list(_units(tasks))
    unit_of = {task["name"]: task.get("group", task["name"]) for task in tasks}
    names = list(unit_of)

    def over(*path: str) -> list[float | None]:
        found = drawn
        for step in path:
            found = [each[step] for each in found]
        return found  # type: ignore[return-value]

    weights = {unit: _interval(over("weights", unit), confidence) for unit in units}
    return {
        "confidence": confidence,
        "resamples": len(drawn),
        "seed": seed,
        "refused": sum(_refuses(each) for each in drawn),
        "weights": {task: weights[unit_of[task]] for task in names},
        "contribution": {
            i: {j: _interval(over("contribution", i, j), confidence) for j in units} for i in units
        },
        **{
            measure: {unit: _interval(over(measure, unit), confidence) for unit in units}
            for measure in ("outward", "inward", "difficulty")
        },
        "apart_from_one": [task for task in names if _excludes(weights[unit_of[task]], 1)],
        "apart": [
            [first, second]
            for index, first in enumerate(names)
            for second in names[index + 1 :]
            if _excludes(
                _interval(
                    [
                        _difference(
                            each["weights"][unit_of[first]], each["weights"][unit_of[second]]
                        )
                        for each in drawn
                    ],
                    confidence,
                ),
                0,
            )
        ],
    }


def _refuses(resample: dict[str, Any]) -> bool:
    rows = [*resample["contribution"].values(), resample["difficulty"]]
    return any(value is None for row in rows for value in row.values())


def about(expected: Any) -> Any:
    """What equals this to 1e-12, through dicts and lists."""
    if isinstance(expected, dict):
        return {key: about(value) for key, value in expected.items()}
    if isinstance(expected, list) and expected and isinstance(expected[0], float):
        return pytest.approx(expected, rel=1e-12, abs=1e-12)
    return expected
