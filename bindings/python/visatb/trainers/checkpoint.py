"""The state of a method beside a checkpoint of the Trainer's."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from .._errors import DataError, FileError
from .._sources import read
from .._write import write_whole
from .step_weights import StepWeights
from .tasks import TaskTable

FILE_NAME = "visatb_method.json"
VERSION = 1


def save(folder: str, weights: StepWeights, tasks: TaskTable, *, writes: bool) -> None:
    """Writes the state into the folder of a checkpoint.

    Every rank calls it, for every rank has a step to finish.

    Args:
        writes: whether this rank is the one that writes.

    Errors: FileError.
    """
    state = weights.state_dict()
    if not writes:
        return
    content = {
        "visatb_method": VERSION,
        "name": state["name"],
        "tasks": [tasks.label(task) for task in range(len(tasks))],
        "state": base64.b64encode(state["state"]).decode(),
    }
    write_whole(Path(folder) / FILE_NAME, f"{json.dumps(content, ensure_ascii=False)}\n".encode())


def load(folder: str, weights: StepWeights, tasks: TaskTable) -> None:
    """Gives a method the state that a checkpoint has.

    Errors: FileError without one; DataError for a file that is none, and for the state of another
    method, of other tasks, or of the same in another order. Nothing changes then.
    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        raise FileError(
            f"{path}: cannot be read: No such file or directory; expected the state of the method "
            f"{weights.method.name}, which a checkpoint has that was saved while it trained, and "
            "not by save_only_model"
        )
    content, name = read(path, "")
    try:
        found = json.loads(content)
    except RecursionError:
        raise DataError(f"{name}: nested too deeply") from None
    except ValueError as reason:
        raise DataError(f"{name}: {reason}") from None
    if not isinstance(found, dict) or found.get("visatb_method") != VERSION:
        raise DataError(f'{name}: expected {{"visatb_method": {VERSION}, ...}}')
    own = [tasks.label(task) for task in range(len(tasks))]
    if found.get("tasks") != own:
        raise DataError(f"{name}: tasks: {found.get('tasks')}; expected {own}", "tasks")
    try:
        state = base64.b64decode(str(found.get("state")), validate=True)
    except ValueError:
        raise DataError(f"{name}: state: expected Base64", "state") from None
    try:
        weights.load_state_dict({"name": found.get("name"), "tasks": len(own), "state": state})
    except DataError as reason:
        raise DataError(f"{name}: {reason}") from None


class Checkpoints:
    """The state of a method in the trainings of one trainer, and in their checkpoints.

    Args:
        trainer: whose `state.global_step` says how many steps its optimiser has made.
        weights: each training begins with them as they are now, unless it resumes.
        tasks: the names that go into the file.
    """

    def __init__(self, trainer: Any, weights: StepWeights, tasks: TaskTable) -> None:
        self._trainer = trainer
        self._weights = weights
        self._tasks = tasks
        self._first = weights.state_dict()
        weights.follow(self._optimizer_steps)

    def begin(self) -> None:
        """Where a training begins, before it may load a checkpoint."""
        self._weights.load_state_dict(self._first)

    def save(self, folder: str) -> None:
        """`save`, by the rank that writes checkpoints; every rank calls it."""
        save(folder, self._weights, self._tasks, writes=self._trainer.args.should_save)

    def load(self, folder: str | None) -> None:
        """`load`; None is no checkpoint."""
        if folder is not None:
            load(folder, self._weights, self._tasks)

    def _optimizer_steps(self) -> int:
        steps: int = self._trainer.state.global_step
        return steps


def wrap(trainer: Any, weights: StepWeights, tasks: TaskTable) -> None:
    """Makes one trainer save and load the state with its optimizer's."""
    checkpoints = Checkpoints(trainer, weights, tasks)
    train_stock = trainer._inner_training_loop
    save_stock = trainer._save_optimizer_and_scheduler
    load_stock = trainer._load_optimizer_and_scheduler

    def train_from_the_first(*args: Any, **kwargs: Any) -> Any:
        checkpoints.begin()
        return train_stock(*args, **kwargs)

    def save_with_method(output_dir: str) -> None:
        save_stock(output_dir)
        checkpoints.save(output_dir)

    def load_with_method(checkpoint: str | None) -> None:
        load_stock(checkpoint)
        checkpoints.load(checkpoint)

    trainer._inner_training_loop = train_from_the_first
    trainer._save_optimizer_and_scheduler = save_with_method
    trainer._load_optimizer_and_scheduler = load_with_method
