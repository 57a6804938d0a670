"""What this machine is: its GPU, its driver, what its Python lacks, and the commit of the tree."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60
MODULES = ("torch", "numpy", "pytest")


class NotThereError(Exception):
    """A program or module that this machine has not: no fault of what is checked."""


@dataclass(frozen=True)
class Machine:
    """What is known of it.

    Attributes:
        gpu: its name; None without one, and `no_gpu` says why.
        commit: "unknown" outside git; `dirty` is None then.
        lacks: those of MODULES that its Python has not.
    """

    gpu: str | None
    driver: str | None
    no_gpu: str
    commit: str
    dirty: bool | None
    python: str = sys.executable
    lacks: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The GPU's name for a file's."""
        return re.sub(r"[^a-z0-9]+", "-", (self.gpu or "none").lower()).strip("-")

    def need(self, *modules: str) -> None:
        """That its Python has them.

        Errors: NotThereError.
        """
        lacking = [name for name in modules if name in self.lacks]
        if lacking:
            raise NotThereError(f"this Python has no {', no '.join(lacking)}")


def look(root: Path) -> Machine:
    """At this machine, and the tree at `root`."""
    gpu, driver, no_gpu = _gpu()
    commit, dirty = commit_of(root)
    return Machine(gpu, driver, no_gpu, commit, dirty, lacks=lacking())


def lacking() -> tuple[str, ...]:
    """Those of MODULES that are not installed for the Python that runs this."""
    return tuple(name for name in MODULES if importlib.util.find_spec(name) is None)


def answer(command: list[str]) -> str | None:
    """What a short command prints; None where it fails."""
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _gpu() -> tuple[str | None, str | None, str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, None, "nvidia-smi not found"
    text = answer([program, "--query-gpu=name,driver_version", "--format=csv,noheader"])
    if not text:
        return None, None, "nvidia-smi tells of none"
    name, _, driver = text.splitlines()[0].partition(",")
    return name.strip(), driver.strip(), ""


def commit_of(root: Path) -> tuple[str, bool | None]:
    """The commit of a tree, and whether something was changed since."""
    git = shutil.which("git")
    # A folder of another repository's would answer for that one.
    if git is None or not (root / ".git").exists():
        return "unknown", None
    # Without taking locks, for somebody may be at work in the tree.
    ask = [git, "--no-optional-locks", "-C", str(root)]
    commit = answer([*ask, "rev-parse", "HEAD"])
    changed = answer([*ask, "status", "--porcelain", "--untracked-files=no"])
    return (commit, bool(changed)) if commit else ("unknown", None)
