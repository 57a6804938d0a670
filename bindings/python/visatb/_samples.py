"""The file of scores by sample, held against the score file that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, NoReturn

import numpy as np

from ._errors import DataError
from ._measurement import Key
from ._sources import PathLike, shown
from .intervals import Vector
from .per_sample import SampleValues, lines_of, place_of

# How far a score may stand from the mean of its values: a rounding in the file, not another file.
_RELATIVE = 1e-6


class TaskSamples(NamedTuple):
    """The values of one task.

    Attributes:
        samples: their names, sorted, so that the order in the file decides nothing.
        line: the first line of the task, and its run.
        run: the same.
        columns: for each key [samples] values.
    """

    samples: list[str]
    line: int
    run: str
    columns: dict[Key, Vector]


def read_samples(
    path: PathLike,
    scores: Mapping[Key, float],
    scores_name: str,
    tasks: Iterable[str],
    note: Callable[[bytes], object],
) -> dict[str, TaskSamples]:
    """The values of every task.

    Args:
        path: the file of scores by sample.
        scores: those of the score file.
        scores_name: how messages call it.
        tasks: the names of its tasks.
        note: is given all that is read.

    Errors: FileError, DataError (a line that is wrong, or of another score file).
    """
    reader = _Reader(shown(str(path)), scores, scores_name, tasks)
    for number, line in lines_of(path, note):
        reader.add(number, line)
    return reader.found


class _Reader:
    def __init__(
        self, name: str, scores: Mapping[Key, float], scores_name: str, tasks: Iterable[str]
    ) -> None:
        self.name, self.scores, self.scores_name = name, scores, scores_name
        self.tasks = set(tasks)
        self.runs = {run for run, _, _ in scores}
        self.found: dict[str, TaskSamples] = {}

    def add(self, number: int, line: SampleValues) -> None:
        key = line[:3]
        self._check_key(number, key)
        values = line.values
        if len(values) < 2:
            self._fail(number, "values: one sample; a resample is drawn from two or more")
        known = self.found.get(line.task)
        if known is None:
            known = TaskSamples(sorted(values), number, line.run, {})
            self.found[line.task] = known
        self._check_samples(number, line.task, values, known)
        column = np.array([values[sample] for sample in known.samples], dtype=np.float64)
        self._check_mean(number, key, column)
        known.columns[key] = column

    def _check_key(self, number: int, key: Key) -> None:
        run, task, metric = key
        if key in self.scores:
            return
        if run not in self.runs:
            self._fail(number, f"unknown run {run}; {self.scores_name} has no scores of it")
        if task not in self.tasks:
            self._fail(number, f"unknown task {task}; it is not in {self.scores_name}")
        if not any(key[1:] == (task, metric) for key in self.scores):
            self._fail(number, f"unknown metric {metric} of task {task}")
        self._fail(number, f"{self.scores_name} has no score of {place_of(*key)}")

    def _check_samples(
        self, number: int, task: str, values: Mapping[str, float], known: TaskSamples
    ) -> None:
        for sample in known.samples:
            if sample not in values:
                self._fail(
                    number,
                    f"values: {sample} is missing, which line {known.line} (run {known.run}) has; "
                    f"the runs of {task} need the same samples",
                )
        if len(values) > len(known.samples):
            added = next(sample for sample in values if sample not in set(known.samples))
            self._fail(
                number,
                f"values: {added} is not in line {known.line} (run {known.run}); the runs of "
                f"{task} need the same samples",
            )

    def _check_mean(self, number: int, key: Key, column: Vector) -> None:
        score, mean = self.scores[key], math.fsum(column) / len(column)
        # Values of both signs may cancel down to their own rounding.
        rounding = 1e-12 * float(np.abs(column).max())
        if abs(score - mean) > _RELATIVE * max(abs(score), abs(mean)) + rounding:
            self._fail(
                number,
                f"{place_of(*key)}: {self.scores_name} says {score:.10g}, the mean of its "
                f"{len(column)} values is {mean:.10g}: values of another file",
            )

    def _fail(self, number: int, what: str) -> NoReturn:
        raise DataError(f"{self.name}: line {number}: {what}", f"line {number}")
