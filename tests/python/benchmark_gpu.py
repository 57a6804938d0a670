"""The benchmark on a GPU as a program, for tests of what it does and of what it reports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks/gpu.py"
CPU_PART = "<!-- cpu: begin -->\ncpu\n<!-- cpu: end -->\n"
PAGE = f"# Page\n\n{CPU_PART}<!-- gpu: begin -->\n<!-- gpu: end -->\n"
Json = dict[str, Any]


def bare(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """As by a Python to which nothing was added."""
    command = [sys.executable, "-S", str(ROOT / "benchmarks" / program), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run
    return run(command, capture_output=True, text=True, check=False, env=environment)


def gpu(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """benchmarks/gpu.py, to its end."""
    command = [sys.executable, str(GPU), *map(str, arguments)]
    run = subprocess.run
    return run(command, capture_output=True, text=True, check=False, timeout=600)
