"""The error bars of a weights file, which `visatb weights` makes from scores by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        refused: resamples in which a denominator was 0 or of another sign.
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
    bounds = {
        measure: {unit: _bounds(reader, "intervals", measure, unit) for unit in units}
        for measure in _MEASURES
    }
    by_task = {
        unit: _bounds(reader, "intervals", "weights", task)
        for task, unit in members.items()
        if unit is not None
    }
    apart = reader.items("intervals", "apart_from_one")
    return Intervals(
        confidence=reader.number("intervals", "confidence"),
        resamples=int(reader.number("intervals", "resamples")),
        seed=int(reader.number("intervals", "seed")),
        refused=int(reader.number("intervals", "refused")),
        bounds={"weight": by_task, **bounds},
        apart_from_one=frozenset(unit for task, unit in members.items() if unit and task in apart),
        pairs_apart=len(_pairs(reader, members)),
        warnings=(reader.warnings("intervals") if "warnings" in reader.keys("intervals") else ()),
    )


def _pairs(reader: Reader, members: Mapping[str, str | None]) -> set[frozenset[str | None]]:
    """Pairs of units, which tasks of two groups name several times."""
    pairs = set()
    for index in range(len(reader.items("intervals", "apart"))):
        path = ("intervals", "apart", index)
        tasks = (reader.text(*path, 0), reader.text(*path, 1))
        for task in tasks:
            if task not in members:
                reader.refuse(path, f'no task is called "{task}"')
        pairs.add(frozenset(members[task] for task in tasks))
    return pairs


def _bounds(reader: Reader, *path: str) -> Interval:
    if reader.get(*path) is None:
        return None, None
    found = reader.items(*path)
    if len(found) != 2:
        reader.refuse(path, "expected two numbers: low, high")
    low, high = (None if found[end] is None else reader.number(*path, end) for end in (0, 1))
    return low, high
