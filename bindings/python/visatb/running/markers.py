"""What says that a stage is done, and what says that an attempt at it failed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .._errors import DataError, FileError
from .._write import keep, write_whole
from .called import called, near
from .order import Outcome
from .results_in import check_value

# {task: {metric: a score, or {sample: its score}}}
Scores = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Marker:
    """A stage that is done.

    Attributes:
        plan: the identity of its plan.
        run, stage: which.
        attempt: the one that did it.
        command: its line; "" for a result that was taken in.
        weights: the SHA-256 of the weights that it trained with, or "".
        training: the attempt that trained what was evaluated, or "".
        gpus, host: where.
        began, ended: when, in seconds since 1970.
        steps: of a training.
        template: what the command was made from; "" for a result that was taken in.
        scores: of an evaluation, as it was checked.
    """

    plan: str
    run: str
    stage: str
    attempt: str
    command: str
    host: str
    began: float
    ended: float
    gpus: str = ""
    weights: str = ""
    training: str = ""
    steps: int = 0
    template: str = ""
    scores: Scores = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(self.ended - self.began, 0.0)

    def save(self, path: Path) -> None:
        """Writes it; when this returns, a power cut does not take it away.

        Errors: FileError.
        """
        # In ASCII, for names of files and of samples may have what is no UTF-8.
        content = {"visatb_done": 1, **asdict(self)}
        write_whole(near(path), (json.dumps(content) + "\n").encode())
        # Without its name the marker is not there, and the stage is done again: no error.
        with suppress(OSError):
            keep_file(path.parent)


def read_marker(path: Path, plan: str) -> Marker | None:
    """The marker of a stage; None where it is not done.

    Errors: FileError, DataError (of another plan; no marker).
    """
    content = _read(path)
    if content is None:
        return None
    version = content.pop("visatb_done", None)
    try:
        marker = Marker(**content)
        _check_types(marker)
    except (TypeError, DataError):
        version = None
    if version != 1:
        raise DataError(f"{called(path)}: not as `visatb run` writes it")
    if marker.plan != plan:
        raise DataError(
            f"{called(path)}: of another plan; expected {called(path.parent)} to be removed, or "
            "another output in the project"
        )
    return marker


def _check_types(marker: Marker) -> None:
    kinds: dict[Any, Any] = {"str": str, "int": int, "float": (int, float), "Scores": dict}
    for one in fields(marker):
        if not isinstance(getattr(marker, one.name), kinds[one.type]):
            raise TypeError(one.name)
    for metrics in marker.scores.values():
        if not isinstance(metrics, dict):
            raise TypeError("scores")
        for value in metrics.values():
            check_value(value, "scores")


def save_failure(path: Path, attempt: str, outcome: Outcome) -> None:
    """Leaves word of a failed attempt for those who watch it from elsewhere, if it can be left."""
    with suppress(FileError):
        write_whole(path, json.dumps({"attempt": attempt, **asdict(outcome)}).encode())


def read_failure(path: Path) -> tuple[str, Outcome] | None:
    """The attempt that failed last, and why; None where no word of it is there."""
    try:
        content = _read(path)
        return None if content is None else (content["attempt"], Outcome.from_content(content))
    except (DataError, FileError, KeyError):
        return None


def keep_file(path: Path) -> None:
    """Has a file, or the names in a folder, on the disk.

    Errors: OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        keep(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as reason:
        raise FileError(f"{called(path)}: {reason.strerror}") from reason
    except (ValueError, RecursionError) as reason:
        raise DataError(f"{called(path)}: not JSON: {reason}") from None
    if not isinstance(content, dict):
        raise DataError(f"{called(path)}: not as `visatb run` writes it")
    return content
