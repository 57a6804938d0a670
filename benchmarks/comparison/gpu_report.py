"""The part of docs/benchmarks.md that is about GPUs, from a result file of tools/gpu-check alone.

Where there is no file, or nothing in it about a target, the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import gpu_cases, gpu_table, report

FORMAT = 1
MARK = "gpu"
PICTURES = {"logits": "benchmark-gpu.png", "linear": "benchmark-gpu-linear.png"}
NEVER = "**The CUDA code has never run on a GPU"
NO_FILE = f"{NEVER}: there is no result file.**"
NOTHING_RAN = f"{NEVER}: no result file has a test that passed or a case that was timed on one.**"
# Parts of tools/gpu-check whose every pass is that of kernels on a GPU.
OF_GPU = {"test": ("C tests of the GPU",), "sanitize": ("known answers",)}
NEEDS = """\
`tools/gpu-check` installs nothing; what it finds no program for is recorded as not run. It needs

- CMake 3.25 or newer, and nvcc 12.4 or newer: `CUDACXX`, on PATH, or
  `/usr/local/cuda/bin/nvcc`;
- a Python with PyTorch for CUDA, NumPy and pytest: the one that runs it, as
  `/path/to/python tools/gpu-check`;
- compute-sanitizer, on PATH or beside nvcc;
- cmocka, if the C tests are wanted;
- matplotlib for the pictures of `benchmarks/gpu.py report`, there or where the result
  file is copied to."""


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


def has_run(found: dict[str, Any]) -> bool:
    """Whether a test has passed on a GPU, or the loss was timed there."""
    stages = found.get("stages") or {}
    for stage, names in OF_GPU.items():
        parts = (stages.get(stage) or {}).get("parts", {})
        if any(_has_passed(parts.get(name) or {}) for name in names):
            return True
    tests = (stages.get("test") or {}).get("parts", {})
    return any(_ran_in_python(name, part) for name, part in tests.items()) or any(
        case.get("device") == "cuda" and one["group"] == "visatb" and "times_s" in one
        for case in (found.get("benchmark") or {}).get("cases", [])
        for one in case["contestants"]
    )


def _has_passed(part: dict[str, Any]) -> bool:
    return part.get("status") == "passed" or bool(part.get("passed"))


def _ran_in_python(name: str, part: dict[str, Any]) -> bool:
    """These tests are for the CPU too; those of the GPU say of it why they were skipped."""
    skipped = any("GPU" in reason for reason in part.get("skip_reasons", {}))
    return name.startswith("test_torch_cuda") and bool(part.get("passed")) and not skipped


def write(source: Path | None, docs: Path, others: Iterable[Path] = ()) -> list[Path]:
    """Replaces what stands between the page's markers; the files that were written.

    `others` are result files that may show that the code has run on some GPU.

    Errors: ValueError for a page without markers, or another file; OSError.
    """
    if source is None:
        middle = "\n\n".join([NEEDS, NO_FILE, gpu_table.targets([], gpu_cases.all_cases())])
        for name in PICTURES.values():
            (docs / "images" / name).unlink(missing_ok=True)
        return [report.replace(docs, MARK, middle)]
    found = read(source)
    benchmark = found.get("benchmark") or {"cases": []}
    benchmark["cases"] = gpu_table.in_order(benchmark["cases"])
    pictures = _draw(found, benchmark, docs / "images")
    parts = [NEEDS]
    if not has_run(found) and not any(has_run(read(path)) for path in others):
        parts.append(NOTHING_RAN)
    parts += gpu_table.markdown(found, benchmark, source.name, gpu_cases.all_cases())
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
