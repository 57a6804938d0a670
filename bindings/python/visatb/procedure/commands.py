"""The user's commands: what their templates may name, and what they must."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from .._errors import DataError
from .measures import check_metric
from .project import BY_STEP, Project, Task
from .section import either
from .templates import pieces, placeholders

# What every command of a run may name.
_COMMON = ("run", "method", "seed", "base_model", "python", "gpus", "gpu_count", "port")
TRAINING = (*_COMMON, "data", "output", "weights", "samples", "steps", "epochs", "batch_size")
EVALUATION = (*_COMMON, "model", "split", "questions", "tasks", "task", "answers", "scores")


def quoted(values: Mapping[str, str | int | Path]) -> dict[str, str]:
    """Values as the shell takes them for one word each."""
    return {name: shlex.quote(str(value)) for name, value in values.items()}


def evaluation_of(project: Project, task: Task) -> str:
    """The template that evaluates a task."""
    return task.evaluate or project.commands.evaluate or ""


def has_commands(project: Project) -> bool:
    """Whether a project says how it is run; one that does not can be planned all the same."""
    return bool(project.commands.train or project.commands.evaluate)


def check_commands(project: Project) -> None:
    """Refuses templates that cannot do what the plan needs.

    Errors: DataError.
    """
    train = project.commands.train
    if not train:
        raise DataError(f"{project.file}: run.train: missing; expected the command that trains")
    _check_known(project, "run.train", train, TRAINING)
    _check_training(project, train)
    for task in project.tasks:
        if task.fixed_weight is None:
            place = f"tasks.{task.name}.evaluate" if task.evaluate else "run.evaluate"
            _check_evaluation(project, place, evaluation_of(project, task), task)


def _check_training(project: Project, train: str) -> None:
    named = placeholders(train)
    for needed in ("data", "output"):
        if needed not in named:
            raise DataError(f"{project.file}: run.train: does not name {{{needed}}}")
    kinds = [method.kind for method in project.methods]
    if "VisATB" in kinds and "weights" not in named:
        raise DataError(
            f"{project.file}: run.train: does not name {{weights}}, so VisATB would train as EW "
            "does"
        )
    by_step = [kind for kind in kinds if kind in BY_STEP]
    if by_step and "method" not in named:
        raise DataError(
            f"{project.file}: run.train: does not name {{method}}, so {by_step[0]} would train as "
            "EW does"
        )
    if project.form == "simple" and not project.commands.base_model:
        raise DataError(
            f"{project.file}: run.base_model: missing; the simple form scores the model before any "
            "training"
        )


def _check_evaluation(project: Project, place: str, template: str, task: Task) -> None:
    if not template:
        raise DataError(f"{project.file}: {place}: missing; expected the command that evaluates")
    _check_known(project, place, template, EVALUATION)
    named = placeholders(template)
    if "model" not in named:
        raise DataError(f"{project.file}: {place}: does not name {{model}}")
    if len(named & {"answers", "scores"}) != 1:
        raise DataError(f"{project.file}: {place}: expected it to name {{answers}} or {{scores}}")
    if not task.metrics:
        raise DataError(f"{project.file}: tasks.{task.name}.metrics: missing")
    if "answers" in named:
        for metric in task.metrics:
            check_metric(project, task.name, metric)
    if "," in task.name and "tasks" in named:
        raise DataError(
            f"{project.file}: {place}: names {{tasks}}, whose names have commas between them, and "
            f'"{task.name}" has one in it; expected {{task}}'
        )


def _check_known(project: Project, place: str, template: str, known: Iterable[str]) -> None:
    for name in sorted(placeholders(template) - set(known)):
        braces = f"a brace that is not meant so is {{{{{name}}}}}"
        raise DataError(
            f"{project.file}: {place}: {{{name}}} is no placeholder; expected {either(known)}; "
            f"{braces}"
        )
    for piece in pieces(template):
        if piece.is_placeholder and piece.is_quoted:
            more = " (an apostrophe in a here-document opens some)" if "<<" in template else ""
            raise DataError(
                f"{project.file}: {place}: {{{piece.text}}} stands inside quotes{more}; visatb "
                "quotes what it fills in"
            )
