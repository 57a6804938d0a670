"""The state of a method beside a checkpoint of the Trainer's."""

from __future__ import annotations

import base64
import binascii
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
    except ValueError as reason:
        raise DataError(f"{name}: {reason}") from None
    if not isinstance(found, dict) or found.get("visatb_method") != VERSION:
        raise DataError(f'{name}: expected {{"visatb_method": {VERSION}, ...}}')
    own = [tasks.label(task) for task in range(len(tasks))]
    if found.get("tasks") != own:
        raise DataError(f"{name}: tasks: {found.get('tasks')}; expected {own}", "tasks")
    try:
        state = base64.b64decode(str(found.get("state")), validate=True)
        weights.load_state_dict({"name": found.get("name"), "tasks": len(own), "state": state})
    except binascii.Error:
        raise DataError(f"{name}: state: expected Base64", "state") from None
    except DataError as reason:
        raise DataError(f"{name}: {reason}") from None


def wrap(trainer: Any, weights: StepWeights, tasks: TaskTable) -> None:
    """Makes one trainer save and load the state with its optimizer's."""
    save_stock = trainer._save_optimizer_and_scheduler
    load_stock = trainer._load_optimizer_and_scheduler

    def save_with_method(output_dir: str) -> None:
        save_stock(output_dir)
        save(output_dir, weights, tasks, writes=trainer.args.should_save)

    def load_with_method(checkpoint: str | None) -> None:
        load_stock(checkpoint)
        if checkpoint is not None:
            load(checkpoint, weights, tasks)

    trainer._save_optimizer_and_scheduler = save_with_method
    trainer._load_optimizer_and_scheduler = load_with_method
