"""Results that were made elsewhere: checked as those made here are, and recorded."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import ExitStack
from pathlib import Path

from .._errors import DataError, FileError, cut
from ..procedure.places import needs_weights, weights_file
from ..procedure.plan import Run
from . import locks
from .answers import score_folder
from .book import Book, sha256_of
from .called import called
from .markers import Marker, Scores
from .needed import check_needed
from .order import Check
from .orders import check_of, check_stages, needed_by
from .results_in import check_ids, check_scores, read_scores
from .stages import metrics_of, taken, template_of


def take(book: Book, name: str, file: Path | None) -> bool:
    """Takes in the result of a run.

    Args:
        book: what is done.
        name: the run's.
        file: its scores, as an evaluation writes them; None: what its evaluations wrote in its
            own folder.

    Returns:
        Whether it is new; an equal one may be there already.

    Errors: FileError, UnsupportedError (what a metric needs), DataError (no such run; what a file
    says; another result is there; the run is at work; it was trained with other weights than there
    are; its evaluation failed, or is of an earlier training).
    """
    run = book.plan.run(name)
    stage = taken(book.project, run)
    with ExitStack() as held:
        for one in (stage, *book.stages[name]):
            lock = locks.take(one.lock)
            if lock is None:
                raise DataError(f"{one.label} is at work; its result cannot be taken in")
            held.callback(lock.release)
        stale = book.stale(run)
        if stale is not None:
            raise DataError(stale)
        for one in book.stages[name]:
            if one.evaluation is not None:
                check_needed(needed_by(book.project, book.plan, run, one.evaluation))
        scores = _in_file(book, run, file) if file is not None else _in_folder(book, run)
        there = book.result(run)
        if there is not None:
            if there == {task: scores[task] for task in run.scores}:
                return False
            folder = called(book.project.output / run.folder)
            raise DataError(
                f"{name}: has another result already; expected {folder} to be removed first"
            )
        now = time.time()
        try:
            stage.folder.mkdir(parents=True, exist_ok=True)
        except OSError as reason:
            place = called(stage.folder)
            raise FileError(f"{place}: cannot be written: {reason.strerror}") from reason
        Marker(
            plan=book.plan.identity,
            run=name,
            stage=stage.name,
            attempt=secrets.token_hex(8),
            command="",
            host=os.uname().nodename,
            began=now,
            ended=now,
            weights=_weights(book, run),
            scores=scores,
        ).save(stage.marker)
    return True


def _in_file(book: Book, run: Run, file: Path) -> Scores:
    try:
        file.stat()
    except OSError as reason:
        raise FileError(f"{cut(called(file), 200)}: {reason.strerror}") from reason
    metrics = metrics_of(book.plan)
    asked = {task: metrics[task] for task in run.scores}
    scores = read_scores(file, book.plan.identity, run.name, asked)
    for stage in book.stages[run.name]:
        if stage.evaluation is not None:
            check = check_of(book.project, book.plan, run, stage.evaluation)
            _check_ids(scores, file, check)
    return scores


def _check_ids(scores: Scores, path: Path, check: Check) -> None:
    check_ids(scores, called(path), {task: Path(ids) for task, ids in check.ids.items()})


def _in_folder(book: Book, run: Run) -> Scores:
    _check_whole(book, run)
    scores: Scores = {}
    for stage in book.stages[run.name]:
        if stage.evaluation is None:
            continue
        check = check_of(book.project, book.plan, run, stage.evaluation)
        path = Path(check.path)
        if check.kind == "scores":
            found = read_scores(path, book.plan.identity, run.name, check.asked)
        else:
            found, _ = score_folder(path, check.asked, check.references)
            check_scores(found, called(path), check.asked)
        _check_ids(found, path, check)
        scores |= found
    return scores


def _check_whole(book: Book, run: Run) -> None:
    """Refuses what a failed command left, and commands whose answers cannot be scored."""
    for stage in book.stages[run.name]:
        if not template_of(book.project, stage) and not stage.is_training:
            raise DataError(
                f"{book.project.file}: has no command that evaluates {run.name}; expected one, or "
                f"--take {run.name}=FILE"
            )
        if stage.failure.exists():
            what, left = "failed here", stage.failure
        elif book.marker(stage) is not None and book.done(stage) is None:
            what, left = (
                "was of an earlier training, or other tasks",
                stage.marker,
            )
        else:
            continue
        raise DataError(
            f"{stage.label}: {what}; where what it wrote was made anew since, expected "
            f"{called(left)} to be removed"
        )
    check_stages(book, [run])


def _weights(book: Book, run: Run) -> str:
    """The hash of the weights that it was trained with here, or else must have been."""
    if not needs_weights(book.project, run):
        return ""
    training = book.marker(book.stages[run.name][0])
    if training is not None:
        return training.weights
    path = weights_file(book.project, run)
    digest = sha256_of(path)
    if not digest:
        raise DataError(
            f"{run.name}: {called(path)} is not there yet, so nothing was trained with it"
        )
    return digest
