"""The plan of a project, made if it is not there, and refused if it is no longer the project's."""

from __future__ import annotations

from ..procedure.materials import EQUAL_WEIGHTS
from ..procedure.plan import FILE, Plan, load_plan
from ..procedure.planning import make_plan
from ..procedure.project import Project
from . import locks
from .unchanged import check_unchanged


def plan_of(project: Project) -> tuple[Plan, bool]:
    """The plan in the project's output folder, and whether it was made for this.

    Errors: FileError, DataError (the project changed; there is no data), UnsupportedError.
    """
    if all(task.samples is not None for task in project.trained):
        check_unchanged(project, make_plan(project))
    # Two that start at once would plan at once.
    lock = locks.wait_for(project.output / "locks" / "plan.lock")
    try:
        is_new = not (project.output / FILE).exists()
        if is_new or not _is_whole(project, load_plan(project.output)):
            make_plan(project)
        plan = load_plan(project.output)
    finally:
        lock.release()
    check_unchanged(project, plan)
    return plan, is_new


def _is_whole(project: Project, plan: Plan) -> bool:
    """Whether all of a plan's files are there; a planning that was cut off leaves some out."""
    files = [material.file for material in plan.materials] + [one.file for one in plan.subsets]
    return all((project.output / file).exists() for file in (*files, EQUAL_WEIGHTS))
