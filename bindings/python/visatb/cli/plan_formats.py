"""How `visatb plan` shows a plan."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from visatb._errors import DataError
from visatb.procedure.commands import check_commands, has_commands
from visatb.procedure.places import evaluation_values, evaluations, training_values
from visatb.procedure.plan import Plan, Run
from visatb.procedure.project import Project
from visatb.procedure.runs import COMPARE, MEASURE
from visatb.procedure.templates import fill
from visatb.running.called import called

from .terminal import Column, render

# What a scheduler says, in the place of what `visatb run` would give.
_OF_SCHEDULER = {
    "gpus": '"${CUDA_VISIBLE_DEVICES:-}"',
    "gpu_count": "",
    "port": '"${MASTER_PORT:-29500}"',
}


def table(project: Project, plan: Plan) -> str:
    """The tasks with their subsets, the runs, and the cost."""
    text = render(
        [Column("task"), *_numbers("train", "large", "mini", "validation", "test"), Column("")],
        [_task_row(plan, task) for task in plan.tasks],
        title=f"{len(project.units)} to be weighed, {plan.form} form",
    )
    runs = render(
        [Column("run"), *_numbers("samples", "steps"), Column("scored on")],
        [_run_row(project, run) for run in plan.runs],
        notes=_notes(project, plan),
    )
    return f"{text}\n{runs}"


def json_text(_: Project, plan: Plan) -> str:
    """plan.json itself."""
    return plan.to_json()


def shell(project: Project, plan: Plan) -> str:
    """Every command, in lines that a scheduler can take run by run.

    Errors: DataError (a plan of sizes; templates that cannot do it).
    """
    if not plan.can_run:
        raise DataError(f"{project.file}: has sizes in place of data, so there is nothing to run")
    check_commands(project)
    lines = ["#!/bin/sh", "set -e", f"cd {shlex.quote(str(project.folder))}"]
    for purpose in (MEASURE, COMPARE):
        for run in plan.runs:
            if run.purpose == purpose:
                lines += ["", *_shell_lines(project, plan, run)]
        lines += ["", f"{_visatb_run(project)} --collect"]
    return "".join(f"{line}\n" for line in lines)


FORMATS: Mapping[str, Callable[[Project, Plan], str]] = {
    "table": table,
    "json": json_text,
    "shell": shell,
}


def _numbers(*names: str) -> list[Column]:
    return [Column(name, is_number=True) for name in names]


def _task_row(plan: Plan, task: Mapping[str, object]) -> list[str]:
    sizes = {
        subset.subset: subset.samples for subset in plan.subsets if subset.task == task["name"]
    }
    counts = [task.get("samples"), sizes.get("large"), sizes.get("mini")]
    counts += [task.get("validation"), task.get("test")]
    if "fixed_weight" in task:
        counts[1], note = None, f"fixed at {task['fixed_weight']}"
    else:
        note = "zero-shot" if "zero_shot" in task else str(task.get("group", ""))
    shown = (f"{count:,}" if isinstance(count, int) else "" for count in counts)
    return [str(task["name"]), *shown, note]


def _run_row(project: Project, run: Run) -> list[str]:
    all_of_them = tuple(task.name for task in project.tasks if task.fixed_weight is None)
    tasks = "every task" if run.scores == all_of_them else ", ".join(run.scores)
    trained = [f"{run.samples:,}", f"{run.steps:,}"] if run.is_trained else ["untrained", ""]
    return [run.name, *trained, tasks]


def _notes(project: Project, plan: Plan) -> list[str]:
    cost = plan.cost
    notes = [
        f"measuring costs {cost.counted:.5g} of a run on all {cost.final_samples:,} samples "
        f"({cost.measuring_samples:,} samples, {cost.measuring_steps:,} of {cost.final_steps:,} "
        f"steps); by formula {cost.formula:.5g}",
    ]
    if plan.can_run and has_commands(project):
        notes.append(f"written to {called(project.output)}; next: visatb run {project.file}")
    elif plan.can_run:
        notes.append(
            f"written to {called(project.output)}; {project.file} has no [run] with train and "
            "evaluate, which `visatb run` and `--format shell` need"
        )
    return notes


def _shell_lines(project: Project, plan: Plan, run: Run) -> Iterator[str]:
    yield f"# {run.name}: {run.samples:,} samples, {run.steps:,} steps"
    yield f"mkdir -p {shlex.quote(str(project.output / run.folder))}"
    if run.is_trained:
        values = training_values(project, plan, run) | _scheduler(project)
        yield from _command(fill(project.commands.train or "", values))
    for evaluation in evaluations(project, run):
        values = evaluation_values(project, plan, run, evaluation) | _scheduler(project)
        yield from _command(fill(evaluation.template, values))
    yield f"{_visatb_run(project)} --take={shlex.quote(run.name)}"


def _command(line: str) -> Iterator[str]:
    """A command as `visatb run` would run it: in a shell of its own, the exit code of which counts.

    The bracket stands on a line of its own, for a command may end with a comment. "||" has the
    commands in it go on as in any shell, and also ends a job that was cut out of the script.
    """
    yield "("
    yield line
    yield ") || exit"


def _visatb_run(project: Project) -> str:
    # A batch job may not have this environment's programs on its PATH.
    program = f"{shlex.quote(sys.executable)} -m visatb"
    return f"{program} run {shlex.quote(str(project.folder / Path(project.file).name))}"


def _scheduler(project: Project) -> dict[str, str]:
    return _OF_SCHEDULER | {"gpu_count": str(project.commands.gpus_per_run)}
