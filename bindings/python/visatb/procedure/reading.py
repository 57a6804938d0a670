"""The samples of a project, split by split and task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

from .._errors import DataError
from . import dealing
from .hugging_face import read_data_set
from .project import SPLITS, Project
from .records import Input, Sample, read_records


class Table(Protocol):
    """Samples that can be written again, some of them."""

    inputs: list[Input]
    samples: list[Sample]
    suffix: str

    def write(self, places: Sequence[int], path: Path) -> str:
        """Writes those at these places; returns the SHA-256."""


class Portion(NamedTuple):
    """Samples of one task in one split, and the table they are written from."""

    table: Table
    samples: list[Sample]


# {split: {task: its samples}}
Portions = dict[str, dict[str, Portion]]


def read_portions(project: Project) -> tuple[Portions, list[Input]]:
    """Reads and splits all samples.

    Returns:
        The portions, only those that hold anything; and the files that were read.

    Errors: FileError, DataError, UnsupportedError.
    """
    tables = _tables(project)
    for split, table in tables.items():
        _check(table, split, project)
    portions: Portions = {}
    for split, table in tables.items():
        for task, samples in _by_task(table.samples).items():
            dealt = _dealt(samples, task, split, project, tables)
            for into, part in dealt.items():
                if part:
                    portions.setdefault(into, {})[task] = Portion(table, part)
    for one in project.trained:
        if one.name not in portions.get("train", {}):
            raise DataError(f"{project.file}: tasks.{one.name}: the data has no sample to train")
    return portions, [one for table in tables.values() for one in table.inputs]


def _tables(project: Project) -> dict[str, Table]:
    if project.data.hugging_face:
        return dict(read_data_set(project.data, project.folder))
    tables: dict[str, Table] = {}
    for split in SPLITS:
        files: dict[str, str | None] = dict.fromkeys(dict(project.data.files).get(split, ()))
        for one in project.tasks:
            for name in dict(one.files).get(split, ()):
                if name in files:
                    raise DataError(f"{project.file}: {name} is there twice")
                files[name] = one.name
        if files:
            tables[split] = read_records(files, project.folder, project.data)
    return tables


def _check(table: Table, split: str, project: Project) -> None:
    """Every task is known, and no id is there twice in a task."""
    known = {task.name: task for task in project.tasks}
    seen: Counter[tuple[str, str]] = Counter()
    where = ", ".join(one.name for one in table.inputs)
    for sample in table.samples:
        if sample.task not in known:
            raise DataError(
                f'{where}: sample "{sample.id}" is of task "{sample.task}", which '
                f"{project.file} does not name; expected {', '.join(known)}"
            )
        if known[sample.task].zero_shot and (sample.split or split) != "test":
            raise DataError(
                f'{where}: sample "{sample.id}" would train or validate "{sample.task}", which is '
                "zero_shot"
            )
        seen[sample.task, sample.id] += 1
    twice = next((key for key, count in seen.items() if count > 1), None)
    if twice is not None:
        count = sum(count > 1 for count in seen.values())
        raise DataError(
            f'{where}: id "{twice[1]}" of task "{twice[0]}" is there {seen[twice]} times'
            f"{f', and {count - 1} more are there several times' if count > 1 else ''}; ids name "
            "samples (data.number_records = true numbers them)"
        )


def _by_task(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.task, []).append(sample)
    return found


def _dealt(
    samples: list[Sample], task: str, split: str, project: Project, tables: Mapping[str, Table]
) -> dict[str, list[Sample]]:
    """Where the samples of a task in a table go."""
    if project.data.split is not None:
        own: dict[str, list[Sample]] = {}
        for sample in samples:
            own.setdefault(sample.split or split, []).append(sample)
        return own
    parts = _parts(task, project, tables) if split == "train" else {}
    # A task of fixed weight is not scored, but may share a picture with one that is.
    fixed = task in {one.name for one in project.fixed}
    if not parts or (fixed and project.data.together is None):
        return {split: samples}
    if project.data.together is None:
        return dealing.splits(samples, task, parts, project.sampling.seed)
    return _dealt_together(samples, parts, project, tables["train"])


def _parts(task: str, project: Project, tables: Mapping[str, Table]) -> dict[str, Fraction | int]:
    """What is taken from the training samples of a task, as far as it has no such split."""
    wanted = {"validation": project.sampling.validation, "test": project.sampling.test}
    return {
        split: part
        for split, part in wanted.items()
        if part and not (split in tables and task in _by_task(tables[split].samples))
    }


def _dealt_together(
    samples: list[Sample],
    parts: dict[str, Fraction | int],
    project: Project,
    table: Table,
) -> dict[str, list[Sample]]:
    values = dict.fromkeys(sample.together or "" for sample in table.samples)
    dealt = dealing.deal(values, parts, project.sampling.seed, "together")
    split_of = {value: split for split, members in dealt.items() for value in members}
    result: dict[str, list[Sample]] = {}
    for sample in samples:
        result.setdefault(split_of[sample.together or ""], []).append(sample)
    return result
