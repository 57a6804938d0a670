"""The plan of a project, made if it is not there, and refused if it is no longer the project's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from ..procedure.materials import EQUAL_WEIGHTS
from ..procedure.plan import FILE, Plan, load_plan
from ..procedure.planning import make_plan
from ..procedure.project import Project
from . import locks
from .unchanged import check_unchanged


def plan_anew(project: Project) -> Plan:
    """Makes the plan of a project, in the place of one that is there.

    Errors: those of `make_plan`.
    """
    if _has_sizes(project):
        return make_plan(project)  # writes nothing
    with _alone(project):
        return make_plan(project)


def plan_of(project: Project) -> tuple[Plan, bool]:
    """The plan in the project's output folder, and whether it was made for this.

    Errors: FileError, DataError (the project changed; there is no data), UnsupportedError.
    """
    if _has_sizes(project):
        check_unchanged(project, make_plan(project))
    with _alone(project):
        is_new = not (project.output / FILE).exists()
        if is_new or not _is_whole(project, load_plan(project.output)):
            make_plan(project)
        plan = load_plan(project.output)
    check_unchanged(project, plan)
    return plan, is_new


@contextmanager
def _alone(project: Project) -> Iterator[None]:
    """Only one process at a time plans; what one left that was killed is removed."""
    lock = locks.wait_for(project.output / "locks" / "plan.lock")
    try:
        for folder in project.output.glob("plan-*.part"):
            shutil.rmtree(folder, ignore_errors=True)
        yield
    finally:
        lock.release()


def _has_sizes(project: Project) -> bool:
    """Whether it gives sizes in place of data."""
    return all(task.samples is not None for task in project.trained)


def _is_whole(project: Project, plan: Plan) -> bool:
    """Whether all of a plan's files are there, and none was removed."""
    files = [material.file for material in plan.materials] + [one.file for one in plan.subsets]
    return all((project.output / file).exists() for file in (*files, EQUAL_WEIGHTS))
