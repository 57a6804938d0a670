"""The samples of a project, split by split and task by task."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

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


Key = TypeVar("Key")

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
    _check_splits(tables, project)
    dealer = _Dealer(project, tables)
    portions: Portions = {}
    for split, table in tables.items():
        of_task = _by(table.samples, lambda one: one.task)
        for task in project.tasks:
            dealt = dealer.deal(of_task.get(task.name, []), task.name, split)
            for into, part in dealt.items():
                _add(portions.setdefault(into, {}), task.name, Portion(table, part))
    _check_train(portions, tables, project)
    _check_scored(portions, project)
    if project.data.together is not None:
        _check_together(portions, project)
    return portions, [one for table in tables.values() for one in table.inputs]


def _add(portions: dict[str, Portion], task: str, portion: Portion) -> None:
    """Adds a portion that holds anything; a task has one in a split, from one table."""
    if portion.samples:
        if task in portions:
            raise DataError(f"the samples of {task} in one split come from two places")
        portions[task] = portion


def _tables(project: Project) -> dict[str, Table]:
    if project.data.hugging_face:
        return dict(read_data_set(project.data, project.folder))
    tables: dict[str, Table] = {}
    seen: set[str] = set()
    for split in SPLITS:
        files: dict[str, str | None] = {}
        for task, name in _files_of(project, split):
            real = os.path.realpath(project.folder / name)
            if real in seen:
                raise DataError(f"{project.file}: {name} is there twice")
            seen.add(real)
            files[name] = task
        if files:
            first = sum(len(table.samples) for table in tables.values())
            tables[split] = read_records(files, project.folder, project.data, first)
    return tables


def _files_of(project: Project, split: str) -> Iterator[tuple[str | None, str]]:
    """The files of a split, each with the task of all its samples, if they are of one."""
    for name in dict(project.data.files).get(split, ()):
        yield None, name
    for task in project.tasks:
        for name in dict(task.files).get(split, ()):
            yield task.name, name


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


def _check_splits(tables: Mapping[str, Table], project: Project) -> None:
    """No sample is in two splits, and splits are said in one way."""
    if project.data.split is not None and len(tables) > 1:
        raise DataError(
            f"{project.file}: data.split: the data has splits of its own, {' and '.join(tables)}; "
            "expected one or the other"
        )
    first = _in_two_splits(
        ((one.task, one.id), split) for split, table in tables.items() for one in table.samples
    )
    if first is not None:
        (task, name), where, more = first
        raise DataError(
            f'{project.file}: id "{name}" of task "{task}" is in {where}{more}; expected other '
            "samples in every split, with ids of their own (data.number_records = true numbers "
            "them)"
        )


def _check_train(portions: Portions, tables: Mapping[str, Table], project: Project) -> None:
    """Every task has something to train on."""
    samples = tables["train"].samples if "train" in tables else []
    for task in project.trained:
        if task.name not in portions.get("train", {}):
            there = sum(one.task == task.name for one in samples)
            what = f"the splits take all of its {there} samples, and leave none to train"
            what = what if there else "the data has no sample to train"
            raise DataError(f"{project.file}: tasks.{task.name}: {what}")


def _check_scored(portions: Portions, project: Project) -> None:
    """A split that is asked for has something of every task that is scored."""
    sampling = project.sampling
    for split, part in (("validation", sampling.validation), ("test", sampling.test)):
        lacking = [
            task.name
            for task in project.trained
            if part and task.unit is not None and task.name not in portions.get(split, {})
        ]
        if lacking:
            raise DataError(
                f"{project.file}: splits.{split}: {part} leaves no {split} sample of {lacking[0]}; "
                "expected more"
            )


def _check_together(portions: Portions, project: Project) -> None:
    """What belongs together is in one split."""
    first = _in_two_splits(
        (one.together, split)
        for split, of in portions.items()
        for portion in of.values()
        for one in portion.samples
        if one.together is not None
    )
    if first is not None:
        value, where, more = first
        raise DataError(
            f'{project.file}: data.together: "{value}" of "{project.data.together}" is in {where}'
            f"{more}; expected each in one split"
        )


def _in_two_splits(places: Iterable[tuple[Key, str]]) -> tuple[Key, str, str] | None:
    """The first thing that is in two splits, both in words, and how many more are."""
    split_of: dict[Key, str] = {}
    twice: dict[Key, str] = {}
    for key, split in places:
        if split_of.setdefault(key, split) != split:
            twice.setdefault(key, f"{split_of[key]} and in {split}")
    if not twice:
        return None
    key, where = next(iter(twice.items()))
    more = f", and {len(twice) - 1} more are in two splits" if len(twice) > 1 else ""
    return key, where, more


class _Dealer:
    """Says where the samples of a task go."""

    def __init__(self, project: Project, tables: Mapping[str, Table]) -> None:
        self._project = project
        self._there: dict[str, set[str]] = {}
        training: list[Sample] = []
        for split, table in tables.items():
            for one in table.samples:
                own = one.split or split
                self._there.setdefault(own, set()).add(one.task)
                training += [one] if own == "train" else []
        self._fixed = {task.name for task in project.fixed}
        self._split_of: dict[str, str] | None = None
        if project.data.together is not None and training:
            shared = (one.together for one in training)
            values = dict.fromkeys(value for value in shared if value is not None)
            parts = {split: part for split, part in self._parts().items() if self._lack(split)}
            dealt = dealing.deal(values, parts, project.sampling.seed, "together")
            self._split_of = {value: split for split, of in dealt.items() for value in of}

    def deal(self, samples: list[Sample], task: str, split: str) -> dict[str, list[Sample]]:
        """{split: samples} of the samples that a table of some split has of a task."""
        found = _by(samples, lambda one: one.split or split)
        training = found.pop("train", [])
        split_of = self._split_of or {}
        shared = [one for one in training if one.together is not None]
        alone = [one for one in training if one.together is None]
        for dealt in (
            _by(shared, lambda one: split_of[one.together or ""]),
            self._deal_alone(alone, task),
        ):
            for into, part in dealt.items():
                found.setdefault(into, []).extend(part)
        return found

    def _deal_alone(self, samples: list[Sample], task: str) -> dict[str, list[Sample]]:
        # A task of fixed weight is not scored.
        if task in self._fixed:
            return {"train": samples}
        lacking = {name: p for name, p in self._parts().items() if not self._has(name, task)}
        return dealing.splits(samples, task, lacking, self._project.sampling.seed)

    def _parts(self) -> dict[str, Fraction | int]:
        sampling = self._project.sampling
        return {"validation": sampling.validation, "test": sampling.test}

    def _has(self, split: str, task: str) -> bool:
        return task in self._there.get(split, ())

    def _lack(self, split: str) -> bool:
        """Whether a split is dealt for all tasks together, of which then none has one.

        Errors: DataError (some have one: what belongs together would be in theirs, and dealt too).
        """
        having = [task.name for task in self._project.trained if self._has(split, task.name)]
        lacking = [
            task.name
            for task in self._project.trained
            if task.fixed_weight is None and task.name not in having
        ]
        if having and lacking and self._parts()[split]:
            raise DataError(
                f"{self._project.file}: data.together: {having[0]} has {split} samples of its own, "
                f"and {lacking[0]} has none; expected all tasks to have some, or none"
            )
        return not having


def _by(samples: Iterable[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(key(sample), []).append(sample)
    return found
