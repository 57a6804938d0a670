"""One case: every contestant checked, its memory measured, then all timed in rounds."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from . import floors, kernel_rivals, ours, torch_rivals
from .cases import Case
from .contestants import OURS, Contestant, NotRun, Result, Run, reason_of
from .data import IGNORED, SEED, Data, make_data
from .load import Load
from .progress import Progress
from .reference import Reference, WrongResult, kind_of
from .stopwatch import CpuStopwatch, Stopwatch

OUT_OF_TIME = "the time was up"
CONTESTANTS = {
    "logits": (*ours.LOGITS, *torch_rivals.LOGITS, *kernel_rivals.LOGITS, *floors.LOGITS),
    "linear": (*ours.HIDDEN, *torch_rivals.HIDDEN, *kernel_rivals.HIDDEN, *floors.HIDDEN),
}


@dataclass
class Entry:
    """A contestant on its data, and what was measured of it."""

    contestant: Contestant
    data: Data
    gathered: bool
    run: Run | None = None
    reason: str = ""
    first_call: float = 0.0
    errors: tuple[float, float] | None = None
    peak_extra: int | None = None
    times: list[float] = field(default_factory=list)
    counted: dict[str, list[int]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    wrong: str = ""

    @property
    def title(self) -> str:
        """What progress calls it."""
        name = f"{self.contestant.name} ({self.contestant.what})"
        return f"{name}, gathered rows" if self.gathered else name

    def record(self) -> dict[str, Any]:
        """For the result file."""
        known = {
            "name": self.contestant.name,
            "what": self.contestant.what,
            "group": self.contestant.group,
            "weighted": self.contestant.weighted,
            "gathered": self.gathered,
        }
        wrong = {"wrong": self.wrong} if self.wrong else {}
        if self.reason:
            return known | {"not_run": self.reason} | wrong
        return known | {
            "first_call_s": self.first_call,
            "errors": self.errors and dict(zip(("loss", "gradient"), self.errors, strict=True)),
            "peak_extra_bytes": self.peak_extra,
            **self.counted,
            "times_s": self.times,
            **({"plan": self.details} if self.details else {}),
            **wrong,
        }

    def drop(self, error: Exception, *, strict: bool) -> None:
        """Takes it out for an error; where that is strict, raises one of VisATB itself."""
        is_ours = self.contestant.group == OURS and not isinstance(error, NotRun)
        if strict and is_ours:
            raise error
        self.reason = reason_of(error)
        self.wrong = self.wrong or (self.reason if is_ours else "")
        self.run = None


@dataclass(frozen=True)
class Bench:
    """Where it is timed, who takes part in which form, and how.

    Attributes:
        strict: whether a wrong result, or an error of VisATB itself, ends the run. Else it is
            recorded: a machine that is lent for minutes shall tell what else there is.
    """

    device: str
    contestants: Mapping[str, tuple[Contestant, ...]]
    stopwatch: Stopwatch
    strict: bool = True


class BrokenDevice(Exception):  # noqa: N818 - It says what it is.
    """A device that computes nothing any more, and who left it so."""

    def __init__(self, name: str, group: str, error: Exception) -> None:
        super().__init__(f"{name}: {reason_of(error)}")
        self.group = group


def require_working(bench: Bench, name: str, group: str, error: Exception) -> None:
    """After an error: most leave a GPU as it was, but after some every later call fails too.

    Errors: BrokenDevice, for whatever is run then would be blamed for what it never did.
    """
    try:
        bench.stopwatch.wait()
    except Exception as broken:
        raise BrokenDevice(name, group, error) from broken


def free_memory(bench: Bench) -> None:
    """Gives back what was freed, for blocks kept in other sizes are no use to what comes next."""
    gc.collect()
    if bench.device == "cuda":
        torch.cuda.empty_cache()


CPU = Bench("cpu", CONTESTANTS, CpuStopwatch())


@dataclass(frozen=True)
class Plan:
    """How often, who, and how many seconds after the data was renewed.

    Attributes:
        deadline: of the monotonic clock, after which nothing new is begun.
    """

    rounds: int
    only: list[str]
    rest: float
    bench: Bench = CPU
    deadline: float = math.inf


def run_case(case: Case, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The record of a case.

    Errors: BrokenDevice; where that is strict, WrongResult and whatever VisATB itself raises.
    """
    # Compiled code of other shapes would count towards the limit of recompilations. On a GPU that
    # limit is lifted, for compiling takes longer than all the rest.
    if plan.bench.device == "cpu":
        torch.compiler.reset()
    free_memory(plan.bench)
    progress.show("data")
    data = make_data(case, plan.bench.device)
    entries = _entries(case, data, plan)
    references: dict[int, Reference] = {}
    for number, entry in enumerate(entries, 1):
        progress.show(f"check {number}/{len(entries)}: {entry.title}")
        if time.monotonic() > plan.deadline:
            entry.reason = OUT_OF_TIME
            continue
        if id(entry.data) not in references:
            references[id(entry.data)] = Reference(entry.data)
        _warm_up(entry, references[id(entry.data)], plan.bench)
    references.clear()
    before = Load.now()
    _rounds([entry for entry in entries if entry.run is not None], plan, progress)
    disturbance = Load.now().others_since(before)
    return {
        "form": case.size.form,
        "rows": case.size.rows,
        "vocab": case.size.vocab,
        "hidden": case.size.hidden,
        "dtype": case.dtype,
        "valid_percent": case.valid,
        "valid_rows": int((data.labels != IGNORED).sum()),
        "input_bytes": data.inputs[0].nbytes,
        "cores_others_used": disturbance,
        "contestants": [entry.record() for entry in entries],
    }


