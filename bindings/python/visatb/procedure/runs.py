"""Which runs a project has, and what each is trained on and asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .dealing import ALL, LARGE, MINI
from .project import EW, STL, Project, Task

MEASURE, COMPARE = "measure", "compare"
VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Recipe:
    """What a run is, before its samples are counted.

    Attributes:
        name: as score sheets have it: mini, with_mini:vqa; a compared one by its method, STL:vqa.
        purpose: MEASURE, whose scores make the weights, or COMPARE.
        method: its name; measuring runs weigh all tasks alike.
        parts: {task: the subset it is trained on}; nothing is trained where it is empty.
        split: where it is scored.
        scores: the tasks it is scored on.
    """

    name: str
    purpose: str
    method: str
    parts: dict[str, str]
    split: str
    scores: tuple[str, ...]


def recipes(project: Project) -> list[Recipe]:
    """Every run, in the order in which they are done."""
    return [*measuring(project), *comparing(project)]


def measuring(project: Project) -> Iterator[Recipe]:
    """The runs that the weights are made from (Eq. 3, 6, 10 to 12)."""
    units = project.units
    every = tuple(task.name for members in units.values() for task in members)
    fixed = {task.name: MINI for task in project.fixed}
    minis = dict.fromkeys(every, MINI) | fixed

    def recipe(name: str, parts: dict[str, str], scores: tuple[str, ...] = every) -> Recipe:
        return Recipe(name, MEASURE, EW, _in_order(parts, project), VALIDATION, scores)

    if project.form == "simple":
        yield recipe("base", {})
    else:
        yield recipe("mini", minis)
        for unit, members in units.items():
            yield recipe(f"with_mini:{unit}", minis | _of(members, LARGE))
    if project.form == "full":
        return
    for unit, members in units.items():
        own = tuple(task.name for task in members)
        scored = every if project.form == "simple" else own
        yield recipe(f"only:{unit}", _of(members, LARGE) | fixed, scored)
        yield recipe(f"mini_only:{unit}", _of(members, MINI) | fixed, own)


def comparing(project: Project) -> Iterator[Recipe]:
    """The runs on all data: every method once, and of STL one for each task."""
    everything = _of(project.trained, ALL)
    # STL has no score of a task of fixed weight, so nothing could be compared with it.
    scored = tuple(task.name for task in project.tasks if task.fixed_weight is None)
    for method in project.methods:
        if method.kind == STL:
            for task in (task for members in project.units.values() for task in members):
                parts = {task.name: ALL}
                yield Recipe(f"{STL}:{task.name}", COMPARE, STL, parts, TEST, (task.name,))
        else:
            yield Recipe(method.name, COMPARE, method.name, everything, TEST, scored)


def _of(tasks: tuple[Task, ...], subset: str) -> dict[str, str]:
    return {task.name: subset for task in tasks}


def _in_order(parts: dict[str, str], project: Project) -> dict[str, str]:
    return {task.name: parts[task.name] for task in project.tasks if task.name in parts}
