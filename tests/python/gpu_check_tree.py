"""The modules of tools/gpu-check, which is not installed, and a small tree for it to check."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from gpu_check import (  # noqa: E402
    bench,
    build,
    command,
    machine,
    main,
    paths,
    programs,
    result,
    sanitize,
    stage,
    state,
    tests,
)

__all__ = [
    "H200",
    "ROOT",
    "bench",
    "build",
    "command",
    "finished",
    "kept",
    "machine",
    "main",
    "paths",
    "programs",
    "result",
    "sanitize",
    "small_tree",
    "stage",
    "stage_of",
    "state",
    "tests",
]

H200 = machine.Machine("NVIDIA H200", "580.1", "", "0123456789abcdef", dirty=False)


def small_tree(folder: Path) -> stage.Context:
    """A tree of one source, as if on a machine with a GPU."""
    root = folder / "tree"
    (root / "libvisatb").mkdir(parents=True)
    (root / "libvisatb/a.c").write_text("int a;\n", encoding="utf-8")
    (root / "include").mkdir()
    shutil.copy(ROOT / "include/visatb.h", root / "include/visatb.h")
    return stage.Context(root, folder / "folder", H200)


def kept(context: stage.Context, stages: dict[str, stage.Stage]) -> state.State:
    """What is kept of these stages."""
    return state.State(context, stages)


def stage_of(
    parts: dict[str, Callable[[], dict[str, Any]]], *, beside: bool = False
) -> stage.Stage:
    """A stage of parts that do this; "beside": at the same time."""
    made = [
        stage.Part(name, lambda *_, work=work: work(), 100, beside=beside)
        for name, work in parts.items()
    ]
    return stage.Stage("test", lambda _: made, ("libvisatb",))


def finished(code: int | None, text: str = "last words") -> command.Finished:
    """A command that ended so."""
    return command.Finished(code, text, 12.0)