def _entries(case: Case, data: Data, plan: Plan) -> list[Entry]:
    """The contestants, and again those for whom gathered rows make a difference."""
    chosen = [
        contestant
        for contestant in plan.bench.contestants[case.size.form]
        if not plan.only or any(word.lower() in contestant.name.lower() for word in plan.only)
    ]
    entries = [Entry(contestant, data, gathered=False) for contestant in chosen]
    if case.valid < 100:
        rows = data.gathered()
        entries += [Entry(one, rows, gathered=True) for one in chosen if one.gathers]
    return entries


def _warm_up(entry: Entry, reference: Reference, bench: Bench) -> None:
    """Readies an entry for its rounds, or drops it."""
    try:
        entry.run = _first_calls(entry, reference, bench)
    except WrongResult:
        raise
    except Exception as error:  # noqa: BLE001 - a rival may raise anything
        _drop(entry, error, bench)


def _first_calls(entry: Entry, reference: Reference, bench: Bench) -> Run:
    """The first call, which is checked and may compile; the second tells the memory."""
    run = entry.contestant.make(entry.data)
    entry.data.renew()
    bench.stopwatch.wait()
    start = time.perf_counter()
    result = run()
    bench.stopwatch.wait()
    entry.first_call = time.perf_counter() - start
    if result is not None:
        _check(entry, result, reference, strict=bench.strict)
    del result
    gc.collect()
    entry.data.renew()
    entry.peak_extra = bench.stopwatch.peak_extra(run)
    if entry.contestant.details is not None:
        entry.details = entry.contestant.details(entry.data)
    return run


def _drop(entry: Entry, error: Exception, bench: Bench) -> None:
    entry.drop(error, strict=bench.strict)
    require_working(bench, entry.title, entry.contestant.group, error)


def _check(entry: Entry, result: Result, reference: Reference, *, strict: bool) -> None:
    try:
        entry.errors = reference.check(entry.title, result, kind_of(entry.contestant))
    except WrongResult as wrong:
        if strict:
            raise
        entry.wrong = str(wrong)


def _rounds(entries: list[Entry], plan: Plan, progress: Progress) -> None:
    """Every contestant once a round, so that a slow minute of the machine hits all of them.

    In another order each time, so that none has always the same one before it.
    """
    shuffler = random.Random(SEED)  # noqa: S311
    gc.collect()
    gc.disable()
    try:
        for number in range(plan.rounds):
            running = [entry for entry in entries if entry.run is not None]
            for entry in shuffler.sample(running, len(running)):
                progress.show(f"round {number + 1}/{plan.rounds}: {entry.title}")
                try:
                    _time_once(entry, plan)
                except Exception as error:  # noqa: BLE001
                    _drop(entry, error, plan.bench)
    finally:
        gc.enable()


def _time_once(entry: Entry, plan: Plan) -> None:
    """One run; `rest` seconds after the data was renewed by an operation of PyTorch."""
    if entry.run is None:
        raise ValueError(f"{entry.title} does not run")
    entry.data.renew()
    seconds, counted = plan.bench.stopwatch.time(entry.run, plan.rest)
    entry.times.append(seconds)
    for what, number in counted.items():
        entry.counted.setdefault(what, []).append(number)
