"""How far everything is, from markers and from the progress bars in logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .._errors import DataError, FileError
from .book import Book
from .markers import Marker
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
        pace: steps, and the seconds that they took, since its first count was seen.
        where: host and process, of one that another `visatb run` began; "" else.
    """

    stage: Stage
    gpus: str
    elapsed: float
    steps: int | None
    where: str = ""
    pace: tuple[int, float] = (0, 0.0)


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
        _, header, own = text.rpartition(HEADER)
        if header:
            # Its first line is the command, which may have such numbers too.
            own = own.partition("\n")[2]
        found = re.findall(rf"(?<![\d/.])(\d+)/{total}(?![\d/.])", own)
        steps = [int(number) for number in found if int(number) <= total]
        return steps[-1] if steps else None
    return None


class Paces:
    """How fast trainings are, each since its first count was seen."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, float]] = {}

    def of(self, stage: Stage, steps: int | None, now: float) -> tuple[int, float]:
        """Steps, and the seconds that they took; (0, 0.0) before there is a second count."""
        if steps is None:
            return 0, 0.0
        first = self._first.get(stage.label)
        if first is None or steps < first[0]:  # another attempt counts anew
            first = self._first[stage.label] = steps, now
        return steps - first[0], now - first[1]


def progress_of(
    book: Book, stages: Iterable[Stage], at_work: Iterable[AtWork], slots: int
) -> Progress:
    """How far these stages are.

    Args:
        book: what is done.
        stages: all that is to be done.
        at_work: what is at work of them; one that is done already is no longer.
        slots: how many commands work at once.
    """
    stages = list(stages)
    left, speed = _Work(), _Work()
    markers = [_done(book, stage) for stage in stages]
    done = {stage.label for stage, marker in zip(stages, markers, strict=True) if marker}
    at_work = tuple(one for one in at_work if one.stage.label not in done)
    for stage, marker in zip(stages, markers, strict=True):
        if marker is None:
            left.add(stage, stage.run.steps, 1.0)
        elif marker.command:
            speed.add(stage, stage.run.steps, 1.0, marker.seconds)
    for one in at_work:
        if one.stage.is_training and one.steps:
            # Without what it took to begin, to load a model and to compile.
            speed.add(one.stage, one.pace[0], 0.0, one.pace[1])
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
        seconds_left=_estimate(left, speed, at_work, slots),
        at_work=at_work,
    )


def _done(book: Book, stage: Stage) -> Marker | None:
    try:
        return book.done(stage)
    except (DataError, FileError):  # which others say
        return None


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


def _estimate(left: _Work, speed: _Work, at_work: Iterable[AtWork], slots: int) -> float | None:
    """None where nothing tells how long a training takes."""
    if left.steps and not speed.steps:
        return None
    step = speed.training / speed.steps if speed.steps else 0.0
    # Evaluations whose time nobody knows yet are left out.
    evaluation = speed.evaluating / speed.evaluations if speed.evaluations else 0.0
    whole = left.steps * step + left.evaluations * evaluation
    # However many places are free: what is at work is done in one, and is scored after that.
    chains = (
        (one.stage.run.steps - (one.steps or 0)) * step + evaluation
        if one.stage.is_training
        else max(evaluation - one.elapsed, 0.0)
        for one in at_work
    )
    return max([whole / slots, *chains])
