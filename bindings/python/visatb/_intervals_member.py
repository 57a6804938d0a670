"""The member "intervals" of weights.json, from a score file and its scores by sample."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ._json_path import spell
from ._measurement import Key, Measurement, json_path, run_name
from ._samples import TaskSamples
from .intervals import (
    Mask,
    Mix,
    Resamples,
    Scores,
    Vector,
    apart_from,
    apart_in_pairs,
    generator_of,
    percentile_interval,
    resample_balance,
    resampled_means,
)

# Told how much of the work is done, from 0 to 1.
Progress = Callable[[float], None]

_MEASURES = ("outward", "inward", "difficulty")


class Options(NamedTuple):
    """How intervals are made: docs/mathematics.md."""

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


def intervals_member(
    measurement: Measurement,
    scores: dict[Key, float],
    samples: dict[str, TaskSamples],
    weights: dict[str, Any],
    units_of_tasks: Mapping[str, str | None],
    options: Options,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The member, with the warnings that belong to it.

    Args:
        measurement: what the form measures.
        scores: those of the score file.
        samples: values of every key that the measurement needs.
        weights: weights.json, parsed: its temperature and alphas are kept.
        units_of_tasks: for each task its unit; None: of fixed weight.
        options: how many resamples, how sure, which draws.
        progress: for a bar.
    """
    tell = progress or (lambda _: None)
    means = _resampled(measurement, samples, options, lambda part: tell(0.5 * part))
    alphas = weights["alphas"]
    mix = Mix((alphas["out"], alphas["in"], alphas["difficulty"]), weights["temperature"])
    measured = measurement.arrays(scores.__getitem__)
    result = resample_balance(
        measured,
        measurement.arrays(means.__getitem__),
        measurement.layout,
        mix,
        progress=lambda done: tell(0.5 + 0.5 * done / options.resamples),
    )
    refused = (result.denominator_refused | result.divisor_refused).any(axis=1)
    weighed = {task: unit for task, unit in units_of_tasks.items() if unit is not None}
    intervals = {
        "confidence": float(options.confidence),
        "resamples": int(options.resamples),
        "seed": int(options.seed),
        "refused": int(refused.sum()),
        **_ends(measurement.units, weighed, result, options.confidence),
        **_told_apart(measurement.units, weighed, result.weights, options.confidence),
    }
    warnings = list(_warnings(measurement, measured, result, intervals))
    return {**intervals, "warnings": warnings}


def with_member(text: str, name: str, value: Any) -> str:
    """The text of weights.json with a member behind its others, which stay to the byte."""
    whole, brace, end = text.rpartition("\n}")
    member = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    return f'{whole},\n  "{name}": {member}{brace}{end}'


def _resampled(
    measurement: Measurement,
    samples: dict[str, TaskSamples],
    options: Options,
    progress: Progress,
) -> dict[Key, Vector]:
    """[B] means of every score that is needed."""
    by_task: dict[str, list[Key]] = {}
    for key in measurement.needed():
        by_task.setdefault(key[1], []).append(key)
    means: dict[Key, Vector] = {}
    for done, (task, keys) in enumerate(by_task.items()):
        progress(done / len(by_task))
        values = np.stack([samples[task].columns[key] for key in keys], axis=-1)
        drawn = resampled_means(values, options.resamples, generator_of(options.seed, task))
        means.update(zip(keys, drawn.T, strict=True))
    return means


def _ends(
    units: list[str], weighed: dict[str, str], result: Resamples, confidence: float
) -> dict[str, Any]:
    """{unit: [low, high]} of everything; weights by task; None where there is no interval."""

    def by_unit(values: Vector) -> dict[str, list[float] | None]:
        ends = percentile_interval(values, confidence).T.tolist()
        return {unit: _pair(pair) for unit, pair in zip(units, ends, strict=True)}

    of_weights = by_unit(result.weights)
    return {
        "weights": {task: of_weights[unit] for task, unit in weighed.items()},
        "contribution": {
            unit: by_unit(result.contribution[:, index]) for index, unit in enumerate(units)
        },
        **{name: by_unit(getattr(result, name)) for name in _MEASURES},
    }


