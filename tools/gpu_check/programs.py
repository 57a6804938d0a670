"""The programs that stages need; NotThereError where one is not, which makes a part "not run"."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from .machine import NotThereError, answer

OLDEST_CMAKE, OLDEST_NVCC = (3, 25), (12, 4)
# Where NVIDIA's installer puts it, without putting it on PATH.
USUAL_NVCC = "/usr/local/cuda/bin/nvcc"
_CMAKE_VERSION = re.compile(r"cmake version (\d+)\.(\d+)")
_NVCC_VERSION = re.compile(r"\bV(\d+)\.(\d+)\S*")


def find(name: str) -> str:
    """A program on PATH.

    Errors: NotThereError.
    """
    path = shutil.which(name)
    if path is None:
        raise NotThereError(f"{name} not found")
    return path


def cmake() -> str:
    """One that is new enough.

    Errors: NotThereError.
    """
    path = find("cmake")
    _check(path, _CMAKE_VERSION, OLDEST_CMAKE)
    return path


def nvcc() -> str:
    """CUDACXX as CMake takes it, PATH, or the usual place; one that is new enough.

    Errors: NotThereError.
    """
    named = os.environ.get("CUDACXX")
    path = shutil.which(named) if named else shutil.which("nvcc") or shutil.which(USUAL_NVCC)
    if path is None:
        where = "CUDACXX names no program" if named else f"neither on PATH nor as {USUAL_NVCC}"
        raise NotThereError(f"nvcc not found: {where}")
    _check(path, _NVCC_VERSION, OLDEST_NVCC)
    return path


def nvcc_version(path: str) -> str:
    """Such as 12.4.131."""
    found = _NVCC_VERSION.search(answer([path, "--version"]) or "")
    return found[0][1:] if found else "unknown"


def sanitizer() -> str:
    """compute-sanitizer: on PATH, or beside nvcc, where the toolkit has it.

    Errors: NotThereError.
    """
    path = shutil.which("compute-sanitizer")
    if path is None:
        try:
            path = shutil.which(str(Path(nvcc()).parent / "compute-sanitizer"))
        except NotThereError:
            path = None
    if path is None:
        raise NotThereError("compute-sanitizer not found")
    return path


def _check(path: str, pattern: re.Pattern[str], oldest: tuple[int, int]) -> None:
    """What tells no version is tried all the same."""
    found = pattern.search(answer([path, "--version"]) or "")
    if found is not None and (int(found[1]), int(found[2])) < oldest:
        least = ".".join(map(str, oldest))
        name = Path(path).name
        raise NotThereError(f"{name} is {found[1]}.{found[2]}, and {least} is the oldest that does")
