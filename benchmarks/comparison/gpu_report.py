"""The part of docs/benchmarks.md that is about GPUs, from a result file of tools/gpu-check alone.

Where there is no file, or nothing in it about a target, the page says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import gpu_cases, gpu_table, report

FORMAT = 1
MARK = "gpu"
PICTURES = {"logits": "benchmark-gpu.png", "linear": "benchmark-gpu-linear.png"}
NEVER = "**The CUDA code has never run on a GPU: there is no result file.**"


def newest(folder: Path) -> Path | None:
    """The latest of the result files by the date in its name; None where there is none."""
    files = sorted(folder.glob("gpu-*.json"), key=lambda path: (path.stem[-10:], path.stem))
    return files[-1] if files else None


def read(path: Path) -> dict[str, Any]:
    """A result file.

    Errors: ValueError for another format.
    """
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("visatb_gpu_check") != FORMAT:
        raise ValueError(f"{path}: no result file of tools/gpu-check, format {FORMAT}")
    return found


def write(source: Path | None, docs: Path) -> list[Path]:
    """Replaces what stands between the page's markers; the files that were written.

    Errors: ValueError for a page without markers, or another file; OSError.
    """
    if source is None:
        middle = "\n\n".join([NEVER, gpu_table.targets([], gpu_cases.all_cases())])
        for name in PICTURES.values():
            (docs / "images" / name).unlink(missing_ok=True)
        return [report.replace(docs, MARK, middle)]
    found = read(source)
    benchmark = found.get("benchmark") or {"cases": []}
    benchmark["cases"] = gpu_table.in_order(benchmark["cases"])
    pictures = _draw(found, benchmark, docs / "images")
    parts = gpu_table.markdown(found, benchmark, source.name, gpu_cases.all_cases())
    shown = [f"![Times of every contestant](images/{picture.name})" for picture in pictures]
    return [report.replace(docs, MARK, "\n\n".join([*parts, *shown])), *pictures]


def _draw(found: dict[str, Any], benchmark: dict[str, Any], images: Path) -> list[Path]:
    if not benchmark["cases"]:
        return []
    from . import plot

    name = found["gpu"]["name"]
    return [
        images / picture
        for form, picture in PICTURES.items()
        if plot.draw(images / picture, benchmark, form, name, plot.GPU_FLOORS)
    ]