def _pair(ends: list[float]) -> list[float] | None:
    return None if math.isnan(ends[0]) else ends


def _told_apart(
    units: list[str], weighed: dict[str, str], weights: Vector, confidence: float
) -> dict[str, Any]:
    """Tasks whose weight is not 1, and pairs of tasks whose weights differ."""
    from_one = dict(zip(units, apart_from(weights, 1.0, confidence).tolist(), strict=True))
    pairs = apart_in_pairs(weights, confidence)
    pairs |= pairs.T
    number = {unit: index for index, unit in enumerate(units)}
    tasks = list(weighed)
    return {
        "apart_from_one": [task for task in tasks if from_one[weighed[task]]],
        "apart": [
            [first, second]
            for index, first in enumerate(tasks)
            for second in tasks[index + 1 :]
            if pairs[number[weighed[first]], number[weighed[second]]]
        ],
    }


def _warnings(
    measurement: Measurement, measured: Scores, result: Resamples, intervals: dict[str, Any]
) -> Iterator[dict[str, str]]:
    """What of the intervals could not be made, and which task is the cause."""
    total = intervals["resamples"]
    trained, _, low, high = measurement.runs
    named = False
    for index, unit in enumerate(measurement.units):
        of_unit = measurement.layout.metric_unit == index
        other = measurement.units[index - 1]
        if intervals["contribution"][other][unit] is None:
            named = True
            metric = _worst(result.denominator_refused, of_unit)
            gain = measured.trained[index, metric] - measured.baseline[metric]
            worse = (gain < 0.0) != bool(measurement.layout.lower_is_better[metric])
            yield _warning(
                "denominator_near_zero",
                (run_name(trained, unit), *measurement.metrics[metric]),
                f"in {_count(result.denominator_refused, of_unit)} of {total} resamples training "
                f"on {unit} did not make {unit} {'worse' if worse else 'better'}: its denominators "
                f"are not told from 0, so no interval holds for contributions to {unit} and what "
                "is made from them",
            )
        if intervals["difficulty"][unit] is None:
            named = True
            metric = _worst(result.divisor_refused, of_unit)
            run = low if measurement.layout.lower_is_better[metric] else high
            yield _warning(
                "divisor_near_zero",
                (run_name(run, unit), *measurement.metrics[metric]),
                f"in {_count(result.divisor_refused, of_unit)} of {total} resamples the score is "
                f"not above 0, and difficulty divides by it: no interval holds for the difficulty "
                f"of {unit} and what is made from it",
            )
    if not named and None in [*intervals["outward"].values(), *intervals["weights"].values()]:
        yield _of_all_together(measurement, result, intervals)


def _of_all_together(
    measurement: Measurement, result: Resamples, intervals: dict[str, Any]
) -> dict[str, str]:
    """Few of each unit, but too many of all units for what is made from all."""
    refused = result.denominator_refused | result.divisor_refused
    counts = {
        unit: _count(refused, measurement.layout.metric_unit == index)
        for index, unit in enumerate(measurement.units)
    }
    each = ", ".join(f"{unit} {count}" for unit, count in counts.items() if count)
    what = "the weights" if None in intervals["weights"].values() else "some outward contributions"
    path = f"intervals.{'weights' if what == 'the weights' else 'outward'}"
    return {
        "code": "denominators_near_zero",
        "path": path,
        "message": f"in {intervals['refused']} of {intervals['resamples']} resamples a denominator "
        f"is not told from 0 ({each}): no interval holds for {what}",
    }


def _count(refused: Mask, metrics: Mask) -> int:
    return int(refused[:, metrics].any(axis=1).sum())


def _worst(refused: Mask, metrics: Mask) -> int:
    """The metric among those that is refused most often."""
    return int(np.where(metrics, refused.sum(axis=0), -1).argmax())


def _warning(code: str, key: Key, message: str) -> dict[str, str]:
    return {"code": code, "path": spell(json_path(key)), "message": message}


def first_missing(needed: Iterable[Key], samples: dict[str, TaskSamples]) -> Key | None:
    """The first score that is needed and has no values."""
    for key in needed:
        if key[1] not in samples or key not in samples[key[1]].columns:
            return key
    return None
