"""A stage: its parts one after the other, each within its time, and each outcome kept at once."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import command
from .machine import NotThereError
from .paths import without_paths

if TYPE_CHECKING:
    from .machine import Machine
    from .state import State

STAGE_SECONDS = 460.0
# With less left, a part is not begun.
LEAST_SECONDS = 5.0
# A test takes a core or two and seldom the GPU.
CORES_OF_A_PART, MOST_AT_ONCE = 3, 5
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
IN_PART = "passed in part"
Record = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """Where everything is."""

    root: Path
    folder: Path
    machine: Machine

    @property
    def cmake(self) -> Path:
        """Where the library is built."""
        return self.folder / "cmake"

    @property
    def library(self) -> Path:
        """The library that was built."""
        return self.cmake / "libvisatb.so"

    @property
    def logs(self) -> Path:
        """Everything that was printed."""
        return self.folder / "logs"

    def environment(self) -> dict[str, str]:
        """For Python programs: the package from the tree, with the library that was built."""
        paths = [str(self.root / "bindings/python"), str(self.folder / "site")]
        rest = os.environ.get("PYTHONPATH")
        return os.environ | {
            "PYTHONPATH": os.pathsep.join([*paths, rest] if rest else paths),
            "VISATB_LIBRARY": str(self.library),
            "PYTHONUNBUFFERED": "1",
        }


@dataclass(frozen=True)
class Part:
    """One thing that passes, fails, or is not run.

    Attributes:
        work: within so many seconds; gives its outcome, whose "status" is one of the three.
        limit: seconds at most.
        after: a part that must have passed; "" for none.
        beside: whether it may run at the same time as those next to it.
    """

    name: str
    work: Callable[[Context, float], Record]
    limit: float
    after: str = ""
    beside: bool = False


@dataclass(frozen=True)
class Stage:
    """Its parts, and the sources that it is about.

    Attributes:
        parts: found when the stage begins.
        sources: files and folders; where they changed, what was found before means nothing.
        of_gpu: whether it depends on the GPU.
        depends: what else it depends on, in words.
    """

    name: str
    parts: Callable[[Context], list[Part]]
    sources: tuple[str, ...]
    of_gpu: bool = True
    depends: Callable[[], str] = str


def passed(**more: Any) -> Record:
    """The outcome of a part that did."""
    return {"status": PASSED, **more}


def failed(reason: str, **more: Any) -> Record:
    """The outcome of one that did not."""
    return {"status": FAILED, "reason": reason, **more}


def not_run(reason: str, **more: Any) -> Record:
    """The outcome of one that could not, or was cut."""
    return {"status": NOT_RUN, "reason": reason, **more}


def status_of(parts: dict[str, Record]) -> str:
    """Of a whole stage."""
    statuses = {part["status"] for part in parts.values()}
    if FAILED in statuses:
        return FAILED
    if PASSED not in statuses:
        return NOT_RUN
    return IN_PART if NOT_RUN in statuses else PASSED


def run_stage(stage: Stage, context: Context, state: State, *, again: bool) -> None:
    """Runs what has not passed; keeps every outcome in the state."""
    done = {} if again else state.parts(stage.name)
    parts = stage.parts(context)
    todo = [part for part in parts if done.get(part.name, {}).get("status") != PASSED]
    if not todo:
        commit = (state.record(stage.name) or {}).get("commit", "unknown")
        print(f"{stage.name}: was done for these sources, commit {commit[:9]}; --again repeats it")
        return
    deadline = time.monotonic() + STAGE_SECONDS
    # Of all parts, so that a run which is killed leaves no stage that seems to be whole.
    outcomes = {part.name: done.get(part.name, not_run("not reached")) for part in parts}
    heads = {
        part.name: f"{stage.name} {number}/{len(parts)}: {part.name}"
        for number, part in enumerate(parts, 1)
    }
    for part in parts:
        if part not in todo:
            print(f"{heads[part.name]}: passed before")

    def begin(part: Part) -> Record:
        print(f"{heads[part.name]} ...", flush=True)
        before = outcomes[part.after]["status"] if part.after in outcomes else PASSED
        if before != PASSED:
            return not_run(f"{part.after}: {before}", seconds=0.0)
        return _run_part(part, context, deadline - time.monotonic())

    for part, outcome in _outcomes(todo, begin):
        if outcome["status"] != NOT_RUN or outcomes[part.name]["status"] != FAILED:
            outcomes[part.name] = outcome
        reason = f": {outcome['reason']}" if outcome.get("reason") else ""
        told = f"{outcome['status']} ({outcome['seconds']:.0f} s){reason}"
        print(f"{heads[part.name]}: {told}", flush=True)
        state.keep(stage.name, outcomes, status_of(outcomes))


def _outcomes(parts: list[Part], begin: Callable[[Part], Record]) -> Iterator[tuple[Part, Record]]:
    """Of parts in their order, but for those that may run beside each other, as they end."""
    for beside, group in itertools.groupby(parts, lambda part: part.beside):
        if beside:
            yield from _at_once(list(group), begin)
        else:
            for part in group:
                yield part, begin(part)


def _at_once(parts: list[Part], begin: Callable[[Part], Record]) -> Iterator[tuple[Part, Record]]:
    threads = min(max((os.cpu_count() or 1) // CORES_OF_A_PART, 1), MOST_AT_ONCE)
    with ThreadPoolExecutor(threads) as pool:
        futures = {pool.submit(begin, part): part for part in parts}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            command.end_all()
            raise


def _run_part(part: Part, context: Context, left: float) -> Record:
    if left < LEAST_SECONDS:
        return not_run("the stage's time was up", seconds=0.0)
    start = time.monotonic()
    try:
        outcome = part.work(context, min(part.limit, left))
    except NotThereError as error:
        outcome = not_run(str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parts after it are to run
        outcome = failed(f"{type(error).__name__}: {error}")
    seconds = round(time.monotonic() - start, 1)
    return {**without_paths(outcome, context), "seconds": seconds}
