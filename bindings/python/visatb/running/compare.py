"""From the results of the final runs to results.json."""

from __future__ import annotations

import time
from typing import Any

from ..procedure.places import RESULTS
from ..procedure.plan import Run
from ..procedure.project import EW, STL
from ..procedure.runs import COMPARE
from .book import Book
from .results_in import score_of
from .whole import Pause, json_bytes, put, take_away, writing


def gather_results(book: Book, pause: Pause = time.sleep) -> bool:
    """Writes results.json if a baseline and another method are done; returns whether they are.

    If they no longer are, as after a run's folder was removed, what it said is removed too.

    Errors: FileError, DataError (a marker that is none); what the pause raises, as in
    `gather_weights`.
    """
    path = book.project.output / RESULTS
    with writing(book.project.output, pause):
        document = results_document(book)
        if document is None:
            take_away(path)
        else:
            put(path, json_bytes(document))
    return document is not None


def results_document(book: Book) -> dict[str, Any] | None:
    """results.json of the methods all whose runs are done; None where there is nothing to compare.

    The baseline is STL where the project has it, else EW. Zero-shot tasks are compared with EW's,
    so without EW they are left out.

    Errors: FileError, DataError.
    """
    runs: dict[str, list[Run]] = {}
    for run in book.plan.runs:
        if run.purpose == COMPARE:
            runs.setdefault(run.method, []).append(run)
    complete = {
        method: _scores(book, of)
        for method, of in runs.items()
        if all(book.has_result(run) and book.stale(run) is None for run in of)
    }
    baseline = STL if STL in runs else EW
    if baseline not in complete or len(complete) < 2:
        return None
    tasks = [
        {key: task[key] for key in ("name", "metrics", "zero_shot") if key in task}
        for task in book.plan.tasks
        if "fixed_weight" not in task and (EW in complete or "zero_shot" not in task)
    ]
    names = [task["name"] for task in tasks]
    methods = {
        method: {task: scores[task] for task in names if task in scores}
        for method, scores in complete.items()
    }
    document: dict[str, Any] = {
        "visatb_results": 1,
        "plan": book.plan.identity,
        "tasks": tasks,
        "baseline": baseline,
    }
    if any("zero_shot" in task for task in tasks):
        document["zero_shot_baseline"] = EW
    return document | {"methods": methods}


def _scores(book: Book, runs: list[Run]) -> dict[str, dict[str, float]]:
    return {
        task: {metric: score_of(value) for metric, value in metrics.items()}
        for run in runs
        for task, metrics in (book.result(run) or {}).items()
    }
