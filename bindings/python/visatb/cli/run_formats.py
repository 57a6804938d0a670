"""How `visatb run` shows what is done, and what came of it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence

from visatb.procedure.places import RESULTS, WEIGHTS, needs_weights
from visatb.procedure.plan import Run
from visatb.running import locks
from visatb.running.book import Book
from visatb.running.called import called
from visatb.running.runner import Display, Report, exit_code, place_of
from visatb.running.stages import Stage

from .terminal import Column, render


def table(book: Book, runs: Sequence[Run]) -> str:
    """Every run with the state of its stages."""
    rows = [[run.name, _state(book, run)] for run in runs]
    return render([Column("run"), Column("state")], rows)


def conclude(report: Report, display: Display, book: Book) -> None:
    """Says what is done and what is not; where all is, first what was made and what is next."""
    if exit_code(report) == 0:
        for line in made(book):
            display.say(line)
    count = len(report.done)
    parts = [f"{count} {'run is' if count == 1 else 'runs are'} done"]
    if report.unfinished:
        parts.append(f"unfinished: {', '.join(report.unfinished)}")
    if report.waiting:
        parts.append(f"waiting for weights: {', '.join(report.waiting)}")
    display.say("; ".join(parts))
    for label, holder in report.left.items():
        where = place_of(holder) or f"process {holder.get('pid', 'unknown')}"
        display.say(f"{label} goes on without this ({where})")
    if report.stopped_by:
        name = signal.Signals(report.stopped_by).name
        display.say(f"ended by {name}; `visatb run` goes on from here")


def made(book: Book) -> list[str]:
    """Names the files that were made of the runs, and what draws them; nothing without weights."""
    output = book.project.output
    names = [name for name in (WEIGHTS, RESULTS) if (output / name).exists()]
    if not book.is_measured or WEIGHTS not in names:
        return []
    are, them = ("is", "it") if len(names) == 1 else ("are", "them")
    folder = called(output)
    return [
        f"{' and '.join(names)} {are} in {folder}",
        f"`visatb report {shlex.quote(folder)}` draws {them}",
    ]


def _state(book: Book, run: Run) -> str:
    """Of a run, what is done, at work and still to be done."""
    stale = book.stale(run)
    if stale is not None:
        return "was trained with other weights"
    if book.has_result(run):
        return "done"
    states = [f"{stage.name} {_state_of(book, stage)}" for stage in book.stages[run.name]]
    waits = needs_weights(book.project, run) and not book.is_measured
    return ", ".join(states) + (", waits for the weights" if waits else "")


def _state_of(book: Book, stage: Stage) -> str:
    if book.done(stage) is not None:
        return "done"
    lock = locks.take(stage.lock)
    if lock is None:
        return f"at work ({place_of(locks.holder_of(stage.lock))})"
    lock.release()
    return "failed, to be done again" if stage.failure.exists() else "to be done"
