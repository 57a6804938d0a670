"""Where a run's files lie, and what its commands are therefore given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .._errors import DataError
from .commands import evaluation_of, quoted
from .materials import EQUAL_WEIGHTS
from .plan import Material, Plan, Run, file_name_of
from .project import VISATB, Project
from .templates import placeholders

SCORES, PER_SAMPLE = "scores.json", "per_sample.jsonl"
WEIGHTS, RESULTS = "weights.json", "results.json"


@dataclass(frozen=True)
class Evaluation:
    """One command that evaluates a run: on one task, or on all that the command is for.

    Attributes:
        name: "evaluate", or "evaluate.vqa" for one task.
        template: the command.
        tasks: what it is asked.
    """

    name: str
    template: str
    tasks: tuple[str, ...]


def evaluations(project: Project, run: Run) -> list[Evaluation]:
    """The commands that evaluate a run."""
    tasks = {task.name: task for task in project.tasks}
    together = []
    found = []
    for name in run.scores:
        template = evaluation_of(project, tasks[name])
        if "task" in placeholders(template) or tasks[name].evaluate:
            found.append(Evaluation(f"evaluate.{file_name_of(name)}", template, (name,)))
        else:
            together.append(name)
    if together:
        # None of them has a command of its own.
        found.append(Evaluation("evaluate", project.commands.evaluate or "", tuple(together)))
    return found


def question_material(plan: Plan, split: str, task: str) -> Material | None:
    """The file of a task's samples in a split; None where the data has none."""
    stem = f"data/{split}/{file_name_of(task)}"
    known = (stem, f"{stem}.json", f"{stem}.jsonl")
    return next((one for one in plan.materials if one.file in known), None)


def answers_folder(project: Project, run: Run, evaluation: Evaluation) -> Path:
    """The folder that an evaluation writes its answers into, a file a task."""
    return project.output / run.folder / f"answers{evaluation.name.removeprefix('evaluate')}"


def scores_file(project: Project, run: Run, evaluation: Evaluation) -> Path:
    """The file that an evaluation writes its scores into."""
    return project.output / run.folder / f"{evaluation.name}.json"


def weights_file(project: Project, run: Run) -> Path:
    """The weights that a run trains with: equal ones, or VisATB's, made before it begins."""
    if needs_weights(project, run):
        return weights_of_method(project, run.method)
    return project.output / EQUAL_WEIGHTS


def weights_of_method(project: Project, method: str) -> Path:
    """The weights of VisATB, or of a variant of it."""
    name = WEIGHTS if method == VISATB else f"weights/{file_name_of(method)}.json"
    return project.output / name


def needs_weights(project: Project, run: Run) -> bool:
    """Whether a run trains with the weights that the measuring runs make."""
    methods = {method.name: method.kind for method in project.methods}
    return methods.get(run.method) == VISATB


def model_of(project: Project, run: Run) -> Path:
    """The folder that a run's training writes into."""
    return project.output / run.folder / "model"


def training_values(project: Project, plan: Plan, run: Run) -> dict[str, str]:
    """What a training command may name, but for GPUs and port; quoted for the shell."""
    return quoted(
        {
            **_common(project, run),
            "data": project.output / run.data,
            "output": model_of(project, run),
            "weights": weights_file(project, run),
            "samples": run.samples,
            "steps": run.steps,
            "epochs": plan.sampling["epochs"],
            "batch_size": plan.sampling["batch_size"],
        }
    )


def evaluation_values(
    project: Project, plan: Plan, run: Run, evaluation: Evaluation
) -> dict[str, str]:
    """What an evaluation command may name, but for GPUs and port; quoted for the shell.

    Errors: DataError (it names {questions}, and the data has none).
    """
    trained = model_of(project, run) if run.is_trained else Path(project.commands.base_model)
    values: dict[str, str | int | Path] = {
        **_common(project, run),
        "model": trained,
        "split": run.split,
        "tasks": ",".join(evaluation.tasks),
        "task": evaluation.tasks[0],
        "answers": answers_folder(project, run, evaluation),
        "scores": scores_file(project, run, evaluation),
    }
    if "questions" in placeholders(evaluation.template):
        values["questions"] = _questions(project, plan, run, evaluation)
    return quoted(values)


def _questions(project: Project, plan: Plan, run: Run, evaluation: Evaluation) -> Path:
    """The file of one task's samples in the split; or the folder of all of them."""
    files = {}
    for task in evaluation.tasks:
        material = question_material(plan, run.split, task)
        if material is None:
            raise DataError(
                f"{project.file}: the command that evaluates {task} names {{questions}}, and "
                f"the data has no {run.split} samples of it"
            )
        files[task] = project.output / material.file
    if evaluation.name != "evaluate":
        return files[evaluation.tasks[0]]
    return project.output / "data" / run.split


def _common(project: Project, run: Run) -> dict[str, str | int | Path]:
    kinds = {method.name: method.kind for method in project.methods}
    return {
        "run": run.name,
        "method": kinds.get(run.method, run.method),
        "seed": project.sampling.seed,
        "base_model": project.commands.base_model,
        "python": sys.executable,
    }
