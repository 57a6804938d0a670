"""The files of a report, read once and checked against each other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from visatb._arguments import file_name
from visatb._errors import DataError, FileError
from visatb._sources import Document, PathLike, read, shown
from visatb.scores import evaluation_of

from .documents import Reader, parse
from .plan_file import Plan, check_plan, read_plan
from .results_file import Results, read_results
from .scores_file import DEFAULT_RANGE, Scores, confirm, read_scores
from .weights_file import WeightsFile, read_weights_file

_SCORES = ("scores.json", "scores.csv")


class Input(NamedTuple):
    """A file that the report was made from: its name without folders, its part, its SHA-256."""

    name: str
    part: str
    sha256: str


@dataclass(frozen=True)
class Material:
    """All that a report shows.

    Attributes:
        weights: the weights file.
        scores: what it was made from, where that is there.
        plan: the plan of the runs, where there is one.
        results: the comparison after the final run, where there is one.
        inputs: the files.
        read: the same by path.
        folder: where the weights file lies.
    """

    weights: WeightsFile
    scores: Scores | None
    plan: Plan | None
    results: Results | None
    inputs: tuple[Input, ...]
    read: tuple[Path, ...]
    folder: Path

    @property
    def range(self) -> tuple[float, float]:
        """What the weights should stay in."""
        return self.scores.range if self.scores else DEFAULT_RANGE

    @property
    def warnings(self) -> list[Mapping[str, str]]:
        """Those of all files; of a plan, what the weights do not say already."""
        intervals = self.weights.intervals
        said = {warning["message"] for warning in self.weights.warnings}
        planned = self.plan.warnings if self.plan else ()
        return [
            *self.weights.warnings,
            *(intervals.warnings if intervals else ()),
            *(warning for warning in planned if warning["message"] not in said),
        ]


class _Files(NamedTuple):
    weights: Path
    scores: Path | None
    plan: Path | None
    results: Path | None


def gather(
    path: PathLike,
    *,
    results: PathLike | None = None,
    plan: PathLike | None = None,
    scores: PathLike | None = None,
) -> Material:
    """Reads a weights file and what belongs to it.

    Args:
        path: a weights file, or a folder that holds weights.json.
        results: the file of results; None: results.json beside the weights, if it is there.
        plan: the plan; None: plan.json there.
        scores: the score file; None: scores.json or scores.csv there.

    Errors: ArgumentError, FileError, DataError (a file is wrong, or does not belong to the others).
    """
    files = _find(path, results, plan, scores)
    document = read(files.weights, "weights")
    parsed = parse(document, "visatb_weights")
    inputs = [_input(document, "weights")]
    of_scores = of_plan = of_results = None
    unit_of_task: Mapping[str, str | None] | None = None
    if files.scores is not None:
        source = read(files.scores, "scores")
        of_scores = read_scores(
            source, made=str(parsed.get("scores_sha256")), weights=document.name
        )
        inputs.append(_input(source, "scores"))
        unit_of_task = _checked(of_scores.unit_of_task, parsed, document.name)
    if files.plan is not None:
        source = read(files.plan, "plan")
        of_plan = read_plan(source.name, parse(source, "visatb_plan"), parsed.get("tasks"))
        inputs.append(_input(source, "plan"))
        unit_of_task = unit_of_task or of_plan.unit_of_task
    plans = {} if of_plan is None else {of_plan.name: of_plan.identity}
    _check_one_plan(plans, document.name, parsed)
    weights = read_weights_file(document.name, parsed, unit_of_task)
    if of_scores is not None:
        of_scores = confirm(of_scores, parsed, document.name)
    if of_plan is not None:
        check_plan(of_plan, weights, of_scores)
    if files.results is not None:
        source = read(files.results, "results")
        of_results = _compared(source, weights.tasks, plans)
        inputs.append(_input(source, "results"))
    return Material(
        weights=weights,
        scores=of_scores,
        plan=of_plan,
        results=of_results,
        inputs=tuple(inputs),
        read=tuple(file for file in files if file is not None),
        folder=files.weights.parent,
    )


def _find(
    path: PathLike, results: PathLike | None, plan: PathLike | None, scores: PathLike | None
) -> _Files:
    given = Path(file_name("path", path))
    if _holds(given.is_dir):
        weights = given / "weights.json"
        if not _holds(weights.exists):
            raise FileError(
                f"{shown(str(given))}: no weights.json in this folder; "
                "`visatb weights SCORES -o weights.json` makes one"
            )
    else:
        weights = given
    beside = weights.parent
    return _Files(
        weights,
        _chosen("scores", scores, beside, _SCORES),
        _chosen("plan", plan, beside, ("plan.json",)),
        _chosen("results", results, beside, ("results.json",)),
    )


def _chosen(
    argument: str, path: PathLike | None, folder: Path, names: tuple[str, ...]
) -> Path | None:
    if path is not None:
        return Path(file_name(argument, path))
    return next((folder / name for name in names if _holds((folder / name).is_file)), None)


def _holds(question: Callable[[], bool]) -> bool:
    """The answer; no where the system gives none, which reading then tells in its words."""
    try:
        return question()
    except OSError:
        return False


def _checked(
    unit_of_task: Mapping[str, str | None], weights: Mapping[str, Any], name: str
) -> Mapping[str, str | None]:
    # Only a weights file that somebody wrote on could name other tasks than its own scores.
    if weights.get("tasks") != list(unit_of_task):
        raise DataError(f"{name}: tasks: not those of the scores that it says it was made from")
    return unit_of_task


def _check_one_plan(plans: dict[str, str], name: str, document: dict[str, Any]) -> None:
    """Refuses a file of another plan than those before it, to which it is added.

    Only what `visatb run` wrote says of which it is.
    """
    if "plan" not in document:
        return
    found = Reader(name, document).text("plan")
    for other, identity in plans.items():
        if identity != found:
            raise DataError(
                f"{name}: of another plan than {other}: the identity of its own begins with "
                f"{found[:12]}, of that one with {identity[:12]}; expected files of one",
                "plan",
            )
    plans[name] = found


def _compared(source: Document, weighed: tuple[str, ...], plans: dict[str, str]) -> Results:
    described = parse(source, "visatb_results")
    _check_one_plan(plans, source.name, described)
    return read_results(source.name, described, json.loads(evaluation_of(source)), weighed)


def _input(document: Document, part: str) -> Input:
    name = os.path.basename(document.name)  # noqa: PTH119 - a name may be no path
    return Input(name, part, hashlib.sha256(document.content).hexdigest())
