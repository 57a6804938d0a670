"""How far everything is, from markers and from the progress bars in logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .book import Book
from .stages import Stage
from .supervise import HEADER

_TAIL = 8192


@dataclass(frozen=True)
class AtWork:
    """A stage that is at work.

    Attributes:
        stage: which.
        gpus: on which; "" where none is named.
        elapsed: seconds since it began.
        steps: that it has trained, as its log says; None where it does not say so.
        where: host and process, of one that another `visatb run` began; "" else.
    """

    stage: Stage
    gpus: str
    elapsed: float
    steps: int | None
    where: str = ""


@dataclass(frozen=True)
class Progress:
    """The whole.

    Attributes:
        steps, all_steps: trained, and to be trained.
        stages, all_stages: done, and to be done.
        seconds_left: an estimate; None before anything tells.
        at_work: what is at work.
    """

    steps: int
    all_steps: int
    stages: int
    all_stages: int
    seconds_left: float | None
    at_work: tuple[AtWork, ...]


def steps_in(log: Path, total: int) -> int | None:
    """The n of the last "n/total" that this attempt wrote, as progress bars do."""
    with suppress(OSError), log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL, 0))
        text = file.read(_TAIL).decode(errors="replace")
        own = text.rpartition(HEADER)[2]
        found = re.findall(rf"(?<![\d/.])(\d+)/{total}(?![\d/.])", own)
        steps = [int(number) for number in found if int(number) <= total]
        return steps[-1] if steps else None
    return None


def progress_of(
    book: Book, stages: Iterable[Stage], at_work: Iterable[AtWork], slots: int
) -> Progress:
    """How far these stages are.

    Args:
        book: what is done.
        stages: all that is to be done.
        at_work: what is at work of them.
        slots: how many commands work at once.
    """
    stages, at_work = list(stages), tuple(at_work)
    left, speed = _Work(), _Work()
    markers = [book.done(stage) for stage in stages]
    for stage, marker in zip(stages, markers, strict=True):
        if marker is None:
            left.add(stage, stage.run.steps, 1.0)
        elif marker.command:
            speed.add(stage, stage.run.steps, 1.0, marker.seconds)
    for one in at_work:
        if one.stage.is_training and one.steps:
            speed.add(one.stage, one.steps, 0.0, one.elapsed)
            left.steps -= one.steps
        elif not one.stage.is_training:
            mean = speed.evaluating / speed.evaluations if speed.evaluations else 0.0
            left.evaluations -= min(one.elapsed / mean, 0.9) if mean else 0.0
    all_steps = sum(stage.run.steps for stage in stages if stage.is_training)
    return Progress(
        steps=all_steps - left.steps,
        all_steps=all_steps,
        stages=sum(marker is not None for marker in markers),
        all_stages=len(stages),
        seconds_left=_estimate(left, speed, slots),
        at_work=at_work,
    )


@dataclass
class _Work:
    """Steps of trainings and numbers of evaluations, and the seconds that they took."""

    steps: int = 0
    evaluations: float = 0.0
    training: float = 0.0
    evaluating: float = 0.0

    def add(self, stage: Stage, steps: int, evaluations: float, seconds: float = 0.0) -> None:
        if stage.is_training:
            self.steps += steps
            self.training += seconds
        else:
            self.evaluations += evaluations
            self.evaluating += seconds


def _estimate(left: _Work, speed: _Work, slots: int) -> float | None:
    """None where nothing tells how long a training takes."""
    if left.steps and not speed.steps:
        return None
    seconds = left.steps * speed.training / speed.steps if speed.steps else 0.0
    if speed.evaluations:
        # Evaluations whose time nobody knows yet are left out.
        seconds += left.evaluations * speed.evaluating / speed.evaluations
    return seconds / slots
