"""From a stage that is to be done to the order that its supervisor gets."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path

from .._errors import DataError
from ..procedure.commands import quoted
from ..procedure.materials import equal_weights
from ..procedure.measures import check_metric
from ..procedure.places import (
    WEIGHTS,
    Evaluation,
    answers_folder,
    evaluation_values,
    model_of,
    needs_weights,
    question_material,
    scores_file,
    training_values,
    weights_file,
)
from ..procedure.plan import Material, Plan, Run, Subset
from ..procedure.project import Project
from ..procedure.templates import fill, placeholders
from .answers import require_java
from .book import Book, sha256_of
from .order import Check, Needed, Order, file_of
from .slots import Slot, visible_gpus
from .stages import Stage, metrics_of, template_of

_OF_PLAN = "what the plan made; `visatb plan` makes it again"


def order_of(book: Book, stage: Stage, slot: Slot, port: int | None) -> Order:
    """The order to do a stage.

    Args:
        book: what is done already.
        stage: what is to be done.
        slot: where.
        port: for {port}; None where the command does not name it.

    Errors: DataError (the command names what is not there).
    """
    project, plan, run = book.project, book.plan, stage.run
    gpus, count = visible_gpus(slot, project.commands)
    given = quoted({"gpus": gpus, "gpu_count": count, "port": "" if port is None else port})
    order = Order(
        plan=plan.identity,
        run=run.name,
        stage=stage.name,
        attempt=secrets.token_hex(8),
        line="",
        folder=file_of(project.folder),
        environment={"CUDA_VISIBLE_DEVICES": gpus} if slot.gpus else {},
        gpus=",".join(slot.gpus),
        log=file_of(stage.log),
        marker=file_of(stage.marker),
        failure=file_of(stage.failure),
        needed=(),
        fresh=True,
        check=check_of(project, plan, run, stage.evaluation),
        template=template_of(project, stage),
    )
    if stage.evaluation is None:
        weights = _weights(book, stage)
        values = training_values(project, plan, run) | quoted({"weights": weights.copy}) | given
        return dataclasses.replace(
            order,
            line=fill(order.template, values),
            fresh=not project.commands.keep_partial,
            needed=(*_needed(project, plan, [run.data]), weights),
            weights=weights.sha256,
            steps=run.steps,
        )
    values = evaluation_values(project, plan, run, stage.evaluation) | given
    return dataclasses.replace(
        order,
        line=fill(order.template, values),
        needed=tuple(needed_by(project, plan, run, stage.evaluation)),
        training=book.training(run) or "",
    )


def check_of(project: Project, plan: Plan, run: Run, evaluation: Evaluation | None) -> Check:
    """How the result of a run's stage is checked."""
    if evaluation is None:
        return Check("model", file_of(model_of(project, run)))
    metrics = metrics_of(plan)
    asked = {task: metrics[task] for task in evaluation.tasks}
    names = placeholders(evaluation.template)
    lists = _id_lists(plan, run, evaluation) if names & {"questions", "answers"} else []
    ids = {subset.task: file_of(project.output / subset.file) for subset in lists}
    if "scores" in names:
        path = file_of(scores_file(project, run, evaluation))
        return Check("scores", path, asked, {}, ids)
    references = {}
    for task in evaluation.tasks:
        material = question_material(plan, run.split, task)
        if material is not None:
            references[task] = file_of(project.output / material.file)
    path = file_of(answers_folder(project, run, evaluation))
    return Check("answers", path, asked, references, ids)


def check_stages(book: Book, runs: Iterable[Run]) -> None:
    """Refuses, before anything is started, what a stage would only fail at in the end.

    Errors: DataError, UnsupportedError (what a metric needs is not installed).
    """
    for run in runs:
        for stage in book.stages[run.name]:
            if stage.evaluation is not None:
                evaluation_values(book.project, book.plan, run, stage.evaluation)
                check = check_of(book.project, book.plan, run, stage.evaluation)
                if check.kind == "answers":
                    _check_answers(book.project, check, run)


def _check_answers(project: Project, check: Check, run: Run) -> None:
    for task in project.tasks:
        if task.name not in check.asked:
            continue
        measures = {one.name: check_metric(project, task.name, one) for one in task.metrics}
        for name, measure in measures.items():
            if measure.needs_java:
                require_java(name)
        if any(measure.references for measure in measures.values()):
            _check_reference(project, task.name, check.references.get(task.name), run.split)


def _check_reference(project: Project, task: str, reference: str | None, split: str) -> None:
    what = f"has no {split} samples of it" if reference is None else "is no JSON"
    if reference is None or Path(reference).suffix not in {".json", ".jsonl"}:
        raise DataError(
            f"{project.file}: tasks.{task}: its answers cannot be scored, for the data {what}; "
            "expected a command that names {scores}"
        )


def needed_by(project: Project, plan: Plan, run: Run, evaluation: Evaluation) -> list[Needed]:
    """What an evaluation reads, and what its scores are held against: samples and their ids."""
    if not placeholders(evaluation.template) & {"questions", "answers"}:
        return []
    found = (question_material(plan, run.split, task) for task in evaluation.tasks)
    files = [material.file for material in found if material is not None]
    return _needed(project, plan, files) + [
        Needed(file_of(project.output / subset.file), subset.sha256, _OF_PLAN)
        for subset in _id_lists(plan, run, evaluation)
    ]


def _id_lists(plan: Plan, run: Run, evaluation: Evaluation) -> list[Subset]:
    return [
        subset
        for subset in plan.subsets
        if subset.split == run.split and subset.task in evaluation.tasks and subset.file
    ]


def _needed(project: Project, plan: Plan, files: Iterable[str]) -> list[Needed]:
    materials: dict[str, Material] = {material.file: material for material in plan.materials}
    return [
        Needed(file_of(project.output / file), materials[file].sha256, _OF_PLAN) for file in files
    ]


def _weights(book: Book, stage: Stage) -> Needed:
    """The weights of a training, which has a copy: they may be made anew before it reads them."""
    path, copy = weights_file(book.project, stage.run), file_of(stage.folder / WEIGHTS)
    if needs_weights(book.project, stage.run):
        what = "as it was; it has just been made anew"
        return Needed(file_of(path), sha256_of(path), what, copy)
    expected = hashlib.sha256(equal_weights(book.project)).hexdigest()
    return Needed(file_of(path), expected, _OF_PLAN, copy)
