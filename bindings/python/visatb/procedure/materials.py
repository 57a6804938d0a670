"""What a plan writes: lists of ids, and the files of samples that commands are given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from .._errors import DataError, FileError
from .._sources import shown
from .._write import write_whole
from .dealing import ALL
from .plan import Material, Subset, file_name_of
from .project import Project
from .reading import Portions
from .runs import Recipe

# In a plan's folder.
EQUAL_WEIGHTS = "data/weights/equal.json"

# {task: {subset: ids}}
Chosen = dict[str, dict[str, list[str]]]


class Writer:
    """Writes into a folder, and remembers what.

    Attributes:
        subsets: the lists of ids.
        materials: the files of samples.
    """

    def __init__(self, folder: Path, portions: Portions, chosen: Chosen) -> None:
        self.subsets: list[Subset] = []
        self.materials: list[Material] = []
        self._folder = folder
        self._portions = portions
        self._chosen = chosen
        self._listed: dict[tuple[str, str, str], frozenset[str]] = {}
        self._written: dict[tuple[tuple[str, str], ...], Material] = {}

    def write_weights(self, project: Project) -> None:
        """The weights of all runs but VisATB's: 1, or what is fixed."""
        path = self._folder / EQUAL_WEIGHTS
        _make_folder(path.parent)
        write_whole(path, equal_weights(project))

    def write_lists(self) -> None:
        """The ids of every split, and of every subset to train on."""
        for task, subsets in self._chosen.items():
            for subset, ids in subsets.items():
                self._list(task, "train", subset, ids)
        for split in ("validation", "test"):
            for task, portion in self._portions.get(split, {}).items():
                self._list(task, split, ALL, [sample.id for sample in portion.samples])

    def write_questions(self) -> None:
        """The samples to be asked: a file for every split and task."""
        for split in ("validation", "test"):
            for task in self._portions.get(split, {}):
                self._material(f"data/{split}/{file_name_of(task)}", split, {task: ALL})

    def write_training(self, recipe: Recipe) -> Material | None:
        """The samples of a run, once for all runs that have the same; None without any."""
        if not recipe.parts:
            return None
        key = tuple(recipe.parts.items())
        if key not in self._written:
            every = set(recipe.parts.values()) == {ALL} and len(recipe.parts) == len(self._chosen)
            name = "all" if every else file_name_of(recipe.name)
            self._written[key] = self._material(f"data/train/{name}", "train", recipe.parts)
        return self._written[key]

    def _material(self, name: str, split: str, parts: Mapping[str, str]) -> Material:
        """Writes the samples of some lists, after these, to one file: {task: subset}.

        Errors: DataError (it would hold others than are listed), FileError.
        """
        portions = self._portions[split]
        listed = {(task, name) for task in parts for name in self._listed[task, split, parts[task]]}
        places = sorted(
            sample.place
            for task in parts
            for sample in portions[task].samples
            if (task, sample.id) in listed
        )
        table = portions[next(iter(parts))].table
        file = f"{name}{table.suffix}"
        is_one = all(portions[task].table is table for task in parts)
        written = [table.samples[place] for place in places] if is_one else []
        found = [(sample.task, sample.id) for sample in written]
        if len(found) != len(listed) or set(found) != listed:
            raise DataError(f"{file}: would hold other samples than its lists name")
        material = Material(file, len(places), table.write(places, self._folder / file))
        self.materials.append(material)
        return material

    def _list(self, task: str, split: str, subset: str, ids: Iterable[str]) -> None:
        lines = sorted(ids)
        self._listed[task, split, subset] = frozenset(lines)
        content = "".join(f"{line}\n" for line in lines).encode()
        ending = f".{subset}" if split == "train" else ""
        file = f"subsets/{split}/{file_name_of(task)}{ending}.txt"
        path = self._folder / file
        _make_folder(path.parent)
        write_whole(path, content)
        digest = hashlib.sha256(content).hexdigest()
        self.subsets.append(Subset(task, split, subset, len(lines), digest, file))


def equal_weights(project: Project) -> bytes:
    """The weights of all runs but VisATB's, as the file that is written."""
    weights = {
        task.name: 1.0 if task.fixed_weight is None else task.fixed_weight
        for task in project.trained
    }
    content = {"visatb_weights": 1, "tasks": list(weights), "weights": weights}
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise FileError(f"{shown(str(path))}: cannot be written: {reason.strerror}") from reason
