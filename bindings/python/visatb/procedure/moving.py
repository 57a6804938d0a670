"""A new plan takes the place of an earlier one.

plan.json goes first and comes last: where it is, all of its files are, whatever was killed when.
Each folder has a list of what was made in it, by which it is known where there is no plan.json,
and by which a file of somebody else's is told from those.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from .._errors import DataError, FileError
from .._sources import shown
from .._write import write_whole
from .plan import FILE, Plan, load_plan
from .project import Project

# What a plan puts into its folder, and no other part of the project does.
FOLDERS = ("data", "subsets")

# In each of them: what it holds, and of which plan.
LIST = "files.json"


def move_in(plan: Plan, new: Path, project: Project) -> None:
    """Puts a plan and its folders, all made in a new folder, into the place of an earlier one.

    One that is the same to the byte is left where it is: commands may be reading its files.

    Errors: DataError (what is there is not a plan's, or runs of it have begun), FileError; what was
    there is then as it was.
    """
    output = project.output
    there = {plan_of for folder in FOLDERS for plan_of in _plan_of(output / folder)}
    there |= set(_plan_in_file(output, there))
    if there - {plan.identity} and has_begun(output):
        raise DataError(
            f"{shown(str(output / 'runs'))}: holds runs of another plan (other data, tasks, "
            f"sampling, seed or form); name another output in {project.file} to keep them, or "
            "remove that folder"
        )
    for folder in FOLDERS:
        _write_list(new / folder, plan)
    if _is_same(output, new):
        return
    try:
        with ExitStack() as undo:
            for source, target in _moves(output, new):
                source.rename(target)
                undo.callback(target.rename, source)
            undo.pop_all()
    except OSError as reason:
        raise FileError(f"{shown(str(output))}: cannot be written: {reason.strerror}") from reason


def _is_same(output: Path, new: Path) -> bool:
    # More than its list names is in no folder.
    names = [f"{folder}/{name}" for folder in FOLDERS for name in _files_in(new / folder)]
    names.append(FILE)
    try:
        return all(filecmp.cmp(output / name, new / name, shallow=False) for name in names)
    except OSError:
        return False


def _moves(output: Path, new: Path) -> Iterator[tuple[Path, Path]]:
    if (output / FILE).exists():
        yield output / FILE, new / f"old-{FILE}"
    for folder in FOLDERS:
        if (output / folder).exists():
            yield output / folder, new / f"old-{folder}"
        yield new / folder, output / folder
    yield new / FILE, output / FILE


def _write_list(folder: Path, plan: Plan) -> None:
    content = {"visatb_files": 1, "plan": plan.identity, "files": _files_in(folder)}
    write_whole(folder / LIST, (json.dumps(content, indent=1) + "\n").encode())


def _plan_of(folder: Path) -> Iterator[str]:
    """The identity of the plan that made a folder, if there is the folder.

    Errors: DataError (no plan made it, or all that is in it).
    """
    if not folder.exists():
        return
    place = shown(str(folder))
    try:
        content = json.loads((folder / LIST).read_bytes())
        identity, files = str(content["plan"]), set(content["files"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        raise DataError(f"{place}: is there already, and no plan made it") from None
    others = [file for file in _files_in(folder) if file not in files | {LIST}]
    if others:
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        raise DataError(
            f"{place}: holds {others[0]}{more}, which no plan made; expected nothing else in a "
            "folder that is made again"
        )
    yield identity


def _files_in(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(str(path.relative_to(folder)) for path in found)


def _plan_in_file(output: Path, listed: set[str]) -> Iterator[str]:
    """The identity that plan.json has; where it is broken and no list has one, an unknown one."""
    if (output / FILE).exists():
        try:
            yield load_plan(output).identity
        except DataError:
            if not listed:
                yield ""


def has_begun(output: Path) -> bool:
    """Whether runs of the plan in this folder have begun, after which none takes its place."""
    runs = output / "runs"
    return runs.is_dir() and any(runs.iterdir())
