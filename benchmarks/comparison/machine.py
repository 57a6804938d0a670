"""What the times were taken on and with. No names of machines, no paths."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

import visatb
from visatb import _lib

RIVALS = ("liger_kernel", "cut-cross-entropy", "triton", "numpy", "scipy-openblas32")


def machine() -> dict[str, Any]:
    """Processor, caches, memory and system."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "caches": _caches(Path("/sys/devices/system/cpu/cpu0/cache")),
        "ram_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {_kernel()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "transparent_huge_pages": _read(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
    }


def versions() -> dict[str, Any]:
    """Ours with the library's build and hash, PyTorch's and the rivals'."""
    library = Path(_lib.library_path())
    found: dict[str, Any] = {
        "visatb": visatb.__version__,
        "visatb_build": _lib.build_info(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if library.is_file():
        found["visatb_library_sha256"] = hashlib.sha256(library.read_bytes()).hexdigest()
    return found | {name: version(name) for name in RIVALS}


def version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """The commit of the tree that this file lies in; with "+" if something was changed."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*words: str) -> str:
        # Without taking locks, for somebody may be at work in the tree.
        command = [git, "--no-optional-locks", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        changed = ask("status", "--porcelain", "--untracked-files=no")
        return ask("rev-parse", "HEAD") + ("+" if changed else "")
    except subprocess.CalledProcessError:
        return "unknown"


def processor() -> str:
    """The name of the processor, where the system tells it."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def _kernel() -> str:
    """The version of Linux, without what a distribution or an owner added."""
    upstream = re.match(r"\d+(\.\d+)*", platform.release())
    return upstream[0] if upstream else "?"


def _caches(folder: Path) -> dict[str, str]:
    """Sizes as "L1 Data": "48K"; of one core, or what it shares."""
    found = {}
    for index in sorted(folder.glob("index*")):
        kind = _read(index / "type")
        name = f"L{_read(index / 'level')}" + ("" if kind == "Unified" else f" {kind}")
        found[name] = _read(index / "size")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return "?"
