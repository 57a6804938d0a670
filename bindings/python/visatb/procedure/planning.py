"""From a project to its plan: samples are read and dealt, files of every run are written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._errors import DataError, FileError
from .._sources import shown
from . import dealing, moving
from .commands import check_commands, has_commands
from .cost import Sizes, advice, cost_of, step_count
from .dealing import ALL
from .materials import Chosen, Writer
from .plan import Plan, Run, Subset
from .project import Project
from .reading import Portions, read_portions
from .runs import Recipe, recipes


def make_plan(project: Project) -> Plan:
    """Plans a project, and writes the plan and its files into the project's output folder.

    A project that gives sizes in place of data is planned too, and nothing is written. A plan that
    is there already is replaced only while no run of it has begun. Commands are checked where the
    project has any.

    Errors: FileError, DataError, UnsupportedError; what was there is then as it was.
    """
    if has_commands(project):
        check_commands(project)
    if all(task.samples is not None for task in project.trained):
        return _plan_of_sizes(project)
    portions, inputs = read_portions(project)
    chosen = _choose(project, portions)
    with _folder_beside(project.output) as new:
        writer = Writer(new, portions, chosen)
        writer.write_weights(project)
        writer.write_lists()
        writer.write_questions()
        sizes = {task: {s: len(ids) for s, ids in of.items()} for task, of in chosen.items()}
        data = {
            recipe.name: material.file
            for recipe in recipes(project)
            if (material := writer.write_training(recipe)) is not None
        }
        plan = _assemble(
            project,
            sizes,
            data,
            counts={split: _sizes_of(portions, split) for split in ("validation", "test")},
            inputs=tuple(one._asdict() for one in inputs),
            subsets=tuple(writer.subsets),
            materials=tuple(writer.materials),
        )
        plan.save(new)
        moving.move_in(plan, new, project)
    return plan


def _plan_of_sizes(project: Project) -> Plan:
    sizes = {task.name: _subset_sizes(project, task.samples or 0) for task in project.trained}
    for task, subsets in sizes.items():
        _refuse_empty(project, task, subsets)
    lists = (
        Subset(task, "train", subset, count)
        for task, subsets in sizes.items()
        for subset, count in subsets.items()
    )
    return _assemble(project, sizes, {}, counts={}, subsets=tuple(lists))


def _subset_sizes(project: Project, samples: int) -> dict[str, int]:
    rates = {"large": project.sampling.large, "mini": project.sampling.mini}
    return {ALL: samples} | {name: dealing.size(rate, samples) for name, rate in rates.items()}


def _choose(project: Project, portions: Portions) -> Chosen:
    chosen = {}
    for task in project.trained:
        ids = [sample.id for sample in portions["train"][task.name].samples]
        chosen[task.name] = dealing.subsets(ids, task.name, project.sampling)
        sizes = {subset: len(of) for subset, of in chosen[task.name].items()}
        _refuse_empty(project, task.name, sizes)
    return chosen


def _refuse_empty(project: Project, task: str, sizes: Mapping[str, int]) -> None:
    rates = {"large": project.sampling.large, "mini": project.sampling.mini}
    for subset, rate in rates.items():
        if sizes[subset] == 0:
            raise DataError(
                f"{project.file}: sampling.{subset}: {rate} of the {sizes[ALL]} samples of {task} "
                f"is less than one; raise {subset}"
            )


def _sizes_of(portions: Portions, split: str) -> dict[str, int]:
    return {task: len(portion.samples) for task, portion in portions.get(split, {}).items()}


def _assemble(
    project: Project,
    sizes: Sizes,
    data: Mapping[str, str],
    *,
    counts: Mapping[str, Mapping[str, int]],
    **parts: Any,
) -> Plan:
    """The plan, from the number of samples in every subset and the files that were written."""
    runs = [_run(project, recipe, sizes, data) for recipe in recipes(project)]
    sampling = project.sampling
    return Plan(
        form=project.form,
        seed=sampling.seed,
        base_model=project.commands.base_model,
        tasks=tuple(_describe(project, sizes, counts)),
        sampling={
            "large": float(sampling.large),
            "mini": float(sampling.mini),
            "seed": sampling.seed,
            "batch_size": sampling.batch_size,
            "epochs": sampling.epochs,
        },
        data=project.of_data,
        runs=tuple(runs),
        cost=cost_of(project, runs, sum(of[ALL] for of in sizes.values())),
        warnings=tuple(advice(project, sizes, runs)),
        **({"inputs": (), "materials": ()} | parts),
    )


def _run(project: Project, recipe: Recipe, sizes: Sizes, data: Mapping[str, str]) -> Run:
    samples = sum(sizes[task][subset] for task, subset in recipe.parts.items())
    return Run(
        name=recipe.name,
        purpose=recipe.purpose,
        method=recipe.method,
        data=data.get(recipe.name, ""),
        samples=samples,
        steps=step_count(samples, project.sampling.batch_size, project.sampling.epochs),
        split=recipe.split,
        scores=recipe.scores,
    )


def _describe(
    project: Project, sizes: Sizes, counts: Mapping[str, Mapping[str, int]]
) -> Iterator[dict[str, Any]]:
    """The tasks as scores.json has them, and how many samples each has."""
    for task in project.tasks:
        described: dict[str, Any] = {
            "name": task.name,
            "metrics": [
                {"name": metric.name, "higher_is_better": metric.higher_is_better}
                for metric in task.metrics
            ],
        }
        optional = {"group": task.group, "fixed_weight": task.fixed_weight}
        described |= {key: value for key, value in optional.items() if value is not None}
        if task.zero_shot:
            described["zero_shot"] = True
        else:
            described["samples"] = sizes[task.name][ALL]
        described |= {split: of[task.name] for split, of in counts.items() if task.name in of}
        yield described


@contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """A new folder in the output's, gone afterwards."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix="plan-", suffix=".part", dir=output))
    except OSError as reason:
        raise FileError(f"{shown(str(output))}: cannot be written: {reason.strerror}") from reason
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)
