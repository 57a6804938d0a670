"""From the results of the measuring runs to scores.json, per_sample.jsonl and the weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._errors import ArgumentError, DataError
from ..per_sample import SampleValues, per_sample_bytes
from ..procedure.places import PER_SAMPLE, SCORES, weights_of_method
from ..procedure.plan import Plan
from ..procedure.project import VISATB, Method, Project
from ..procedure.runs import MEASURE
from ..scores import Weights, compute_weights
from .book import Book, sha256_of
from .called import near
from .markers import Scores
from .results_in import score_of
from .whole import Pause, json_bytes, put, take_away, writing

# Warnings that `visatb plan` has given already, before anything was trained.
_SAID_BY_PLAN = {"few_mini_samples", "few_large_samples", "few_steps"}

# What scores.json says of a task, of what a plan says.
_OF_A_TASK = ("name", "metrics", "group", "fixed_weight", "samples")


@dataclass
class Gathered:
    """What came of the measuring runs.

    Attributes:
        refused: {method: why there are no weights for it}.
        notes: what weakens the weights that were made now, for people; of those that were there
            already it was said when they were made, and it stands in them.
    """

    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather_weights(book: Book, pause: Pause = time.sleep) -> Gathered:
    """Writes what is made from the measuring runs, all of which must be done.

    Weights that the scores cannot carry are not written, what was there of them before is removed,
    and why is in the result.

    Errors: FileError, DataError (a marker that is none); what the pause raises, between looks at
    whether another still makes them.
    """
    project, plan = book.project, book.plan
    results = {run.name: book.result(run) or {} for run in plan.runs if run.purpose == MEASURE}
    gathered = Gathered()
    with writing(project.output, pause):
        lines = list(_per_sample(plan, results, gathered))
        if lines:
            put(project.output / PER_SAMPLE, per_sample_bytes(lines))
        else:
            take_away(project.output / PER_SAMPLE)
        document = scores_document(project, plan, results, with_samples=bool(lines))
        put(project.output / SCORES, json_bytes(document))
        _put_weights(project, gathered)
    return gathered


def scores_document(
    project: Project, plan: Plan, results: dict[str, Scores], *, with_samples: bool
) -> dict[str, Any]:
    """scores.json."""
    runs: dict[str, Any] = {}
    for name, scores in results.items():
        kind, _, unit = name.partition(":")
        plain = {task: {m: score_of(v) for m, v in of.items()} for task, of in scores.items()}
        if unit:
            runs.setdefault(kind, {})[unit] = plain
        else:
            runs[kind] = plain
    return {
        "visatb_scores": 1,
        "form": plan.form,
        "note": "made by visatb run",
        "plan": plan.identity,
        "tasks": [
            {key: task[key] for key in _OF_A_TASK if key in task}
            for task in plan.tasks
            if "zero_shot" not in task
        ],
        "runs": runs,
        **project.weights.members(),
        "sampling": _sampling(plan),
        **({"per_sample": PER_SAMPLE} if with_samples else {}),
    }


def _sampling(plan: Plan) -> dict[str, Any]:
    sampling = {key: plan.sampling[key] for key in ("large", "mini", "seed", "batch_size")}
    if plan.sampling["epochs"] != 1:
        # The library counts the steps of one pass over the data.
        del sampling["batch_size"]
    return sampling


def _per_sample(
    plan: Plan, results: dict[str, Scores], gathered: Gathered
) -> Iterator[SampleValues]:
    """Of per_sample.jsonl: the tasks whose samples are the same ones in all runs."""
    for task in [task["name"] for task in plan.tasks]:
        tables = [
            SampleValues(run, task, metric, dict(sorted(value.items())))
            for run, scores in results.items()
            for metric, value in scores.get(task, {}).items()
            if isinstance(value, dict)
        ]
        why = _unfit(tables)
        if why is None:
            yield from tables
        else:
            gathered.notes.append(f"{task}: {why}, so {PER_SAMPLE} is without it")


def _unfit(tables: Sequence[SampleValues]) -> str | None:
    """Why the file cannot have the tables of a task."""
    if len({frozenset(table.values) for table in tables}) > 1:
        return "its runs were scored on different samples"
    samples = tables[0].values if tables else {}
    if len(samples) == 1:
        return "its runs were scored on one sample"
    if not all(map(_is_text, samples)):
        return "an id of its samples has half a character (a lone surrogate)"
    return None


def _is_text(sample: str) -> bool:
    try:
        sample.encode()
    except UnicodeEncodeError:
        return False
    return True


def _put_weights(project: Project, gathered: Gathered) -> None:
    """The weights of VisATB, trained with or not, and of its variants with alphas of their own."""
    scores = near(project.output / SCORES)
    of_samples, gathered.notes = gathered.notes, []
    said: list[str] = []
    variants = {method.name: method for method in project.methods if method.kind == VISATB}
    for method in ({VISATB: Method(VISATB, VISATB)} | variants).values():
        path = weights_of_method(project, method.name)
        try:
            expected = compute_weights(scores, alphas=method.alphas, intervals=False)
            is_current = _is_current(path, scores, expected)
            if not is_current:
                made = compute_weights(scores, alphas=method.alphas)
                put(path, made.to_json().encode())
        except (DataError, ArgumentError) as error:
            gathered.refused[method.name] = str(error)
            take_away(path)
            continue
        notes = of_samples + [
            f"{scores}: {warning['path']}: {warning['message']}"
            for warning in expected.data["warnings"]
            if warning["code"] not in _SAID_BY_PLAN
        ]
        (said if is_current else gathered.notes).extend(notes)
    gathered.notes = [note for note in dict.fromkeys(gathered.notes) if note not in said]


def _is_current(path: Path, scores: Path, expected: Weights) -> bool:
    """Whether weights are there that were made from these scores, with these settings.

    They stay as they are: on another machine the last digit may come out otherwise, and runs would
    be told that they were trained with other weights.
    """
    try:
        data = json.loads(path.read_bytes())
        of_samples = data.get("per_sample_sha256", "")
        if of_samples != sha256_of(scores.with_name(PER_SAMPLE)):
            return False
        if data["scores_sha256"] != sha256_of(scores):
            return False
        return _is_close(data["temperature"], expected.temperature) and all(
            data[key].keys() == expected.data[key].keys()
            and all(_is_close(data[key][name], value) for name, value in expected.data[key].items())
            for key in ("alphas", "weights")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
