"""The samples of a project, split by split and task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    dealer = _Dealer(project, tables)
    portions: Portions = {}
    for split, table in tables.items():
        of_task = _by(table.samples, lambda one: one.task)
        for task in project.tasks:
            dealt = dealer.deal(of_task.get(task.name, []), task.name, split)
            for into, part in dealt.items():
                if part:
                    portions.setdefault(into, {})[task.name] = Portion(table, part)
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


class _Dealer:
    """Says where the samples of a task go."""

    def __init__(self, project: Project, tables: Mapping[str, Table]) -> None:
        self._project = project
        self._there = {split: {one.task for one in of.samples} for split, of in tables.items()}
        self._fixed = {task.name for task in project.fixed}
        self._split_of: dict[str, str] | None = None
        if project.data.together is not None and "train" in tables:
            values = dict.fromkeys(one.together or "" for one in tables["train"].samples)
            parts = {split: part for split, part in self._parts().items() if split not in tables}
            dealt = dealing.deal(values, parts, project.sampling.seed, "together")
            self._split_of = {value: split for split, of in dealt.items() for value in of}

    def deal(self, samples: list[Sample], task: str, split: str) -> dict[str, list[Sample]]:
        """{split: samples} of the samples that a table of some split has of a task."""
        if self._project.data.split is not None:
            return _by(samples, lambda one: one.split or split)
        if split != "train":
            return {split: samples}
        if self._split_of is not None:
            split_of = self._split_of
            return _by(samples, lambda one: split_of[one.together or ""])
        # A task of fixed weight is not scored.
        if task in self._fixed:
            return {split: samples}
        lacking = {name: p for name, p in self._parts().items() if not self._has(name, task)}
        return dealing.splits(samples, task, lacking, self._project.sampling.seed)

    def _parts(self) -> dict[str, Fraction | int]:
        sampling = self._project.sampling
        return {"validation": sampling.validation, "test": sampling.test}

    def _has(self, split: str, task: str) -> bool:
        return task in self._there.get(split, ())


def _by(samples: Iterable[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(key(sample), []).append(sample)
    return found
