"""The error bars of a weights file, which `visatb weights` makes from scores by sample."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from visatb.intervals import leaves_out

from .documents import Reader

Interval = tuple[float | None, float | None]
_MEASURES = ("outward", "inward", "difficulty")


@dataclass(frozen=True)
class Intervals:
    """Error bars of what was measured; a bound is None where none holds.

    Attributes:
        confidence: as 0.95.
        resamples: how often the validation samples were drawn anew.
        seed: of the draws.
        refused: resamples in which a denominator was 0 or of another sign, or a score that
            difficulty divides by not above 0.
        bounds: by measure ("weight", "outward", ...) and unit.
        apart_from_one: units whose weight is told apart from 1.
        pairs_apart: pairs of units whose weights are told apart from each other.
        warnings: {"code", "path", "message"}, of intervals that do not hold.
    """

    confidence: float
    resamples: int
    seed: int
    refused: int
    bounds: Mapping[str, Mapping[str, Interval]]
    apart_from_one: frozenset[str]
    pairs_apart: int
    warnings: tuple[Mapping[str, str], ...] = ()

    def of(self, measure: str, unit: str) -> tuple[float, float] | None:
        """Low and high; None where there is no interval."""
        low, high = self.bounds[measure].get(unit, (None, None))
        return None if low is None or high is None else (low, high)


def read_intervals(
    reader: Reader, members: Mapping[str, str | None], units: list[str]
) -> Intervals:
    """The error bars of a weights file.

    Args:
        reader: the file.
        members: the unit of every task, None for one of fixed weight.
        units: their names.

    Errors: DataError.
    """
    confidence = reader.number("intervals", "confidence")
    if not 0.0 < confidence < 1.0:
        problem = f"{confidence:g}; expected a number between 0 and 1"
        reader.refuse(("intervals", "confidence"), problem)
    resamples = reader.whole("intervals", "resamples", least=1)
    refused = reader.whole("intervals", "refused")
    if refused > resamples:
        reader.refuse(("intervals", "refused"), f"{refused} of {resamples} resamples")
    bounds = {
        measure: {unit: _bounds(reader, "intervals", measure, unit) for unit in units}
        for measure in _MEASURES
    }
    weighed = {task: unit for task, unit in members.items() if unit is not None}
    by_task = {task: _bounds(reader, "intervals", "weights", task) for task in weighed}
    by_unit: dict[str, Interval] = {}
    for task, unit in weighed.items():
        if by_unit.setdefault(unit, by_task[task]) != by_task[task]:
            reader.refuse(("intervals", "weights", task), f"not that of another task of {unit}")
    return Intervals(
        confidence=confidence,
        resamples=resamples,
        seed=reader.whole("intervals", "seed"),
        refused=refused,
        bounds={"weight": by_unit, **bounds},
        apart_from_one=frozenset(weighed[task] for task in _from_one(reader, by_task)),
        pairs_apart=len(_pairs(reader, weighed, by_unit)),
        warnings=(reader.warnings("intervals") if "warnings" in reader.keys("intervals") else ()),
    )


def _from_one(reader: Reader, by_task: Mapping[str, Interval]) -> list[str]:
    """The tasks whose weight is told apart from 1, which their intervals say too."""
    path = ("intervals", "apart_from_one")
    said = [reader.text(*path, index) for index in range(len(reader.items(*path)))]
    made = [task for task, interval in by_task.items() if _leaves_out_one(interval)]
    if sorted(said) != sorted(made):
        odd = sorted(set(said) ^ set(made)) or said
        reader.refuse(path, f'the intervals of "weights" say otherwise of "{odd[0]}"')
    return made


def _leaves_out_one(interval: Interval) -> bool:
    low, high = interval
    return low is not None and high is not None and bool(leaves_out(low, high, 1.0))


def _pairs(
    reader: Reader, weighed: Mapping[str, str], by_unit: Mapping[str, Interval]
) -> set[frozenset[str]]:
    """Pairs of units, which tasks of two groups name once for each pair of theirs."""
    named: set[frozenset[str]] = set()
    for index in range(len(reader.items("intervals", "apart"))):
        path = ("intervals", "apart", index)
        if len(reader.items(*path)) > 2:
            reader.refuse(path, "expected two tasks")
        tasks = (reader.text(*path, 0), reader.text(*path, 1))
        for task in tasks:
            if task not in weighed:
                reader.refuse(path, f'no task that was weighed is called "{task}"')
            if None in by_unit[weighed[task]]:
                reader.refuse(path, f'no interval holds for the weight of "{task}"')
        if weighed[tasks[0]] == weighed[tasks[1]]:
            reader.refuse(path, "expected tasks of two units")
        if frozenset(tasks) in named:
            reader.refuse(path, "stands there twice")
        named.add(frozenset(tasks))
    pairs = {frozenset(weighed[task] for task in tasks) for tasks in named}
    _check_whole(reader, weighed, named, pairs)
    return pairs


def _check_whole(
    reader: Reader,
    weighed: Mapping[str, str],
    named: set[frozenset[str]],
    pairs: set[frozenset[str]],
) -> None:
    """Tasks of one group have one weight: all of them are apart from another's, or none is."""
    for first, second in itertools.combinations(weighed, 2):
        if frozenset((weighed[first], weighed[second])) in pairs and (
            frozenset((first, second)) not in named
        ):
            problem = f'lacks "{first}" and "{second}", whose groups are told apart'
            reader.refuse(("intervals", "apart"), problem)


def _bounds(reader: Reader, *path: str) -> Interval:
    if reader.get(*path) is None:
        return None, None
    if len(reader.items(*path)) != 2:
        reader.refuse(path, "expected two numbers: low, high")
    low, high = reader.number(*path, 0), reader.number(*path, 1)
    if low > high:
        reader.refuse(path, f"{low:g} to {high:g}; expected the lower end first")
    return low, high
