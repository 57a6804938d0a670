"""Where a run's files lie, and what its commands are therefore given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .._errors import DataError
from .commands import evaluation_of, placeholders, quoted
from .materials import EQUAL_WEIGHTS
from .plan import Plan, Run, file_name_of
from .project import Project

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
    together: dict[str, list[str]] = {}
    found = []
    for name in run.scores:
        template = evaluation_of(project, tasks[name])
        if "task" in placeholders(template) or tasks[name].evaluate:
            found.append(Evaluation(f"evaluate.{file_name_of(name)}", template, (name,)))
        else:
            together.setdefault(template, []).append(name)
    found += [Evaluation("evaluate", each, tuple(names)) for each, names in together.items()]
    return found


def weights_file(project: Project, run: Run) -> Path:
    """The weights that a run trains with: equal ones, or VisATB's, made before it begins."""
    methods = {method.name: method.kind for method in project.methods}
    if methods.get(run.method) == "VisATB":
        name = WEIGHTS if run.method == "VisATB" else f"weights/{file_name_of(run.method)}.json"
        return project.output / name
    return project.output / EQUAL_WEIGHTS


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
    folder = project.output / run.folder
    trained = model_of(project, run) if run.is_trained else Path(project.commands.base_model)
    values: dict[str, str | int | Path] = {
        **_common(project, run),
        "model": trained,
        "split": run.split,
        "tasks": ",".join(evaluation.tasks),
        "task": evaluation.tasks[0],
        "answers": folder / f"answers{evaluation.name.removeprefix('evaluate')}",
        "scores": folder / f"{evaluation.name}.json",
    }
    if "questions" in placeholders(evaluation.template):
        values["questions"] = _questions(project, plan, run, evaluation)
    return quoted(values)


def _questions(project: Project, plan: Plan, run: Run, evaluation: Evaluation) -> Path:
    """The file of one task's samples in the split; or the folder of all of them."""
    files = {}
    for task in evaluation.tasks:
        stem = f"data/{run.split}/{file_name_of(task)}"
        known = (stem, f"{stem}.json", f"{stem}.jsonl")
        file = next((one.file for one in plan.materials if one.file in known), None)
        if file is None:
            raise DataError(
                f"{project.file}: the command that evaluates {task} names {{questions}}, and "
                f"the data has no {run.split} samples of it"
            )
        files[task] = project.output / file
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
