"""What a supervisor is told: one command, what it needs, and how its result is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# How long a command may take to end when it is asked to.
GRACE_SECONDS = 10.0

# What a message may have of characters.
_MOST = 2000

# {task: metrics}
Asked = dict[str, list[str]]


@dataclass(frozen=True)
class Needed:
    """A file that a command reads, and what it must be.

    Attributes:
        path: the file.
        sha256: of its content.
        what: what it is said not to be, where it is not: "what the plan made".
        copy: what the command reads in its place, made when it begins; "" for the file itself.
    """

    path: str
    sha256: str
    what: str
    copy: str = ""


@dataclass(frozen=True)
class Check:
    """How the result of a command is checked.

    Attributes:
        kind: "model", "scores" or "answers".
        path: what the command writes: a model, a file of scores, a folder of answers.
        asked: {task: its metrics}; none for a model.
        references: {task: the file of its samples}, for answers.
        ids: {task: the file of the ids of its samples}, where scores by sample must have those.
    """

    kind: str
    path: str
    asked: Asked = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """One attempt at one stage.

    Attributes:
        plan: the plan's identity.
        run, stage: what is done.
        attempt: its name, of which there is one.
        line: the shell's line.
        folder: where it is run.
        environment: what it gets besides this process's.
        gpus: on which; "" where none is named.
        log, marker, failure: files of the stage.
        needed: files that it reads.
        fresh: whether an earlier result is removed first.
        check: how the result is checked.
        weights: the SHA-256 of the weights that it trains with.
        training: the attempt that trained what is evaluated.
        steps: of the training.
        template: what the line was made from.
        locks: [descriptor, path] of every lock that was taken for it.
        grace: seconds that it has to end when it is asked to.
    """

    plan: str
    run: str
    stage: str
    attempt: str
    line: str
    folder: str
    environment: dict[str, str]
    gpus: str
    log: str
    marker: str
    failure: str
    needed: tuple[Needed, ...]
    fresh: bool
    check: Check
    weights: str = ""
    training: str = ""
    steps: int = 0
    template: str = ""
    locks: tuple[tuple[int, str], ...] = ()
    grace: float = GRACE_SECONDS

    def to_json(self) -> str:
        """As text, for a supervisor."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Order:
        """From text; ValueError where it was cut off, for whoever wrote it died."""
        content: dict[str, Any] = json.loads(text)
        content["needed"] = tuple(Needed(**one) for one in content["needed"])
        content["check"] = Check(**content["check"])
        content["locks"] = tuple((one[0], one[1]) for one in content["locks"])
        return Order(**content)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.run}: {self.stage}"


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to.

    Attributes:
        kind: DONE, FAILED (the command's fault), TROUBLE (a file's, or the disk's) or STOPPED.
        message: why, for people; "" where it is done.
    """

    kind: str
    message: str = ""

    def shortened(self) -> Outcome:
        """With a message that people can read, and that any pipe takes without a reader."""
        if len(self.message) <= _MOST:
            return self
        half = _MOST // 2
        return Outcome(self.kind, f"{self.message[:half]} [...] {self.message[-half:]}")

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_content(content: Mapping[str, Any]) -> Outcome:
        """From what was text."""
        return Outcome(str(content["kind"]), str(content["message"]))


DONE, FAILED, TROUBLE, STOPPED = "done", "failed", "trouble", "stopped"


def file_of(path: Path) -> str:
    """A path as an order has it: from the root, for a command runs in another folder."""
    return str(path.absolute())
