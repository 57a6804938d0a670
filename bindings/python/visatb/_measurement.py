"""What a form measures of a score file: which score of which run stands where in the arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .csv_scores import SINGLE_RUNS
from .intervals import Layout, Scores, Vector

# For each form the runs of trained, baseline, low and high (docs/mathematics.md).
_RUNS = {
    "full": ("with_mini", "mini", "mini", "with_mini"),
    "simple": ("only", "base", "mini_only", "only"),
    "precise": ("with_mini", "mini", "mini_only", "only"),
}

# (run, task, metric), where a run is "mini" or "with_mini:vqa".
Key = tuple[str, str, str]


class Measurement(NamedTuple):
    """The weighed units of a score file, and the runs of a form.

    Attributes:
        units: their names, in the order of their first tasks.
        metrics: (task, metric) of each weighed metric.
        layout: of units, tasks and metrics.
        runs: the kinds of runs of trained, baseline, low and high.
    """

    units: list[str]
    metrics: list[tuple[str, str]]
    layout: Layout
    runs: tuple[str, str, str, str]

    def arrays(self, score_of: Callable[[Key], float | Vector]) -> Scores:
        """The arrays made of what is asked for by key: numbers, or [B] of resamples each."""
        own = self.layout.metric_unit
        trained, baseline, low, high = self.runs

        def row(run: str, units: list[int]) -> Vector:
            return np.stack(
                [
                    np.asarray(score_of((run_name(run, self.units[unit]), *metric)))
                    for metric, unit in zip(self.metrics, units, strict=True)
                ],
                axis=-1,
            )

        return Scores(
            np.stack([row(trained, [unit] * len(own)) for unit in range(len(self.units))], axis=-2),
            row(baseline, list(own)),
            row(low, list(own)),
            row(high, list(own)),
        )

    def needed(self) -> list[Key]:
        """Every score that `arrays` asks for, once, in its order."""
        asked: dict[Key, None] = {}

        def ask(key: Key) -> float:
            asked[key] = None
            return 0.0

        self.arrays(ask)
        return list(asked)


def measurement_of(document: dict[str, Any], form: str) -> Measurement:
    """What the form measures of a score file that the library has found to be right."""
    weighed = [task for task in document["tasks"] if "fixed_weight" not in task]
    unit_of = [task.get("group", task["name"]) for task in weighed]
    units = list(dict.fromkeys(unit_of))
    metrics = [(index, metric) for index, task in enumerate(weighed) for metric in task["metrics"]]
    layout = Layout(
        np.array([not metric["higher_is_better"] for _, metric in metrics], dtype=np.bool_),
        np.array([index for index, _ in metrics], dtype=np.intp),
        np.array([units.index(unit) for unit in unit_of], dtype=np.intp),
    )
    names = [(weighed[index]["name"], metric["name"]) for index, metric in metrics]
    return Measurement(units, names, layout, _RUNS[form])


def run_name(run: str, unit: str) -> str:
    """The name of a run of that kind, as files have it."""
    return run if run in SINGLE_RUNS else f"{run}:{unit}"


def json_path(key: Key) -> tuple[str, ...]:
    """Where a score stands in the score file."""
    run, task, metric = key
    kind, colon, unit = run.partition(":")
    return ("runs", kind, *([unit] if colon else []), task, metric)


def scores_by_key(document: dict[str, Any]) -> dict[Key, float]:
    """Every score of the file, also those that no form needs."""
    return {
        (run, task, metric): float(score)
        for run, tasks in _runs(document)
        for task, metrics in tasks.items()
        for metric, score in metrics.items()
    }


def _runs(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, content in document["runs"].items():
        if kind in SINGLE_RUNS:
            yield kind, content
        else:
            for unit, tasks in content.items():
                yield run_name(kind, unit), tasks
