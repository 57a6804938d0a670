"""Whether the data that a plan was made from is what it was, told without reading most of it."""

from __future__ import annotations

import stat
from pathlib import Path

from .._digest import sha256_of
from ..procedure.moving import has_begun
from ..procedure.plan import FILE, Plan
from ..procedure.project import Project


def changed_inputs(project: Project, plan: Plan) -> str | None:
    """What to say of files of data that were edited since the plan was made; None where none was.

    Commands read the plan's own files, which are held against their hashes. Of the data only files
    that are newer than plan.json are read: all of it may be large, and a start is to be quick.
    Files that are no longer there, and what is no file, as a data set of `datasets`, are let be.
    """
    if project.data.hugging_face:
        return None
    changed = [
        one["name"]
        for one in plan.inputs
        if _differs(project.folder / one["name"], one["sha256"], project.output / FILE)
    ]
    if not changed:
        return None
    have = "has" if len(changed) == 1 else "have"
    anew = "another output in the project" if has_begun(project.output) else "`visatb plan`"
    return (
        f"{', '.join(changed)}: {have} changed since the plan was made; runs use the plan's own "
        f"data; {anew} plans anew"
    )


def _differs(path: Path, sha256: str, made: Path) -> bool:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_mtime_ns < made.stat().st_mtime_ns:
            return False
        return sha256_of(path) != sha256
    except OSError:
        return False
