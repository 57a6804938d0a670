"""Carries out a plan: what is ready is started on what is free, until nothing is left to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from .._errors import DataError, FileError
from ..procedure.places import needs_weights
from ..procedure.plan import Run
from ..procedure.runs import MEASURE
from ..procedure.templates import placeholders
from . import locks
from .book import Book
from .compare import gather_results
from .gather import Gathered, gather_weights
from .markers import Marker, read_failure
from .order import DONE, FAILED, STOPPED, TROUBLE, Order, Outcome
from .orders import order_of
from .progress import AtWork, Paces, Progress, progress_of, steps_in
from .slots import Slot, Slots
from .stages import Stage, template_of
from .wake import Bell

# How often the stages of others, and the logs, are looked at.
_POLL_SECONDS = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Display(Protocol):
    """Tells people what happens."""

    def began(self, stage: Stage, gpus: str) -> None:
        """A stage was started here."""

    def elsewhere(self, stage: Stage, holder: dict[str, Any]) -> None:
        """A stage is at work already."""

    def ended(self, stage: Stage, seconds: float) -> None:
        """A stage is done."""

    def failed(self, stage: Stage, outcome: Outcome) -> None:
        """A stage is not done."""

    def say(self, text: str) -> None:
        """Anything else that happened."""

    def warn(self, text: str) -> None:
        """Anything else that is wrong."""

    def tick(self, progress: Progress) -> None:
        """How far it is; called about twice a second."""


@dataclass
class Report:
    """What a run of the runner came to.

    Attributes:
        done: runs that have a result.
        failed: {stage: why}, of those that were tried.
        troubles: {run: why it was not tried}.
        waiting: runs that wait for weights.
        unfinished: other runs without a result.
        stopped_by: the signal that ended it, or 0.
        left: stages that go on without it: {stage: who holds it}.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, Outcome] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    stopped_by: int = 0
    left: dict[str, dict[str, Any]] = field(default_factory=dict)


class _StoppedError(Exception):
    """Somebody ended what was waited for."""


@dataclass
class _Active:
    stage: Stage
    process: subprocess.Popen[bytes]
    gpus: str
    began: float


