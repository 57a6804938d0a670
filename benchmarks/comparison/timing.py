"""One case: every contestant checked, its memory measured, then all timed in rounds."""

from __future__ import annotations

import gc
import random
import resource
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from . import floors, kernel_rivals, memory, ours, torch_rivals
from .cases import Case
from .contestants import OURS, Contestant, NotRun, Run, reason_of
from .data import IGNORED, SEED, Data, make_data
from .load import Load
from .progress import Progress
from .reference import Reference

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
    page_faults: list[int] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

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
        if self.reason:
            return known | {"not_run": self.reason}
        return known | {
            "first_call_s": self.first_call,
            "errors": self.errors and dict(zip(("loss", "gradient"), self.errors, strict=True)),
            "peak_extra_bytes": self.peak_extra,
            "page_faults": self.page_faults,
            "times_s": self.times,
            **({"plan": self.details} if self.details else {}),
        }

    def drop(self, error: Exception) -> None:
        """Takes it out for an error; raises one of VisATB itself."""
        if self.contestant.group == OURS and not isinstance(error, NotRun):
            raise error
        self.reason = reason_of(error)
        self.run = None


@dataclass(frozen=True)
class Plan:
    """How often, who, and how many seconds after the data was renewed."""

    rounds: int
    only: list[str]
    rest: float


def run_case(case: Case, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The record of a case.

    Errors: WrongResult; whatever VisATB itself raises.
    """
    # Compiled code of other shapes would count towards the limit of recompilations.
    torch.compiler.reset()
    progress.show("data")
    data = make_data(case)
    entries = _entries(case, data, plan.only)
    references: dict[int, Reference] = {}
    for number, entry in enumerate(entries, 1):
        progress.show(f"check {number}/{len(entries)}: {entry.title}")
        if id(entry.data) not in references:
            references[id(entry.data)] = Reference(entry.data)
        _warm_up(entry, references[id(entry.data)])
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


def _entries(case: Case, data: Data, only: list[str]) -> list[Entry]:
    """The contestants, and again those for whom gathered rows make a difference."""
    chosen = [
        contestant
        for contestant in CONTESTANTS[case.size.form]
        if not only or any(word.lower() in contestant.name.lower() for word in only)
    ]
    entries = [Entry(contestant, data, gathered=False) for contestant in chosen]
    if case.valid < 100:
        rows = data.gathered()
        entries += [Entry(one, rows, gathered=True) for one in chosen if one.gathers]
    return entries


def _warm_up(entry: Entry, reference: Reference) -> None:
    """The first call, which is checked and may compile; the second tells the memory."""
    try:
        run = entry.contestant.make(entry.data)
        entry.data.renew()
        start = time.perf_counter()
        result = run()
        entry.first_call = time.perf_counter() - start
    except Exception as error:  # noqa: BLE001 - a rival may raise anything
        entry.drop(error)
        return
    if result is not None:
        weighted = entry.contestant.weighted
        entry.errors = reference.check(entry.title, result, weighted=weighted)
    del result
    gc.collect()
    entry.data.renew()
    try:
        entry.peak_extra = memory.peak_extra(run)
    except Exception as error:  # noqa: BLE001
        entry.drop(error)
        return
    entry.run = run
    if entry.contestant.details is not None:
        entry.details = entry.contestant.details(entry.data)


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
                    _time_once(entry, plan.rest)
                except Exception as error:  # noqa: BLE001
                    entry.drop(error)
    finally:
        gc.enable()


def _time_once(entry: Entry, rest: float) -> None:
    """One run; `rest` seconds after the data was renewed by an operation of PyTorch."""
    if entry.run is None:
        raise ValueError(f"{entry.title} does not run")
    entry.data.renew()
    rested = time.perf_counter() + rest
    # Not asleep: whoever wakes up may find both threads on one core for some milliseconds.
    while time.perf_counter() < rested:
        pass
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    start = time.perf_counter()
    result = entry.run()
    entry.times.append(time.perf_counter() - start)
    entry.page_faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
    # Its gradient is freed outside the time, by everybody's next renew().
    del result