class Runner:
    """Does stages until all are done, or cannot be.

    Args:
        book: the plan and what is done of it.
        runs: those that are to be done.
        display: is told what happens.
    """

    def __init__(self, book: Book, runs: Sequence[Run], display: Display) -> None:
        self._book = book
        self._display = display
        self._runs = runs
        # As a plan has them: measuring first, and what is trained is scored before more is trained.
        self._stages = [stage for run in runs for stage in book.stages[run.name]]
        self._slots = Slots(book.project.output, book.project.commands)
        self._active: list[_Active] = []
        self._watched: dict[str, Stage] = {}
        self._named: set[str] = set()
        self._lost: set[str] = set()
        self._report = Report()
        self._gathered: Gathered | None = None
        self._settled: set[str] = set()
        self._paces = Paces()
        # Attempts that failed before this: the clocks of other machines tell nothing.
        failures = ((stage.label, read_failure(stage.failure)) for stage in self._stages)
        self._failed_before = {label: found[0] for label, found in failures if found}
        self._full = False
        self._has_said_full = False

    def run(self) -> Report:
        """Does all that can be done.

        Errors: FileError, DataError (a marker that is none, locks that do not work).
        """
        self._bell = Bell(_SIGNALS)
        try:
            self._loop()
            if not self._report.stopped_by:
                self._compare()
        except BaseException:
            for one in self._active:
                self._display.warn(
                    f"{one.stage.label} goes on without this (process {one.process.pid})"
                )
            raise
        finally:
            self._bell.close()
        self._conclude()
        return self._report

    def _loop(self) -> None:
        while True:
            if not self._report.stopped_by:
                self._start_ready()
            if not self._active and not (self._is_waiting and not self._report.stopped_by):
                return
            self._say_if_full()
            self._display.tick(self._progress())
            self._heed(_POLL_SECONDS)
            if self._report.stopped_by == signal.SIGHUP:
                # The terminal is gone; what was begun goes on, and a later start takes it up.
                return
            self._reap()
            self._look_at_others()

    def _heed(self, seconds: float) -> None:
        """Waits, and does what signals ask."""
        for number in self._bell.wait(seconds):
            if number == signal.SIGHUP:
                self._report.stopped_by = number
                return
            self._stop(number)

    def _pause(self, seconds: float) -> None:
        """The same while another makes files of results; a signal ends that."""
        self._heed(seconds)
        if self._report.stopped_by:
            raise _StoppedError

    @property
    def _is_waiting(self) -> bool:
        """For stages or for places that others hold."""
        return bool(self._watched) or self._full

    def _say_if_full(self) -> None:
        """Says once that what is ready waits for places that other runs of the plan hold."""
        if not self._full or self._active or self._has_said_full:
            return
        holders = [
            f"{one.get('run')}: {one.get('stage')} ({place_of(one)})"
            for one in self._slots.holders()
            if f"{one.get('run')}: {one.get('stage')}" not in self._watched
        ]
        if holders:
            self._has_said_full = True
            self._display.say(f"no place is free: at work are {', '.join(holders)}")

    def _start_ready(self) -> None:
        known = -1
        # What others did makes more ready.
        while known < len(self._settled):
            known = len(self._settled)
            self._start_once()

    def _start_once(self) -> None:
        self._full = False
        self._gather()
        if self._report.stopped_by:
            return
        for stage in self._ready():
            slot = None if self._full else self._slots.take()
            if slot is None:
                self._full = True
                self._watch_if_held(stage)
                continue
            try:
                started = self._start(stage, slot)
            except (DataError, FileError) as error:
                started = False
                self._fail(stage, Outcome(TROUBLE, str(error)))
            if not started:
                slot.release()

    def _ready(self) -> Iterator[Stage]:
        """The stages that could be started, the most urgent first; asked anew after each start."""
        for stage in self._stages:
            if stage.label in self._settled or stage.label in self._watched:
                continue
            if self._is_active(stage) or stage.run.name in self._report.troubles:
                continue
            if self._done(stage) is not None:
                self._settled.add(stage.label)
            elif stage.label in self._settled:
                continue
            elif self._has_weights(stage.run) and (stage.is_training or self._is_trained(stage)):
                yield stage

    def _done(self, stage: Stage) -> Marker | None:
        """The marker of a stage if it counts; one that cannot be read fails its stage alone."""
        try:
            return self._book.done(stage)
        except (DataError, FileError) as error:
            if stage.label not in self._report.failed:
                self._fail(stage, Outcome(TROUBLE, str(error)))
            return None

    def _is_trained(self, stage: Stage) -> bool:
        """Whether what a stage evaluates is there, and its supervisor has come to its end."""
        training = self._book.stages[stage.run.name][0]
        if training.is_training and (self._is_active(training) or self._done(training) is None):
            return False
        return stage.label not in self._settled

    def _has_weights(self, run: Run) -> bool:
        """Whether a run can have the weights that it trains with."""
        if not needs_weights(self._book.project, run):
            return True
        return self._gathered is not None and run.method not in self._gathered.refused

    def _is_active(self, stage: Stage) -> bool:
        return any(one.stage is stage for one in self._active)

    def _start(self, stage: Stage, slot: Slot) -> bool:
        """Whether it was started, and the slot is its own now."""
        lock = locks.take(stage.lock)
        if lock is None:
            self._watch(stage)
            return False
        held = [lock]
        try:
            # What another did since it was last looked at; shared file systems may have to be asked
            # for a folder's names before they see what is new in it.
            with suppress(OSError):
                os.listdir(stage.folder)  # noqa: PTH208 - asked, not used
            if self._book.done(stage) is not None:
                self._settle(stage)
                return False
            failure = read_failure(stage.failure)
            if failure is not None and failure[0] != self._failed_before.get(stage.label):
                self._fail(stage, failure[1])
                return False
            port = None
            if "port" in placeholders(template_of(self._book.project, stage)):
                port, port_lock = self._slots.take_port()
                held.append(port_lock)
            order = order_of(self._book, stage, slot, port)
            self._spawn(stage, order, [*held, *slot.locks])
            held = []
        finally:
            for one in held:
                one.release()
        return True

    def _spawn(self, stage: Stage, order: Order, held: Sequence[locks.Lock]) -> None:
        """Starts the supervisor; the locks are its own from then on."""
        text = _with_locks(order, held).to_json()
        program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("start.py"))]
        try:
            process = subprocess.Popen(  # noqa: S603 - this package itself
                program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock.descriptor for lock in held],
                start_new_session=True,
            )
        except OSError as reason:
            raise FileError(f"{program[0]}: cannot be started: {reason.strerror}") from reason
        for lock in held:
            lock.hand_over()
        assert process.stdin is not None  # noqa: S101 - for the type
        try:
            process.stdin.write(text.encode())
            process.stdin.close()
        except OSError:
            pass  # it has died, which is seen when it is waited for
        self._active.append(_Active(stage, process, order.gpus, time.time()))
        self._display.began(stage, order.gpus)

    def _reap(self) -> None:
        for one in [one for one in self._active if one.process.poll() is not None]:
            self._active.remove(one)
            outcome = _told(one.process)
            if self._done(one.stage) is not None:
                self._settle(one.stage)
            elif one.stage.label in self._settled:  # its marker cannot be read
                continue
            elif outcome is None:
                # Its command may live on, and holds the lock until it ends.
                self._lost.add(one.stage.label)
                self._watch(one.stage)
            elif outcome.kind == DONE:
                what = "its marker" if one.stage.is_training else "its training"
                why = f"{what} was removed or made anew meanwhile"
                self._fail(one.stage, Outcome(TROUBLE, why))
            elif outcome.kind != STOPPED or not self._report.stopped_by:
                self._fail(one.stage, outcome)

    def _watch(self, stage: Stage) -> None:
        self._watched[stage.label] = stage

    def _watch_if_held(self, stage: Stage) -> None:
        """Sees that a stage is at work already, also where there is no place to start another."""
        if locks.holder_of(stage.lock):
            lock = locks.take(stage.lock)
            if lock is None:
                self._watch(stage)
            else:
                lock.release()

    def _look_at_others(self) -> None:
        """Takes up what others did, or left undone."""
        for stage in list(self._watched.values()):
            lock = locks.take(stage.lock)
            if lock is None:
                # One that is held for longer than a look at it takes.
                if stage.label not in self._named:
                    self._named.add(stage.label)
                    self._display.elsewhere(stage, locks.holder_of(stage.lock))
                continue
            lock.release()
            del self._watched[stage.label]
            if self._done(stage) is not None:
                self._settle(stage)
            elif stage.label in self._lost and not self._report.stopped_by:
                self._fail(stage, Outcome(FAILED, "its supervisor was killed"))

    def _settle(self, stage: Stage) -> None:
        """A stage is done."""
        if stage.label in self._settled:
            return
        self._settled.add(stage.label)
        marker = self._done(stage)
        self._display.ended(stage, 0.0 if marker is None else marker.seconds)
        self._refuse_stale([stage.run])
        if not stage.is_measuring and self._book.has_result(stage.run):
            self._compare()

    def _compare(self) -> None:
        try:
            gather_results(self._book, self._pause)
        except _StoppedError:
            return
        except (DataError, FileError) as error:
            if self._report.troubles.get("results") != str(error):
                self._display.warn(str(error))
            self._report.troubles["results"] = str(error)
        else:
            self._report.troubles.pop("results", None)

    def _fail(self, stage: Stage, outcome: Outcome) -> None:
        self._settled.add(stage.label)
        self._report.failed[stage.label] = outcome
        self._display.failed(stage, outcome)

    def _gather(self) -> None:
        """The weights, once all that they are made from is there."""
        if self._gathered is not None or not self._book.is_measured:
            return
        try:
            self._gathered = gather_weights(self._book, self._pause)
            # What came while they were made.
            self._heed(0.0)
        except _StoppedError:
            return
        except (DataError, FileError) as error:
            refused = {run.method: str(error) for run in self._book.plan.runs}
            self._gathered = Gathered(refused=refused)
            self._report.troubles["weights"] = str(error)
            self._display.warn(str(error))
            return
        for method, why in self._gathered.refused.items():
            # Of no concern to runs that neither measure nor train with them.
            if any(run.purpose == MEASURE or run.method == method for run in self._runs):
                self._report.troubles[f"weights of {method}"] = why
            self._display.warn(f"no weights for {method}: {why}")
        for note in self._gathered.notes:
            self._display.warn(f"warning: {note}")
        self._refuse_stale(self._runs)

    def _refuse_stale(self, runs: Sequence[Run]) -> None:
        for run in runs:
            try:
                stale = None if self._gathered is None else self._book.stale(run)
            except (DataError, FileError):  # which its stages say
                continue
            if stale is not None and run.name not in self._report.troubles:
                self._report.troubles[run.name] = stale
                self._display.warn(stale)

    def _stop(self, number: int) -> None:
        """Asks the commands that were started here to end; Ctrl-C after that kills them."""
        is_first = not self._report.stopped_by
        if is_first:
            self._report.stopped_by = number
            if self._active:
                self._display.say("stopping; Ctrl-C kills at once")
        for one in self._active:
            if is_first:
                one.process.send_signal(signal.SIGTERM)
            elif number == signal.SIGINT:
                one.process.send_signal(signal.SIGINT)

    def _progress(self) -> Progress:
        now = time.time()
        at_work = [self._at_work(one.stage, one.gpus, one.began, now, "") for one in self._active]
        for stage in self._watched.values():
            holder = locks.holder_of(stage.lock)
            since = float(holder.get("since", now))
            gpus, where = str(holder.get("gpus", "")), place_of(holder)
            at_work.append(self._at_work(stage, gpus, since, now, where))
        return progress_of(self._book, self._stages, at_work, self._slots.count)

    def _at_work(self, stage: Stage, gpus: str, began: float, now: float, where: str) -> AtWork:
        steps = steps_in(stage.log, stage.run.steps) if stage.is_training else None
        pace = self._paces.of(stage, steps, now)
        return AtWork(stage, gpus, max(now - began, 0.0), steps, where, pace)

    def _conclude(self) -> None:
        report, book = self._report, self._book
        report.left = {label: locks.holder_of(stage.lock) for label, stage in self._watched.items()}
        if report.stopped_by == signal.SIGHUP:
            report.left |= {one.stage.label: {"pid": one.process.pid} for one in self._active}
        for run in self._runs:
            if run.name in report.troubles:
                continue
            if book.has_result(run):
                report.done.append(run.name)
            elif not self._has_weights(run):
                report.waiting.append(run.name)
            else:
                report.unfinished.append(run.name)


def place_of(holder: dict[str, Any]) -> str:
    """Who holds a lock, in words."""
    return (
        f"process {holder['pid']} on {holder['host']}" if {"pid", "host"} <= holder.keys() else ""
    )


def _with_locks(order: Order, held: Sequence[locks.Lock]) -> Order:
    return replace(
        order, locks=tuple((lock.descriptor, str(lock.path.absolute())) for lock in held)
    )


def _told(process: subprocess.Popen[bytes]) -> Outcome | None:
    """What a supervisor said in the end; None where it was killed before."""
    assert process.stdout is not None  # noqa: S101 - for the type
    with process.stdout as stream:
        text = stream.read()
    try:
        return Outcome.from_content(json.loads(text))
    except (ValueError, KeyError, TypeError):
        return None


def exit_code(report: Report) -> int:
    """What `visatb run` exits with."""
    if report.stopped_by:
        return 128 + report.stopped_by
    if any(outcome.kind in {FAILED, STOPPED} for outcome in report.failed.values()):
        return 5
    return 3 if report.failed or report.troubles or report.waiting or report.unfinished else 0
